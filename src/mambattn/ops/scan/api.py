"""The public selective scan: checks its inputs once, picks a backend and hands over."""

from typing import Literal, overload

from torch import Tensor

from mambattn._errors import ShapeError
from mambattn.ops._checks import check_floating, check_seq_idx, check_shape
from mambattn.ops._dispatch import run

__all__ = ["selective_scan", "selective_scan_step"]


def _grouped(tensor: Tensor, ungrouped_ndim: int) -> Tensor:
    """Give B or C its axis of groups, where it comes without."""
    return tensor.unsqueeze(-2) if tensor.ndim == ungrouped_ndim else tensor


def _check_weights(A: Tensor, D: Tensor | None, dt_bias: Tensor | None, B: Tensor, d_inner: int) -> None:
    """Check the arguments without a batch axis against the width and the groups (..., n_groups, d_state)."""
    n_groups, d_state = B.shape[-2:]
    check_shape("A", A, "the input", d_inner=d_inner, d_state=d_state)
    if D is not None:
        check_shape("D", D, "the input", d_inner=d_inner)
    if dt_bias is not None:
        check_shape("dt_bias", dt_bias, "the input", d_inner=d_inner)
    if d_inner % n_groups:
        raise ShapeError(
            f"`d_inner` must be divisible by the groups of `B` and `C`, however d_inner={d_inner}, n_groups={n_groups}."
        )


@overload
def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: Literal[False] = False,
    reverse: bool = False,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: Literal[True],
    reverse: bool = False,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective state-space recurrence of Mamba-1 over a sequence.

    For channel d and state n, with Δ_t = dt_t + dt_bias, or its softplus if `dt_softplus`::

        h_t[d, n] = exp(Δ_t[d] A[d, n]) h_{t-1}[d, n] + Δ_t[d] B_t[n] u_t[d]
        y_t[d]    = (Σ_n C_t[n] h_t[d, n] + D[d] u_t[d]) · silu(z_t[d])

    (arXiv 2312.00752, section 3 and algorithm 2; the terms of D and z only where given.) Every floating tensor
    gets its gradient, the initial state included, and gradients flow in through the final state. Half precision is
    computed in float32; otherwise the widest dtype given is used, and the output has that of `u`.

    Parameters
    ----------
    u : Tensor
        Input (batch, seq_len, d_inner).
    dt : Tensor
        Step sizes, of the shape of `u`.
    A : Tensor
        Decay rates (d_inner, d_state), negative for a state that forgets.
    B : Tensor
        Input map (batch, seq_len, d_state), or with groups (batch, seq_len, n_groups, d_state): channel d belongs to
        group d // (d_inner / n_groups).
    C : Tensor
        Output map, of either shape of `B`.
    D : Tensor, optional
        Weight of the skip from input to output (d_inner,).
    z : Tensor, optional
        Gate, of the shape of `u`.
    dt_bias : Tensor, optional
        Added to `dt` (d_inner,).
    dt_softplus : bool, default False
        Whether the step size goes through softplus, which keeps it positive.
    initial_state : Tensor, optional
        State before the first token scanned (batch, d_inner, d_state); zero if not given.
    return_final_state : bool, default False
        Whether to return the state after the last token scanned too.
    reverse : bool, default False
        Whether the scan runs from the last token to the first; the initial state then enters at the last token.
    seq_idx : Tensor, optional
        Integers (batch, seq_len) that number packed sequences: the state becomes zero where they change. The initial
        state belongs to the first sequence scanned.
    backend : str, default "auto"
        One of "auto", "reference", "torch", "native" and "triton".

    Returns
    -------
    Tensor or tuple of Tensor
        The output y, of the shape of `u`; with `return_final_state` also the final state (batch, d_inner, d_state).

    Raises
    ------
    ShapeError
        If shape, type or device of an argument does not fit.
    ConfigError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend named is missing here or cannot serve the inputs.

    Examples
    --------
    With A = 0 and Δ = B = C = 1 the scan is a running sum:

    >>> import torch
    >>> from mambattn.ops import selective_scan
    >>> u = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1)
    >>> ones = torch.ones(1, 3, 1)
    >>> selective_scan(u, ones, torch.zeros(1, 1), ones, ones).flatten()
    tensor([1., 3., 6.])
    """
    check_floating("u", u=u, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=initial_state)
    check_shape("u", u, "the call", batch=None, seq_len=None, d_inner=None)
    batch, seq_len, d_inner = u.shape
    B, C = _grouped(B, 3), _grouped(C, 3)
    check_shape("B", B, "`u`", batch=batch, seq_len=seq_len, n_groups=None, d_state=None)
    check_shape("C", C, "`B`", batch=batch, seq_len=seq_len, n_groups=B.shape[2], d_state=B.shape[3])
    _check_weights(A, D, dt_bias, B, d_inner)
    check_shape("dt", dt, "`u`", batch=batch, seq_len=seq_len, d_inner=d_inner)
    if z is not None:
        check_shape("z", z, "`u`", batch=batch, seq_len=seq_len, d_inner=d_inner)
    if initial_state is not None:
        check_shape("initial_state", initial_state, "`u` and `A`", batch=batch, d_inner=d_inner, d_state=A.shape[1])
    check_seq_idx(seq_idx, batch, seq_len, u.device)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    y, final_state = run("selective_scan", backend, tensors, seq_idx, dt_softplus, reverse, return_final_state)
    y = y.to(u.dtype)
    return (y, final_state) if return_final_state else y


def selective_scan_step(
    u_t: Tensor,
    dt_t: Tensor,
    A: Tensor,
    B_t: Tensor,
    C_t: Tensor,
    D: Tensor | None = None,
    *,
    state: Tensor,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence of `selective_scan` by one token.

    Parameters
    ----------
    u_t : Tensor
        Input (batch, d_inner).
    dt_t : Tensor
        Step sizes (batch, d_inner).
    A : Tensor
        Decay rates (d_inner, d_state).
    B_t : Tensor
        Input map (batch, d_state) or (batch, n_groups, d_state).
    C_t : Tensor
        Output map, of either shape of `B_t`.
    D : Tensor, optional
        Weight of the skip (d_inner,).
    state : Tensor
        State before the token (batch, d_inner, d_state); it is not changed.
    z : Tensor, optional
        Gate (batch, d_inner).
    dt_bias : Tensor, optional
        Added to `dt_t` (d_inner,).
    dt_softplus : bool, default False
        Whether the step size goes through softplus.
    backend : str, default "auto"
        One of "auto", "reference", "torch", "native" and "triton"; the last two give no gradients.

    Returns
    -------
    tuple of Tensor
        The output (batch, d_inner) and the new state (batch, d_inner, d_state), which is float32 at least.

    Raises
    ------
    ShapeError
        If shape, type or device of an argument does not fit.
    ConfigError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend named is missing here or cannot serve the inputs.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import selective_scan_step
    >>> one = torch.ones(1, 1)
    >>> y, state = selective_scan_step(one, one, torch.zeros(1, 1), one, one, state=torch.full((1, 1, 1), 4.0))
    >>> y
    tensor([[5.]])
    """
    check_floating("u_t", u_t=u_t, dt_t=dt_t, A=A, B_t=B_t, C_t=C_t, D=D, state=state, z=z, dt_bias=dt_bias)
    check_shape("u_t", u_t, "the call", batch=None, d_inner=None)
    batch, d_inner = u_t.shape
    B_t, C_t = _grouped(B_t, 2), _grouped(C_t, 2)
    check_shape("B_t", B_t, "`u_t`", batch=batch, n_groups=None, d_state=None)
    check_shape("C_t", C_t, "`B_t`", batch=batch, n_groups=B_t.shape[1], d_state=B_t.shape[2])
    _check_weights(A, D, dt_bias, B_t, d_inner)
    check_shape("dt_t", dt_t, "`u_t`", batch=batch, d_inner=d_inner)
    if z is not None:
        check_shape("z", z, "`u_t`", batch=batch, d_inner=d_inner)
    check_shape("state", state, "`u_t` and `B_t`", batch=batch, d_inner=d_inner, d_state=B_t.shape[2])
    tensors = (u_t, dt_t, A, B_t, C_t, D, z, dt_bias, state)
    y, new_state = run("selective_scan_step", backend, tensors, dt_softplus)
    return y.to(u_t.dtype), new_state

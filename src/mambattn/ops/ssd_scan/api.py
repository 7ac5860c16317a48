"""`ssd` and its one-token form: the arguments, their checks, and the choice of a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from mambattn._errors import ShapeError
from mambattn.ops._checks import check_floating, check_integer, check_seq_idx, check_shape
from mambattn.ops._dispatch import run

__all__ = ["ssd", "ssd_step"]


@overload
def ssd(
    x: Tensor,
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
    chunk_size: int = 64,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor: ...


@overload
def ssd(
    x: Tensor,
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
    chunk_size: int = 64,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def ssd(
    x: Tensor,
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
    chunk_size: int = 64,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the state-space recurrence of Mamba-2, in which a head decays by one scalar a token.

    h_t = exp(dt_t A) h_{t−1} + dt_t x_t B_tᵀ, y_t = h_t C_t + D x_t, and y_t · silu(z_t) where z is given
    (arXiv 2405.21060 §6). With ``dt_softplus``, dt_t = softplus(dt + dt_bias). The heads of a group share B and C.

    Parameters
    ----------
    x : Tensor
        Inputs (batch, seq_len, n_heads, d_head).
    dt : Tensor
        Step sizes (batch, seq_len, n_heads).
    A : Tensor
        Decay rate of each head (n_heads,), at most 0 in a stable model.
    B : Tensor
        How tokens are written (batch, seq_len, n_groups, d_state); n_groups divides n_heads, and head h reads group
        h · n_groups // n_heads.
    C : Tensor
        How tokens are read, of the shape of ``B``.
    D : Tensor, optional
        Skip (n_heads,) or (n_heads, d_head).
    z : Tensor, optional
        Gate, of the shape of ``x``.
    dt_bias : Tensor, optional
        Added to ``dt`` (n_heads,).
    dt_softplus : bool, default False
        Whether softplus is applied to ``dt`` (with its bias).
    initial_state : Tensor, optional
        State before the first token (batch, n_heads, d_head, d_state); None for zeros.
    return_final_state : bool, default False
        Whether to return the state after the last token too.
    chunk_size : int, default 64
        Tokens that the torch backend handles by one matrix product; a matter of speed only.
    seq_idx : Tensor, optional
        Sequence number of each token (batch, seq_len), whole numbers; where it changes, the state starts from zero.
    backend : str, default "auto"
        One of "auto", "reference" (a loop over tokens), "torch" (matrix products over chunks), "native" and "triton".

    Returns
    -------
    y : Tensor
        Outputs (batch, seq_len, n_heads, d_head), in the type of ``x``; sums run in float32 at least.
    final_state : Tensor
        Only with ``return_final_state``: (batch, n_heads, d_head, d_state), in float32 at least.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others.
    ConfigError
        If ``chunk_size`` is no integer of at least 1.
    BackendUnavailableError
        If the backend asked for by name cannot run.

    Examples
    --------
    With A = 0 and B = C = 1 it is a cumulative sum:

    >>> import torch
    >>> from mambattn.ops import ssd
    >>> x, ones = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1), torch.ones(1, 4, 1, 1)
    >>> ssd(x, ones[..., 0], torch.zeros(1), ones, ones).flatten()
    tensor([ 1.,  3.,  6., 10.])
    """
    check_floating("x", x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=initial_state)
    check_shape("x", x, "the call", batch=None, seq_len=None, n_heads=None, d_head=None)
    batch, seq_len, n_heads, d_head = x.shape
    check_shape("dt", dt, "`x`", batch=batch, seq_len=seq_len, n_heads=n_heads)
    check_shape("B", B, "`x`", batch=batch, seq_len=seq_len, n_groups=None, d_state=None)
    check_shape("C", C, "`B`", batch=batch, seq_len=seq_len, n_groups=B.shape[2], d_state=B.shape[3])
    _check_heads(A, D, dt_bias, n_heads, d_head, B.shape[2])
    if z is not None:
        check_shape("z", z, "`x`", batch=batch, seq_len=seq_len, n_heads=n_heads, d_head=d_head)
    if initial_state is not None:
        sizes = {"batch": batch, "n_heads": n_heads, "d_head": d_head, "d_state": B.shape[3]}
        check_shape("initial_state", initial_state, "`x` and `B`", **sizes)
    check_seq_idx(seq_idx, batch, seq_len, x.device)
    check_integer("chunk_size", chunk_size, at_least=1, mend="Use 64.")
    tensors = (x, dt, A, B, C, D, z, dt_bias, initial_state)
    y, final_state = run("ssd", backend, tensors, seq_idx, dt_softplus, chunk_size, return_final_state)
    y = y.to(x.dtype)
    return (y, final_state) if return_final_state else y


def ssd_step(
    x_t: Tensor,
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
    """Take one more token of `ssd`.

    Parameters
    ----------
    x_t : Tensor
        The token's input (batch, n_heads, d_head).
    dt_t : Tensor
        Its step sizes (batch, n_heads).
    A : Tensor
        Decay rate of each head (n_heads,).
    B_t : Tensor
        How it is written (batch, n_groups, d_state).
    C_t : Tensor
        How it is read, of the shape of ``B_t``.
    D : Tensor, optional
        Skip (n_heads,) or (n_heads, d_head).
    state : Tensor
        State before the token (batch, n_heads, d_head, d_state), zeros at the start; not changed.
    z : Tensor, optional
        Gate, of the shape of ``x_t``.
    dt_bias : Tensor, optional
        Added to ``dt_t`` (n_heads,).
    dt_softplus : bool, default False
        Whether softplus is applied to ``dt_t`` (with its bias).
    backend : str, default "auto"
        One of "auto", "reference", "torch", "native" and "triton"; the last two give no gradients.

    Returns
    -------
    y_t : Tensor
        The token's output (batch, n_heads, d_head), in the type of ``x_t``.
    state : Tensor
        State after the token, in float32 at least.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others.
    ConfigError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend asked for by name cannot run.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import ssd_step
    >>> one = torch.ones(1, 1, 1)
    >>> y_t, state = ssd_step(3 * one, one[0], torch.zeros(1), one, one, state=torch.full((1, 1, 1, 1), 4.0))
    >>> y_t
    tensor([[[7.]]])
    """
    check_floating("x_t", x_t=x_t, dt_t=dt_t, A=A, B_t=B_t, C_t=C_t, D=D, state=state, z=z, dt_bias=dt_bias)
    check_shape("x_t", x_t, "the call", batch=None, n_heads=None, d_head=None)
    batch, n_heads, d_head = x_t.shape
    check_shape("dt_t", dt_t, "`x_t`", batch=batch, n_heads=n_heads)
    check_shape("B_t", B_t, "`x_t`", batch=batch, n_groups=None, d_state=None)
    n_groups, d_state = B_t.shape[1:]
    check_shape("C_t", C_t, "`B_t`", batch=batch, n_groups=n_groups, d_state=d_state)
    _check_heads(A, D, dt_bias, n_heads, d_head, n_groups)
    if z is not None:
        check_shape("z", z, "`x_t`", batch=batch, n_heads=n_heads, d_head=d_head)
    check_shape("state", state, "`x_t` and `B_t`", batch=batch, n_heads=n_heads, d_head=d_head, d_state=d_state)
    tensors = (x_t, dt_t, A, B_t, C_t, D, z, dt_bias, state)
    y_t, new_state = run("ssd_step", backend, tensors, dt_softplus)
    return y_t.to(x_t.dtype), new_state


def _check_heads(A: Tensor, D: Tensor | None, dt_bias: Tensor | None, n_heads: int, d_head: int, n_groups: int) -> None:
    check_shape("A", A, "the input", n_heads=n_heads)
    if D is not None and D.ndim == 2:
        check_shape("D", D, "the input", n_heads=n_heads, d_head=d_head)
    elif D is not None:
        check_shape("D", D, "the input", n_heads=n_heads)
    if dt_bias is not None:
        check_shape("dt_bias", dt_bias, "the input", n_heads=n_heads)
    if n_heads % n_groups:
        raise ShapeError(
            f"`n_groups` must divide `n_heads`, however n_heads={n_heads}, n_groups={n_groups}. "
            "Give B and C a third axis that divides the number of heads, for example 1."
        )

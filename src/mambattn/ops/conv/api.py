"""`causal_conv1d` and its one-token form: the arguments, their checks, and the choice of a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from mambattn._errors import ConfigError
from mambattn.ops._checks import check_floating, check_seq_idx, check_shape
from mambattn.ops._dispatch import run

__all__ = ["causal_conv1d", "causal_conv1d_step"]


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    return_final_state: Literal[False] = False,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor: ...


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    return_final_state: Literal[True],
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    seq_idx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve each channel with its own few taps, reading no later token.

    y_t[d] = f(bias[d] + Σ_k weight[d, k] · x_{t − d_conv + 1 + k}[d]), where f is the identity or SiLU: the short
    convolution in front of a selective scan (arXiv 2312.00752 §3.4). Inputs before the first token are those of
    ``initial_state``, or 0.

    Parameters
    ----------
    x : Tensor
        Inputs (batch, seq_len, d_inner).
    weight : Tensor
        Taps (d_inner, d_conv); the last one meets the current token.
    bias : Tensor, optional
        One number per channel (d_inner,).
    activation : str, optional
        Either "silu" or None.
    initial_state : Tensor, optional
        The d_conv − 1 inputs before the first token (batch, d_conv − 1, d_inner); None for zeros.
    return_final_state : bool, default False
        Whether to return the state for the next call too.
    seq_idx : Tensor, optional
        Sequence number of each token (batch, seq_len), whole numbers; where it changes, no tap reaches across.
    backend : str, default "auto"
        One of "auto", "reference" (a loop over tokens), "torch", "native" and "triton".

    Returns
    -------
    y : Tensor
        Outputs (batch, seq_len, d_inner), in the type of ``x``; sums run in float32 at least.
    final_state : Tensor
        Only with ``return_final_state``: the last d_conv − 1 inputs (batch, d_conv − 1, d_inner) of the last sequence,
        after those of ``initial_state`` or zeros where it is shorter.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others.
    ConfigError
        If ``activation`` is unknown.
    BackendUnavailableError
        If the backend asked for by name cannot run.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import causal_conv1d
    >>> x = torch.tensor([[[1.0], [2.0], [3.0]]])
    >>> y, state = causal_conv1d(x, torch.tensor([[10.0, 1.0]]), return_final_state=True)
    >>> y.flatten(), state.flatten()
    (tensor([ 1., 12., 23.]), tensor([3.]))
    """
    check_floating("x", x=x, weight=weight, bias=bias, initial_state=initial_state)
    check_shape("x", x, "the call", batch=None, seq_len=None, d_inner=None)
    batch, seq_len, d_inner = x.shape
    _check_taps(weight, bias, d_inner)
    _check_activation(activation)
    if initial_state is not None:
        d_past = weight.shape[1] - 1
        check_shape(
            "initial_state", initial_state, "`x` and `weight`", batch=batch, **{"d_conv - 1": d_past}, d_inner=d_inner
        )
    check_seq_idx(seq_idx, batch, seq_len, x.device)
    y, final_state = run("causal_conv1d", backend, (x, weight, bias, initial_state), seq_idx, activation)
    y = y.to(x.dtype)
    # In memory of its own: a state that is a view would keep the whole of x.
    return (y, final_state.to(x.dtype, copy=True)) if return_final_state else y


def causal_conv1d_step(
    x_t: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    state: Tensor,
    activation: str | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Take one more token of `causal_conv1d`.

    Parameters
    ----------
    x_t : Tensor
        The token's input (batch, d_inner).
    weight : Tensor
        Taps (d_inner, d_conv); the last one meets the current token.
    bias : Tensor, optional
        One number per channel (d_inner,).
    state : Tensor
        The d_conv − 1 inputs before (batch, d_conv − 1, d_inner), zeros at the start; not changed.
    activation : str, optional
        Either "silu" or None.
    backend : str, default "auto"
        One of "auto", "reference", "torch", "native" and "triton"; the last two give no gradients.

    Returns
    -------
    y_t : Tensor
        The token's output (batch, d_inner), in the type of ``x_t``.
    state : Tensor
        The state for the next token, in the type of the state given.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others.
    ConfigError
        If ``activation`` is unknown.
    BackendUnavailableError
        If the backend asked for by name cannot run.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import causal_conv1d_step
    >>> y_t, state = causal_conv1d_step(torch.ones(1, 1), torch.tensor([[10.0, 1.0]]), state=torch.full((1, 1, 1), 2.0))
    >>> y_t, state
    (tensor([[21.]]), tensor([[[1.]]]))
    """
    check_floating("x_t", x_t=x_t, weight=weight, bias=bias, state=state)
    check_shape("x_t", x_t, "the call", batch=None, d_inner=None)
    batch, d_inner = x_t.shape
    _check_taps(weight, bias, d_inner)
    _check_activation(activation)
    d_past = weight.shape[1] - 1
    check_shape("state", state, "`x_t` and `weight`", batch=batch, **{"d_conv - 1": d_past}, d_inner=d_inner)
    y_t, new_state = run("causal_conv1d_step", backend, (x_t, weight, bias, state), activation)
    return y_t.to(x_t.dtype), new_state.to(state.dtype)


def _check_taps(weight: Tensor, bias: Tensor | None, d_inner: int) -> None:
    check_shape("weight", weight, "the input", d_inner=d_inner, d_conv=None)
    if bias is not None:
        check_shape("bias", bias, "the input", d_inner=d_inner)


def _check_activation(activation: str | None) -> None:
    if activation not in (None, "silu"):
        raise ConfigError(
            f'`activation` must be None or "silu", however activation={activation!r}. '
            "Leave it out and apply another function to the output."
        )

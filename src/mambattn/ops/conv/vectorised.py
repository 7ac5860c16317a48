"""The short causal convolution as a sum of shifted products: one pass over the inputs a tap, channels last."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.ops._definition import gradients_of
from mambattn.ops.conv.reference import causal_conv1d_reference


def causal_conv1d_torch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    activation: str | None,
) -> tuple[Tensor, Tensor]:
    """Give `mambattn.ops.causal_conv1d` on checked arguments of one type."""
    n_past = weight.shape[1] - 1
    run = None
    if seq_idx is not None:
        run = F.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0)).cumsum(1)
    if initial_state is not None:
        x = torch.cat([initial_state, x], dim=1)  # tokens before the first, whose outputs are dropped below
        run = None if run is None else F.pad(run, (n_past, 0))
    y = _ShiftedSum.apply(x, weight, bias, run, activation == "silu")
    start = max(x.shape[1] - n_past, 0)
    past = x[:, start:]
    if run is not None:
        past = past * (run[:, start:] == run[:, -1:])[..., None]
    final_state = F.pad(past, (0, 0, n_past - past.shape[1], 0))
    return (y if initial_state is None else y[:, n_past:]), final_state


class _ShiftedSum(torch.autograd.Function):
    """y_t = f(bias + Σ_lag taps_lag · x_{t − lag}), where lag counts back from the current token.

    Against a grouped conv1d this needs no transposed copies, and each pass runs along contiguous channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, run: Tensor | None, silu: bool) -> Tensor:
        taps = weight.T.flip(0)  # a row for each lag
        y = x * taps[0] if bias is None else torch.addcmul(bias, x, taps[0])
        for lag in range(1, min(len(taps), x.shape[1])):
            y[:, lag:].addcmul_(_before(x, lag, run), taps[lag])
        ctx.save_for_backward(x, weight, bias, run, y if silu else None)
        return F.silu(y) if silu else y

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (d_out,) = grad_outputs
        x, weight, bias, run, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            definition = partial(_definition, run, None if y is None else "silu")
            return (*gradients_of(definition, (x, weight, bias), grad_outputs), None, None)
        taps = weight.T.flip(0)
        d_y = d_out if y is None else torch.ops.aten.silu_backward(d_out, y)
        d_x = d_y * taps[0]
        product = torch.mul(d_y, x)
        d_taps = torch.zeros_like(taps)
        d_taps[0] = product.sum((0, 1))
        buffer = product.flatten()
        for lag in range(1, min(len(taps), x.shape[1])):
            later = d_y[:, lag:]
            part = buffer[: later.numel()].view_as(later)  # contiguous, which is faster, and torch.compile asks for it
            d_taps[lag] = torch.mul(later, _before(x, lag, run), out=part).sum((0, 1))
            later = later if run is None else later * _joined(run, lag)
            d_x[:, :-lag].addcmul_(later, taps[lag])
        d_bias = None if bias is None else d_y.sum((0, 1))
        return d_x, d_taps.flip(0).T, d_bias, None, None


def _definition(
    run: Tensor | None, activation: str | None, x: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor]:
    return causal_conv1d_reference(x, weight, bias, None, run, activation)[:1]


def _before(x: Tensor, lag: int, run: Tensor | None) -> Tensor:
    """Give the inputs ``lag`` tokens before those from ``lag`` on, or 0 where they are of another sequence."""
    return x[:, :-lag] if run is None else x[:, :-lag] * _joined(run, lag)


def _joined(run: Tensor, lag: int) -> Tensor:
    """Say whether each token from ``lag`` on is of one sequence with the one ``lag`` before: (batch, tokens, 1)."""
    return (run[:, lag:] == run[:, :-lag])[..., None]

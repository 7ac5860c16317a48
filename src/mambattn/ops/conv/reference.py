"""The short causal convolution as its definition: each output is a sum over its taps, token by token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def causal_conv1d_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    activation: str | None,
) -> tuple[Tensor, Tensor]:
    """Give `mambattn.ops.causal_conv1d` on checked arguments of one type; a new sequence empties the state."""
    batch, seq_len, d_inner = x.shape
    state = x.new_zeros(batch, weight.shape[1] - 1, d_inner) if initial_state is None else initial_state
    outputs = []
    for t in range(seq_len):
        if seq_idx is not None and t > 0:
            state = state * (seq_idx[:, t] == seq_idx[:, t - 1])[:, None, None]
        y_t, state = conv_advance(x[:, t], weight, bias, state, activation)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1), state


def conv_advance(
    x_t: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, activation: str | None
) -> tuple[Tensor, Tensor]:
    """Take one token: the state is the queue of the inputs before it."""
    queue = torch.cat([state, x_t[:, None]], dim=1)
    y_t = (queue * weight.T).sum(dim=1)
    if bias is not None:
        y_t = y_t + bias
    return (F.silu(y_t) if activation == "silu" else y_t), queue[:, 1:]

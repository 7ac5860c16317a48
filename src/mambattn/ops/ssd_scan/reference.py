"""State-space duality as its definition: one step of the recurrence after the other, gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.ops.scan.reference import step_size


def ssd_reference(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    dt_softplus: bool,
    chunk_size: int,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Give `mambattn.ops.ssd` on checked arguments of one type, token by token; the last two play no part here."""
    state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(x.shape[1]):
        if seq_idx is not None and t > 0:
            state = state * (seq_idx[:, t] == seq_idx[:, t - 1])[:, None, None, None]
        gate = None if z is None else z[:, t]
        y_t, state = ssd_advance(x[:, t], dt[:, t], A, B[:, t], C[:, t], D, gate, dt_bias, state, dt_softplus)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1), state


def ssd_advance(
    x_t: Tensor,
    dt_t: Tensor,
    A: Tensor,
    B_t: Tensor,
    C_t: Tensor,
    D: Tensor | None,
    z_t: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Take one token: `h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_tᵀ`, `y_t = (h_t C_t + D x_t) · silu(z_t)`."""
    dt_t = step_size(dt_t, dt_bias, dt_softplus)
    n_heads = x_t.shape[1]
    B_t, C_t = (tensor.repeat_interleave(n_heads // tensor.shape[1], dim=1) for tensor in (B_t, C_t))
    state = torch.exp(dt_t * A)[..., None, None] * state + (dt_t[..., None] * x_t)[..., None] * B_t[:, :, None, :]
    y_t = (state * C_t[:, :, None, :]).sum(-1)
    if D is not None:
        y_t = y_t + D.reshape(n_heads, -1) * x_t
    if z_t is not None:
        y_t = y_t * F.silu(z_t)
    return y_t, state

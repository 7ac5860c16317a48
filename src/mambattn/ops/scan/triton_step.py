"""The one-token step of the selective scan on the GPU: one program a row and some channels, all states at once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus
from mambattn.ops._triton.launch import dense, launch, power

__all__ = ["selective_scan_step_triton"]

_ELEMENTS = 1024  # of the state, in one program


@triton.jit
def _advance(
    u_p, dt_p, A_p, B_p, C_p, D_p, z_p, bias_p, state_p, y_p, new_state_p,
    u_b, dt_b, B_b, B_g, C_b, C_g, z_b, state_b, state_d, d_inner, d_group, d_state, n_blocks,
    D: tl.constexpr, N: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // n_blocks).to(tl.int64)
    channels, states = tl.program_id(0) % n_blocks * D + tl.arange(0, D), tl.arange(0, N)
    is_channel = channels < d_inner
    inside = is_channel[:, None] & (states < d_state)[None, :]
    dt = tl.load(dt_p + row * dt_b + channels, mask=is_channel, other=0.0).to(tl.float32)
    if bias_p is not None:
        dt += tl.load(bias_p + channels, mask=is_channel, other=0.0).to(tl.float32)
    if SOFTPLUS:
        dt = softplus(dt)
    u = tl.load(u_p + row * u_b + channels, mask=is_channel, other=0.0).to(tl.float32)
    A = tl.load(A_p + channels[:, None] * d_state + states[None, :], mask=inside, other=0.0).to(tl.float32)
    # A block may touch several groups, so each channel reads its own.
    group = (channels // d_group)[:, None]
    B = tl.load(B_p + row * B_b + group * B_g + states[None, :], mask=inside, other=0.0).to(tl.float32)
    C = tl.load(C_p + row * C_b + group * C_g + states[None, :], mask=inside, other=0.0).to(tl.float32)
    at = row * state_b + channels[:, None] * state_d + states[None, :]
    state = tl.load(state_p + at, mask=inside, other=0.0).to(tl.float32)
    state = tl.exp2(dt[:, None] * (A * LOG2_E)) * state + (dt * u)[:, None] * B
    y = tl.sum(state * C, 1)
    if D_p is not None:
        y += tl.load(D_p + channels, mask=is_channel, other=0.0).to(tl.float32) * u
    if z_p is not None:
        z = tl.load(z_p + row * z_b + channels, mask=is_channel, other=0.0).to(tl.float32)
        y *= z * sigmoid(z)
    rows = row * d_inner + channels
    tl.store(y_p + rows, y, mask=is_channel)
    tl.store(new_state_p + rows[:, None] * d_state + states[None, :], state, mask=inside)


@torch.library.custom_op("mambattn::selective_scan_step_triton", mutates_args=())
def _step(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    state: Tensor,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:
    batch, d_inner = u.shape
    n_groups, d_state = B.shape[1:]
    u, dt, B, C, state = (dense(x) for x in (u, dt, B, C, state))
    A = A.contiguous()
    D, z, dt_bias = (None if x is None else x.contiguous() for x in (D, z, dt_bias))
    y = u.new_empty(u.shape)
    new_state = torch.empty_like(state, dtype=torch.float32, memory_format=torch.contiguous_format)
    N = power(d_state)
    width = max(1, min(power(d_inner), _ELEMENTS // N))
    n_blocks = -(-d_inner // width)
    launch(
        _advance,
        batch * n_blocks,
        *(u, dt, A, B, C, D, z, dt_bias, state, y, new_state, u.stride(0), dt.stride(0), *B.stride()[:2]),
        *(*C.stride()[:2], 0 if z is None else z.stride(0), *state.stride()[:2]),
        *(d_inner, d_inner // n_groups, d_state, n_blocks),
        D=width,
        N=N,
        SOFTPLUS=dt_softplus,
        num_warps=4,
    )
    return y, new_state


@_step.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, state, dt_softplus):
    return u.new_empty(u.shape), state.new_empty(state.shape, dtype=torch.float32)


def selective_scan_step_triton(
    u_t: Tensor,
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
    """Take one token on the GPU; arguments and result are those of `selective_scan_step_reference`."""
    return _step(u_t, dt_t, A, B_t, C_t, D, z_t, dt_bias, state, dt_softplus)

"""The one-token step of the selective scan on the GPU: one program a row and some channels, all states at once."""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus


@triton.jit
def advance(
    u_p, dt_p, A_p, B_p, C_p, D_p, z_p, bias_p, state_p, y_p, new_state_p,
    u_b, dt_b, B_b, B_g, C_b, C_g, z_b, state_b, state_d, d_inner, d_group, d_state, n_blocks,
    D: tl.constexpr, N: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Advance the states of some channels of one row."""
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

"""The one-token step of `ssd` on the GPU: one program a row and some channels of a head, all states at once."""

import triton
import triton.language as tl

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus


@triton.jit
def advance(
    x_p, dt_p, A_p, B_p, C_p, D_p, z_p, bias_p, state_p, y_p, new_state_p,
    x_b, x_h, dt_b, dt_h, B_b, B_g, C_b, C_g, D_h, D_d, z_b, z_h, state_b, state_h, state_d,
    n_heads, heads_a_group, d_head, d_state, n_parts,
    P: tl.constexpr, N: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """Advance the states of some channels of one head."""
    pid = tl.program_id(0)
    head = pid // n_parts % n_heads
    row = (pid // (n_parts * n_heads)).to(tl.int64)
    group = head // heads_a_group
    channels, states = pid % n_parts * P + tl.arange(0, P), tl.arange(0, N)
    is_channel, is_state = channels < d_head, states < d_state
    inside = is_channel[:, None] & is_state[None, :]
    dt = tl.load(dt_p + row * dt_b + head * dt_h).to(tl.float32)
    if bias_p is not None:
        dt += tl.load(bias_p + head).to(tl.float32)
    if SOFTPLUS:
        dt = softplus(dt)
    decay = tl.exp2(dt * (tl.load(A_p + head).to(tl.float32) * LOG2_E))
    x = tl.load(x_p + row * x_b + head * x_h + channels, mask=is_channel, other=0.0).to(tl.float32)
    B = tl.load(B_p + row * B_b + group * B_g + states, mask=is_state, other=0.0).to(tl.float32)
    C = tl.load(C_p + row * C_b + group * C_g + states, mask=is_state, other=0.0).to(tl.float32)
    at = row * state_b + head * state_h + channels[:, None] * state_d + states[None, :]
    state = tl.load(state_p + at, mask=inside, other=0.0).to(tl.float32)
    state = decay * state + (dt * x)[:, None] * B[None, :]
    y = tl.sum(state * C[None, :], 1)
    if D_p is not None:
        y += tl.load(D_p + head * D_h + channels * D_d, mask=is_channel, other=0.0).to(tl.float32) * x
    if z_p is not None:
        z = tl.load(z_p + row * z_b + head * z_h + channels, mask=is_channel, other=0.0).to(tl.float32)
        y *= z * sigmoid(z)
    rows = (row * n_heads + head) * d_head + channels
    tl.store(y_p + rows, y, mask=is_channel)
    tl.store(new_state_p + rows[:, None] * d_state + states[None, :], state, mask=inside)

"""The one-token step of `ssd` on the GPU: one program a row and some channels of a head, all states at once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from mambattn.ops._triton.functions import LOG2_E, sigmoid, softplus
from mambattn.ops._triton.launch import dense, launch, power

__all__ = ["ssd_step_triton"]

_ELEMENTS = 2048  # of the state, in one program


@triton.jit
def _advance(
    x_p, dt_p, A_p, B_p, C_p, D_p, z_p, bias_p, state_p, y_p, new_state_p,
    x_b, x_h, dt_b, dt_h, B_b, B_g, C_b, C_g, D_h, D_d, z_b, z_h, state_b, state_h, state_d,
    n_heads, heads_a_group, d_head, d_state, n_parts,
    P: tl.constexpr, N: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
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


@torch.library.custom_op("mambattn::ssd_step_triton", mutates_args=())
def _step(
    x: Tensor,
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
    batch, n_heads, d_head = x.shape
    n_groups, d_state = B.shape[1:]
    x, B, C, state = dense(x), dense(B), dense(C), dense(state)
    z = None if z is None else dense(z)
    D = None if D is None else D.reshape(n_heads, -1).expand(-1, d_head)
    y = x.new_empty(x.shape)
    new_state = torch.empty_like(state, dtype=torch.float32, memory_format=torch.contiguous_format)
    N = power(d_state)
    P = max(1, min(power(d_head), _ELEMENTS // N))
    n_parts = -(-d_head // P)
    launch(
        _advance,
        batch * n_heads * n_parts,
        *(
            x,
            dt,
            A.contiguous(),
            B,
            C,
            D,
            z,
            None if dt_bias is None else dt_bias.contiguous(),
            state,
            y,
            new_state,
        ),
        *(*x.stride()[:2], *dt.stride(), *B.stride()[:2], *C.stride()[:2], *((0, 0) if D is None else D.stride())),
        *(*((0, 0) if z is None else z.stride()[:2]), *state.stride()[:3]),
        *(n_heads, n_heads // n_groups, d_head, d_state, n_parts),
        P=P,
        N=N,
        SOFTPLUS=dt_softplus,
        num_warps=4,
    )
    return y, new_state


@_step.register_fake
def _(x, dt, A, B, C, D, z, dt_bias, state, dt_softplus):
    return x.new_empty(x.shape), state.new_empty(state.shape, dtype=torch.float32)


def ssd_step_triton(
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
    """Take one token on the GPU; arguments and result are those of `ssd_advance`."""
    return _step(x_t, dt_t, A, B_t, C_t, D, z_t, dt_bias, state, dt_softplus)

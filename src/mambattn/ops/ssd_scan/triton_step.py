"""Backend "triton" of the one-token step of `ssd`, forward only, as a custom op of torch."""

import torch
from torch import Tensor

from mambattn.ops._custom import dense
from mambattn.ops._triton.launch import launch, power

_ELEMENTS = 2048  # of the state, in one program


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
    from mambattn.ops.ssd_scan.triton_step_kernel import advance  # triton is needed from here on, not before

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
        advance,
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
    """Take one token on the GPU; arguments and result are those of `ssdadvance`."""
    return _step(x_t, dt_t, A, B_t, C_t, D, z_t, dt_bias, state, dt_softplus)

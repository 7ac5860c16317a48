"""Backend "triton" of the one-token step of the selective scan, forward only, as a custom op of torch."""

import torch
from torch import Tensor

from mambattn.ops._custom import dense
from mambattn.ops._triton.launch import launch, power

_ELEMENTS = 1024  # of the state, in one program


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
    from mambattn.ops.scan.triton_step_kernel import advance  # triton is needed from here on, not before

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
        advance,
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

"""Backend "triton" of `ssd`: the launches, as two custom ops of torch with fake tensors and autograd."""

from functools import partial

import torch
from torch import Tensor

from mambattn.ops._custom import join_autograd
from mambattn.ops._triton.launch import launch, processors
from mambattn.ops.ssd_scan.reference import ssd_reference


def _state(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.float().contiguous()


@torch.library.custom_op("mambattn::ssd_triton_forward", mutates_args=())
def _forward(
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
    want_final_state: bool,
) -> tuple[Tensor, Tensor]:
    from mambattn.ops.ssd_scan.triton_call import Call  # triton is needed from here on, not before

    call = Call(x, dt, A, B, C, D, dt_bias, seq_idx, dt_softplus)
    final = call.states(call.batch if want_final_state else 0)
    entering = call.entering(call.x, call.B, _state(initial_state))
    return call.forward(z, entering, final if want_final_state else None), final


@_forward.register_fake
def _(x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, want_final_state):
    batch, _, n_heads, d_head = x.shape
    final = x.new_empty(batch if want_final_state else 0, n_heads, d_head, B.shape[3], dtype=torch.float32)
    return x.new_empty(x.shape), final


@torch.library.custom_op("mambattn::ssd_triton_backward", mutates_args=())
def _backward(
    dout: Tensor,
    dfinal: Tensor | None,
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from mambattn.ops.ssd_scan.triton_call import Call, tiled
    from mambattn.ops.ssd_scan.triton_gradients import state_gradients, token_gradients

    call = Call(x, dt, A, B, C, D, dt_bias, seq_idx, dt_softplus)
    batch, seq_len, n_heads, d_head = x.shape
    entering = call.entering(call.x, call.B, _state(initial_state))
    dy, dz = tiled(dout), x.new_empty(0, seq_len, n_heads, d_head)
    if z is not None:
        dy, dz = _through_gate(dout, call.forward(None, entering), z)
    n_chunks = -(-seq_len // call.cut.Q)
    states, d_states = (
        call.states(batch, n_chunks, dtype=torch.bfloat16 if call.cut.precision == "ieee" else torch.float32)
        for _ in range(2)
    )
    call.sweep(call.x, call.B, entering, chunks=states)
    d_entering = call.entering(dy, call.C, _state(dfinal), reverse=True)
    d_initial = call.states(batch, call.n_segments)
    call.sweep(dy, call.C, d_entering, leaving=d_initial, chunks=d_states, reverse=True)

    n_parts = call.n_parts
    heads = n_heads // call.n_groups * n_parts
    # Blocks of heads are large, since each adds one more dB and dC, but there must be work for all processors.
    programs = max(batch * n_chunks * call.n_groups, 1)
    n_blocks = min(heads, max(1, -(-4 * processors(x.device) // programs)))
    heads_a_block = -(-heads // n_blocks)
    n_blocks = -(-heads // heads_a_block)
    dx = x.new_empty(x.shape)
    # What comes through the chunk's own tokens and through states lies side by side, and is added at the end.
    n_state_blocks = -(-call.d_state // call.cut.state_block)
    d_steps = call.floats(1 + n_state_blocks, n_parts, *call.dt.shape)
    dA = call.floats(1 + n_state_blocks, batch * n_chunks, n_heads, n_parts)
    dB, dC = (call.floats(2, n_blocks, *B.shape) for _ in range(2))
    dD = None if D is None else call.floats(batch * n_chunks, n_heads, d_head)
    programs = batch * n_chunks * call.n_groups * n_blocks
    sizes = (
        *(batch, seq_len, n_heads, n_heads // call.n_groups, d_head, call.d_state),
        *(n_parts, n_blocks, heads_a_block),
    )
    launch(
        token_gradients,
        programs,
        *(call.x, dy, call.dt, call.high, call.low, call.A, call.B, call.C, call.D, call.runs, d_states),
        *(dx, d_steps[0], dA[0], dB[0], dC[0], dD),
        *(*call.x.stride()[:3], *dy.stride()[:3], *call.B.stride()[:3], *call.C.stride()[:3]),
        *((0, 0) if call.D is None else call.D.stride()),
        *sizes,
        **call.cut.options,
        **call.cut.token_gradients,
    )
    launch(
        state_gradients,
        programs * n_state_blocks,
        *(call.x, dy, call.dt, call.high, call.low, call.A, call.C, call.runs, states, d_states),
        *(d_steps[1:], dA[1:], dB[1], dC[1]),
        *(*call.x.stride()[:3], *dy.stride()[:3], *call.C.stride()[:3], *sizes, n_state_blocks),
        **(call.cut.options | {"N": call.cut.state_block}),
        **call.cut.state_gradients,
    )
    ddt, dbias = call.step_gradients(d_steps.flatten(0, 1))
    return (
        *(dx, ddt, dA.sum((0, 1, 3)).to(A.dtype), dB.sum((0, 1)).to(B.dtype), dC.sum((0, 1)).to(C.dtype)),
        x.new_empty(0)
        if D is None or dD is None
        else dD.sum(0).sum_to_size(n_heads, D.numel() // n_heads).view_as(D).to(D.dtype),
        dz,
        x.new_empty(0) if dt_bias is None else dbias.sum(0).to(dt_bias.dtype),
        x.new_empty(0) if initial_state is None else d_initial[:, 0].to(initial_state.dtype).contiguous(),
    )


def _through_gate(dout: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Give the gradients of y and z from that of y · silu(z)."""
    dout, gate = dout.float(), z.float()
    dz = torch.ops.aten.silu_backward(dout * y, gate)
    return (dout * torch.nn.functional.silu(gate)).to(y.dtype).contiguous(), dz.to(z.dtype).contiguous()


@_backward.register_fake
def _(dout, dfinal, x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus):
    given = (
        x.new_empty(0) if tensor is None else torch.empty_like(tensor, memory_format=torch.contiguous_format)
        for tensor in (dt_bias, initial_state)
    )
    return (
        *(torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, dt, A, B, C)),
        x.new_empty(0) if D is None else torch.empty_like(D, memory_format=torch.contiguous_format),
        x.new_empty(0, *x.shape[1:]) if z is None else torch.empty_like(z, memory_format=torch.contiguous_format),
        *given,
    )


# The chunks play no part in the definition.
_definition = partial(ssd_reference, chunk_size=0, return_final_state=True)
join_autograd(_forward, _backward, _definition, tensors=10, settings=1, outputs=2)


def ssd_triton(
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
    """Run the GPU kernels; arguments and result are those of `ssd_reference`, and they choose their own chunks."""
    return _forward(x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, return_final_state)

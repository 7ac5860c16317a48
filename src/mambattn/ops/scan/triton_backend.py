"""Backend "triton": the GPU scan as two custom ops of torch, with fake tensors and autograd."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambattn.ops._custom import join_autograd
from mambattn.ops._dispatch import Request
from mambattn.ops._triton.launch import launch, power
from mambattn.ops.scan.reference import selective_scan_reference
from mambattn.ops.scan.triton_call import Call, Cut, Shape

FORWARD = Shape(tile=32, folds=1, lanes=2, width=16)
BACKWARD = Shape(tile=16, folds=1, lanes=2, width=16)
FORWARD_CHUNKS, BACKWARD_CHUNKS = 4, 2
"""Chunks below which time is not cut: the first pass costs all but the output, yet less than half of the backward."""


def _every(seq_len: int) -> int:
    """Steps between two states kept for the backward, which is its tile."""
    return max(2, min(power(seq_len), BACKWARD.tile))


def _pass_states(call: Call, cut: Cut, own: Tensor, span: Tensor, entry: Tensor, slot_step: int, *, back: bool) -> None:
    """Join the chunks: make of what each contributes the state that enters each."""
    from mambattn.ops.scan.triton_kernels import pass_states

    keep = call.keep(cut)
    block = 128
    launch(
        *(pass_states, call.batch * -(-call.d_state * call.d_inner // block)),
        *(own, span, span if keep is None else keep, call.A, entry),
        *(call.d_inner, call.d_state, cut.n_chunks, entry.shape[1], slot_step),
        HAS_KEEP=keep is not None,
        BACK=back,
        BLOCK=block,
        num_warps=4,
    )


@torch.library.custom_op("mambattn::selective_scan_triton_forward", mutates_args=())
def _forward(
    u: Tensor,
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
    reverse: bool,
    want_final_state: bool,
    want_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    from mambattn.ops.scan.triton_kernels import scan_forward  # triton is needed from here on, not before

    call = Call(u, dt, A, B, C, D, z, dt_bias, seq_idx, dt_softplus, reverse)
    cut = call.cut(FORWARD, FORWARD_CHUNKS)
    tile = cut.shape.tile
    every = _every(call.seq_len) if want_states else tile
    slot_step = cut.chunk_tiles * (tile // every) if want_states else 1
    states = call.states(-(-call.seq_len // every) if want_states else cut.n_chunks, 0, initial_state)
    y = u.new_empty(u.shape)
    y_p, *y_strides = call.rows(y)
    final = call.floats(call.d_state, call.d_inner)

    def run(entry: Tensor, span: Tensor, n_run: int, **options: Any) -> None:
        launch(
            *(scan_forward, call.programs(cut, n_run), *call.pointers, y_p, entry, final, span),
            *(*call.strides, *y_strides, *call.sizes(cut, entry.shape[1], 0, n_run)),
            **{**cut.options(), **call.flags, "EVERY": every, **options},
        )

    if cut.n_chunks > 1:
        own = call.states(cut.n_chunks, 0, None, zeros=True)
        span = call.floats(cut.n_chunks, call.d_inner)
        run(own, span, cut.n_chunks - 1, SAVE=False, ONLY_STATES=True)
        _pass_states(call, cut, own, span, states, slot_step, back=False)
    run(states, final, cut.n_chunks, SAVE=want_states, ONLY_STATES=False)
    if not want_final_state:
        final = final[:0]
    return y, final.transpose(1, 2).contiguous(), states if want_states else states.new_empty(0, *A.shape)


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse, want_final_state, want_states):
    batch, seq_len, d_inner = u.shape
    kept = (batch, -(-seq_len // _every(seq_len)), A.shape[1], d_inner) if want_states else (0, *A.shape)
    return (
        u.new_empty(batch, seq_len, d_inner),
        u.new_empty(batch if want_final_state else 0, *A.shape, dtype=torch.float32),
        u.new_empty(kept, dtype=torch.float32),
    )


@torch.library.custom_op("mambattn::selective_scan_triton_backward", mutates_args=())
def _backward(
    dout: Tensor,
    dfinal: Tensor | None,
    states: Tensor,
    u: Tensor,
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
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from mambattn.ops.scan.triton_gradients import scan_backward

    call = Call(u, dt, A, B, C, D, z, dt_bias, seq_idx, dt_softplus, reverse)
    cut = call.cut(BACKWARD, BACKWARD_CHUNKS)
    batch, seq_len, d_inner = u.shape
    dy_p, *dy_strides = call.rows(dout)
    du, ddt = u.new_empty(u.shape), dt.new_empty(u.shape)
    dz = u.new_empty(0, seq_len, d_inner) if z is None else z.new_empty(u.shape)
    du_p, *du_strides = call.rows(du)
    ddt_p, dz_p = call.rows(ddt)[0], dz if z is None else call.rows(dz)[0]
    dB, dC = (call.A.new_empty(cut.n_blocks, *B.shape) for _ in range(2))
    dA = call.states(cut.n_chunks, 0, None, zeros=True)
    dD, dbias, span = (call.floats(cut.n_chunks, d_inner) for _ in range(3))

    def run(carry: Tensor, first_chunk: int, *, only_carry: bool) -> None:
        n_run = cut.n_chunks - first_chunk
        launch(
            *(scan_backward, call.programs(cut, n_run), *call.pointers, dy_p, states, carry, span),
            *(du_p, ddt_p, dz_p, dA, dB, dC, dD, dbias, *call.strides, *dy_strides, *du_strides),
            *(*call.sizes(cut, states.shape[1], first_chunk, n_run), batch),
            **{**cut.options(), **call.flags, "ONLY_CARRY": only_carry},
        )

    carry = call.states(cut.n_chunks, -1, dfinal)
    if cut.n_chunks > 1:
        own = call.states(cut.n_chunks, 0, None, zeros=True)
        run(own, 1, only_carry=True)
        _pass_states(call, cut, own, span, carry, 1, back=True)
    run(carry, 0, only_carry=False)
    dB, dC = (x[0] if cut.n_blocks == 1 else x.sum(0) for x in (dB, dC))
    if reverse:
        dB, dC = dB.flip(1), dC.flip(1)
    dA = dA.sum((0, 1)).T.to(A.dtype).contiguous()
    nothing = u.new_empty(0)
    return (
        *(du, ddt, dA, dB.to(B.dtype), dC.to(C.dtype)),
        *(nothing if D is None else dD.sum((0, 1)).to(D.dtype), dz),
        nothing.clone() if dt_bias is None else dbias.sum((0, 1)).to(dt_bias.dtype),
        nothing.clone()
        if initial_state is None
        else carry[:, 0].transpose(1, 2).to(initial_state.dtype, memory_format=torch.contiguous_format, copy=True),
    )


@_backward.register_fake
def _(dout, dfinal, states, u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse):
    seq_len, d_inner = u.shape[1:]
    return (
        *(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, dt, A, B, C)),
        u.new_empty(0) if D is None else D.new_empty(d_inner),
        u.new_empty(0, seq_len, d_inner) if z is None else z.new_empty(z.shape),
        u.new_empty(0) if dt_bias is None else dt_bias.new_empty(d_inner),
        u.new_empty(0) if initial_state is None else initial_state.new_empty(initial_state.shape),
    )


_definition = partial(selective_scan_reference, return_final_state=True)
join_autograd(_forward, _backward, _definition, tensors=10, settings=2, outputs=2)


def selective_scan_triton(
    u: Tensor,
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
    reverse: bool,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Run the GPU scan; arguments and result are those of `selective_scan_reference`."""
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    differentiable = Request(tensors).differentiable
    y, final_state, _ = _forward(*tensors, seq_idx, dt_softplus, reverse, return_final_state, differentiable)
    return y, final_state if return_final_state else None

"""Backend "native": the C scan of ssd as two custom ops of torch, with fake tensors and autograd."""

import ctypes
import math
from functools import partial

import torch
from torch import Tensor

from mambattn.ops._custom import begins, dense, join_autograd
from mambattn.ops._dispatch import Request
from mambattn.ops._native import library as native
from mambattn.ops._native.library import View, pointer, view
from mambattn.ops.ssd_scan.reference import ssd_reference

CHUNK = 64
"""Tokens between two states that the forward keeps for the backward."""
_ITEMS = 4
"""Parts that the work is cut into at least, if it has as many: for as many threads."""
_CHANNELS = 128
"""Channels of a block of heads: more share the sums over channels, until the block leaves the cache."""


class Job(ctypes.Structure):
    """The arguments of a scan; the fields are those of csrc/ssd.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "seq_len", "n_groups", "heads", "d_head", "d_state", "block", "chunk"),
                *("batch_parts", "head_parts", "dt_softplus", "next"),
            )
        ),
        *((name, View) for name in ("x", "dt", "z", "B", "C", "y", "dout", "dx", "ddt", "dz", "dB", "dC")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("A2", "D", "bias", "initial_state", "reset", "final_state", "checkpoints"),
                *("dfinal", "dinitial", "dA", "dbias", "dD"),
            )
        ),
        ("dBC_part", ctypes.c_int64),
    ]


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _rows(x: Tensor) -> Tensor:
    """Give (batch, seq_len, n_heads, d_head) as rows of channels; a copy where the heads do not lie side by side."""
    return dense(x.flatten(2))


def _heads_in_block(batch: int, n_heads: int, n_groups: int, d_head: int) -> int:
    lanes = native.current().lanes
    return max(1, min(lanes, _CHANNELS // d_head, batch * n_heads // _ITEMS, n_heads // n_groups))


def _checkpoint_shape(x: Tensor, B: Tensor) -> tuple[int, ...]:
    batch, seq_len, n_heads, d_head = x.shape
    n_groups, d_state = B.shape[2:]
    lanes, block = native.current().lanes, _heads_in_block(batch, n_heads, n_groups, d_head)
    vectors = n_groups * -(-(n_heads // n_groups) // block) * -(-(block * d_head) // lanes)
    return (seq_len - 1) // CHUNK, vectors, d_state, lanes


class _Call:
    """A job and the tensors behind its pointers."""

    def __init__(
        self,
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
    ) -> None:
        batch, seq_len, n_heads, d_head = x.shape
        n_groups, d_state = B.shape[2:]
        block, heads = _heads_in_block(batch, n_heads, n_groups, d_head), n_heads // n_groups
        self.blocks, self.n_groups = -(-heads // block), n_groups
        self.job = Job(batch, seq_len, n_groups, heads, d_head, d_state, block, min(CHUNK, seq_len))
        self.job.dt_softplus = dt_softplus
        self._alive: list[Tensor] = []
        self.sequences(x=_rows(x), dt=dense(dt), B=dense(B.float()), C=dense(C.float()))
        self.pointers(A2=(A.double() * math.log2(math.e)).float())
        if z is not None:
            self.sequences(z=_rows(z))
        if D is not None:
            self.pointers(D=D.reshape(n_heads, -1).expand(n_heads, d_head).float().contiguous())
        if dt_bias is not None:
            self.pointers(bias=dt_bias.float().contiguous())
        if initial_state is not None:
            self.pointers(initial_state=initial_state.float().contiguous())
        if seq_idx is not None:
            self.pointers(reset=begins(seq_idx).to(torch.uint8))

    def sequences(self, **tensors: Tensor) -> None:
        for name, x in tensors.items():
            self._alive.append(x)
            setattr(self.job, name, view(x))

    def pointers(self, **tensors: Tensor) -> None:
        for name, x in tensors.items():
            self._alive.append(x)
            setattr(self.job, name, pointer(x))

    def run(self, kernel: str, batch_parts: int, head_parts: int) -> None:
        self.job.batch_parts, self.job.head_parts = batch_parts, head_parts
        library = native.current()
        scratch = library.ask("mambattn_ssd_scratch", self.job)
        library.run(kernel, self.job, batch_parts * self.n_groups * head_parts, scratch)


@torch.library.custom_op("mambattn::ssd_forward", mutates_args=())
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
    want_checkpoints: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    call = _Call(x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus)
    batch, _, n_heads, d_head = x.shape
    y = x.new_empty(x.shape)
    final_state = _floats(batch if want_final_state else 0, n_heads, d_head, B.shape[3])
    checkpoints = _floats(batch if want_checkpoints else 0, *_checkpoint_shape(x, B))
    call.sequences(y=y.flatten(2))
    if want_final_state:
        call.pointers(final_state=final_state)
    if want_checkpoints:
        call.pointers(checkpoints=checkpoints)
    call.run("mambattn_ssd_forward", batch, call.blocks)
    return y, final_state, checkpoints


@_forward.register_fake
def _(x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, want_final_state, want_checkpoints):
    batch, _, n_heads, d_head = x.shape
    return (
        x.new_empty(x.shape),
        x.new_empty(batch if want_final_state else 0, n_heads, d_head, B.shape[3], dtype=torch.float32),
        x.new_empty(batch if want_checkpoints else 0, *_checkpoint_shape(x, B), dtype=torch.float32),
    )


@torch.library.custom_op("mambattn::ssd_backward", mutates_args=())
def _backward(
    dout: Tensor,
    dfinal: Tensor | None,
    checkpoints: Tensor,
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
    call = _Call(x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus)
    batch, seq_len, n_heads, d_head = x.shape
    batch_parts = min(batch, _ITEMS)
    head_parts = min(call.blocks, -(-_ITEMS // max(batch_parts * call.n_groups, 1)))
    dx, ddt = x.new_empty(x.shape), dt.new_empty(dt.shape)
    dz = x.new_empty(0) if z is None else z.new_empty(z.shape)
    dB, dC = (_floats(head_parts, batch, seq_len, *B.shape[2:]) for _ in range(2))
    dA, dbias, dD = _floats(batch_parts, n_heads), _floats(batch_parts, n_heads), _floats(batch_parts, n_heads, d_head)
    dinitial = _floats(*(0,) if initial_state is None else initial_state.shape)
    call.sequences(dout=_rows(dout), dx=dx.flatten(2), ddt=ddt, dB=dB[0], dC=dC[0])
    call.pointers(checkpoints=checkpoints, dA=dA, dbias=dbias, dD=dD)
    call.job.dBC_part = dB.stride(0)
    if z is not None:
        call.sequences(dz=dz.flatten(2))
    if dfinal is not None:
        call.pointers(dfinal=dfinal.float().contiguous())
    if initial_state is not None:
        call.pointers(dinitial=dinitial)
    call.run("mambattn_ssd_backward", batch_parts, head_parts)
    dB, dC = (part[0] if head_parts == 1 else part.sum(0) for part in (dB, dC))
    dD = x.new_empty(0) if D is None else dD.sum((0, 2) if D.ndim == 1 else 0).to(D.dtype)
    return (
        *(dx, ddt, dA.sum(0).to(A.dtype), dB.to(B.dtype), dC.to(C.dtype), dD, dz),
        x.new_empty(0) if dt_bias is None else dbias.sum(0).to(dt_bias.dtype),
        x.new_empty(0) if initial_state is None else dinitial.to(initial_state.dtype),
    )


@_backward.register_fake
def _(dout, dfinal, checkpoints, x, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus):
    optional = (
        x.new_empty(0) if given is None else given.new_empty(given.shape) for given in (D, z, dt_bias, initial_state)
    )
    return (*(given.new_empty(given.shape) for given in (x, dt, A, B, C)), *optional)


# The chunks play no part in the definition.
_definition = partial(ssd_reference, chunk_size=0, return_final_state=True)
join_autograd(_forward, _backward, _definition, tensors=10, settings=1, outputs=2)


def ssd_native(
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
) -> tuple[Tensor, Tensor | None]:
    """Run the C scan; arguments and result are those of `ssd_reference`, and its chunks are its own."""
    tensors = (x, dt, A, B, C, D, z, dt_bias, initial_state)
    differentiable = Request(tensors).differentiable
    y, final_state, _ = _forward(*tensors, seq_idx, dt_softplus, return_final_state, differentiable)
    return y, final_state if return_final_state else None

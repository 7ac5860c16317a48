"""Backend "native": the C scan as two custom ops of torch, with fake tensors and autograd."""

import ctypes
import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._custom import begins, dense, join_autograd
from mambattn.ops._dispatch import Request
from mambattn.ops._native import library as native
from mambattn.ops._native.library import View, pointer, view
from mambattn.ops.scan.reference import selective_scan_reference

_ITEMS = 16
"""Parts that the work is cut into where the shapes allow, and so the threads that can help."""
_CHANNELS = 64
"""Channels of a part at least, and no fewer than states: each part has a dB and a dC of its own."""


class Job(ctypes.Structure):
    """The arguments of a scan; the fields are those of csrc/scan.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "seq_len", "n_groups", "d_group", "d_state", "chunk"),
                *("batch_parts", "channel_parts", "dt_softplus", "next"),
            )
        ),
        *((name, View) for name in ("u", "dt", "z", "B", "C", "y", "dout", "du", "ddt", "dz", "dB", "dC")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("A2", "D", "bias", "initial_state", "reset", "final_state", "checkpoints"),
                *("dfinal", "dinitial", "dA", "dD", "dbias"),
            )
        ),
        ("dBC_part", ctypes.c_int64),
    ]


def _chunk(d_state: int) -> int:
    """Steps between two states kept for the backward: so many that these are hardly larger than the input."""
    return min(max(32, d_state), 128)


def _to_lanes(x: Tensor, n_groups: int, lanes: int) -> Tensor:
    """(..., d_inner[, d_state] at axis -2) with states to (..., vectors, d_state, lanes), padded with zeros."""
    *batch, d_inner, d_state = x.shape
    x = x.reshape(*batch, n_groups, d_inner // n_groups, d_state)
    x = pad(x, (0, 0, 0, -x.shape[-2] % lanes))
    return x.reshape(*batch, -1, lanes, d_state).transpose(-1, -2).contiguous()


def _from_lanes(x: Tensor, n_groups: int, d_inner: int) -> Tensor:
    """Undo `_to_lanes`, into memory of its own."""
    *batch, vectors, d_state, lanes = x.shape
    x = x.transpose(-1, -2).reshape(*batch, n_groups, vectors * lanes // n_groups, d_state)
    x = x.narrow(-2, 0, d_inner // n_groups)
    return x.reshape(*batch, d_inner, d_state).clone(memory_format=torch.contiguous_format)


def _vector_to_lanes(x: Tensor | None, d_inner: int, n_groups: int, lanes: int) -> Tensor:
    return _to_lanes(torch.zeros(d_inner, 1, dtype=torch.float32) if x is None else x[:, None].float(), n_groups, lanes)


def _floats(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


class _Call:
    """A job and the tensors behind its pointers."""

    def __init__(
        self,
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
    ) -> None:
        library = native.current()
        lanes = library.lanes
        self.library, self.reverse = library, reverse
        self.n_groups = B.shape[2]
        batch, seq_len, d_inner = u.shape
        d_group = d_inner // self.n_groups
        chunk = min(_chunk(A.shape[1]), seq_len)
        self.job = Job(batch, seq_len, self.n_groups, d_group, A.shape[1], chunk, dt_softplus=dt_softplus)
        self._alive: list[Tensor] = []
        for name, x in (("u", u), ("dt", dt), ("z", z), ("B", B.float()), ("C", C.float())):
            self.sequence(name, None if x is None else dense(x))
        self.pointer("A2", _to_lanes((A.double() * math.log2(math.e)).float(), self.n_groups, lanes))
        self.pointer("D", _vector_to_lanes(D, d_inner, self.n_groups, lanes))
        self.pointer("bias", _vector_to_lanes(dt_bias, d_inner, self.n_groups, lanes))
        if initial_state is not None:
            self.pointer("initial_state", self.state_lanes(initial_state))
        self.pointer(
            "reset", None if seq_idx is None else begins(seq_idx.flip(1) if reverse else seq_idx).to(torch.uint8)
        )

    def state_lanes(self, state: Tensor) -> Tensor:
        return _to_lanes(state.float(), self.n_groups, self.library.lanes)

    def sequence(self, name: str, x: Tensor | None) -> None:
        if x is not None:
            self._alive.append(x)
        setattr(self.job, name, view(x, self.reverse))

    def pointer(self, name: str, x: Tensor | None) -> None:
        if x is not None:
            self._alive.append(x)
        setattr(self.job, name, pointer(x))

    def split(self, batch_parts: int) -> None:
        """Cut the batch into parts, and the channels too where that gives too few items."""
        wanted = -(-_ITEMS // max(batch_parts * self.n_groups, 1))
        self.job.batch_parts = batch_parts
        self.job.channel_parts = min(wanted, -(-self.job.d_group // max(_CHANNELS, self.job.d_state)))

    def run(self, kernel: str) -> None:
        items = self.job.batch_parts * self.n_groups * self.job.channel_parts
        self.library.run(kernel, self.job, items, self.library.ask("mambattn_scan_scratch", self.job))


def _lane_shape(u: Tensor, A: Tensor, n_groups: int) -> tuple[int, int, int]:
    lanes = native.current().lanes
    return n_groups * -(-(u.shape[2] // n_groups) // lanes), A.shape[1], lanes


@torch.library.custom_op("mambattn::selective_scan_forward", mutates_args=())
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
    want_checkpoints: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    call = _Call(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse)
    batch, seq_len, d_inner = u.shape
    y = u.new_empty(batch, seq_len, d_inner)
    call.sequence("y", y)
    shape = _lane_shape(u, A, call.n_groups)
    final_state = _floats(batch if want_final_state else 0, *shape)
    checkpoints = _floats(batch if want_checkpoints else 0, (seq_len - 1) // call.job.chunk, *shape)
    call.pointer("final_state", final_state if want_final_state else None)
    call.pointer("checkpoints", checkpoints if want_checkpoints else None)
    call.split(batch)
    call.run("mambattn_scan_forward")
    return y, _from_lanes(final_state, call.n_groups, d_inner), checkpoints


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse, want_final_state, want_checkpoints):
    batch, seq_len, d_inner = u.shape
    return (
        u.new_empty(batch, seq_len, d_inner),
        u.new_empty(batch if want_final_state else 0, *A.shape, dtype=torch.float32),
        u.new_empty(
            *(batch if want_checkpoints else 0, (seq_len - 1) // _chunk(A.shape[1]), *_lane_shape(u, A, B.shape[2])),
            dtype=torch.float32,
        ),
    )


@torch.library.custom_op("mambattn::selective_scan_backward", mutates_args=())
def _backward(
    dout: Tensor,
    dfinal: Tensor | None,
    checkpoints: Tensor,
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
    call = _Call(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse)
    job, n_groups = call.job, call.n_groups
    batch, seq_len, d_inner = u.shape
    n_vectors, d_state, lanes = _lane_shape(u, A, n_groups)
    batch_parts = min(batch, _ITEMS)
    call.split(batch_parts)
    call.sequence("dout", dense(dout))
    call.pointer("checkpoints", checkpoints)
    if dfinal is not None:
        call.pointer("dfinal", call.state_lanes(dfinal))
    dinitial = _floats(0 if initial_state is None else batch, n_vectors, d_state, lanes)
    call.pointer("dinitial", None if initial_state is None else dinitial)
    du, ddt = u.new_empty(u.shape), dt.new_empty(u.shape)
    dz = u.new_empty(0, seq_len, d_inner) if z is None else z.new_empty(u.shape)
    for name, x in (("du", du), ("ddt", ddt), ("dz", None if z is None else dz)):
        call.sequence(name, x)
    dB, dC = (_floats(job.channel_parts, batch, seq_len, n_groups, d_state) for _ in range(2))
    call.sequence("dB", dB[0])
    call.sequence("dC", dC[0])
    job.dBC_part = dB.stride(0)
    dA = _floats(batch_parts, n_vectors, d_state, lanes)
    dD, dbias = (_floats(batch_parts, n_vectors, 1, lanes) for _ in range(2))
    for name, x in (("dA", dA), ("dD", dD), ("dbias", dbias)):
        call.pointer(name, x)
    call.run("mambattn_scan_backward")
    dB, dC = (x[0] if job.channel_parts == 1 else x.sum(0) for x in (dB, dC))
    dA, dD, dbias = (_from_lanes(x.sum(0), n_groups, d_inner) for x in (dA, dD, dbias))
    return (
        *(du, ddt, dA.to(A.dtype), dB.to(B.dtype), dC.to(C.dtype)),
        *(u.new_empty(0) if D is None else dD[:, 0].to(D.dtype), dz),
        u.new_empty(0) if dt_bias is None else dbias[:, 0].to(dt_bias.dtype),
        u.new_empty(0) if initial_state is None else _from_lanes(dinitial, n_groups, d_inner).to(initial_state.dtype),
    )


@_backward.register_fake
def _(dout, dfinal, checkpoints, u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse):
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


def selective_scan_native(
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
    """Run the C scan; arguments and result are those of `selective_scan_reference`."""
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state)
    differentiable = Request(tensors).differentiable
    y, final_state, _ = _forward(*tensors, seq_idx, dt_softplus, reverse, return_final_state, differentiable)
    return y, final_state if return_final_state else None

"""Backend "native": the C scan as two custom ops of torch, with fake tensors and autograd."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops.scan import library as _library
from mambattn.ops.scan.library import Job, Library, View

__all__ = ["missing", "refuses"]

CHUNK = 32
_ITEMS = 16

_loaded = _library.load_best()
missing = None if _loaded is not None else _library.why_missing()


def refuses(device: torch.device, dtype: torch.dtype) -> str | None:
    """Say why inputs cannot be served.

    Parameters
    ----------
    device : torch.device
        Where they are.
    dtype : torch.dtype
        What they need.

    Returns
    -------
    str or None
        The reason, or None for float32 on the CPU.
    """
    if device.type != "cpu":
        return f"it serves CPU tensors, however the device is {device}"
    if dtype != torch.float32:
        return f"it computes in float32, however the inputs need {dtype}"
    return None


def _lib() -> Library:
    assert _loaded is not None, "the dispatcher offers this backend only where it is built"
    return _loaded


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


def _vector_to_lanes(x: Tensor | None, like: Tensor, n_groups: int, lanes: int) -> Tensor:
    return _to_lanes(like.new_zeros(like.shape[-1], 1) if x is None else x[:, None], n_groups, lanes)


def _view(x: Tensor | None, reverse: bool) -> View:
    """Describe (batch, seq_len, channels) or (batch, seq_len, groups, states), the last axis of unit stride."""
    if x is None:
        return View(None, 0, 0, 0)
    batch, time, *rest = x.stride()
    group = rest[0] if x.ndim == 4 else 0
    if not reverse:
        return View(x.data_ptr(), batch, time, group)
    return View(x.data_ptr() + (x.shape[1] - 1) * time * 4, batch, -time, group)


def _dense(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _resets(seq_idx: Tensor | None, reverse: bool) -> Tensor | None:
    """Say, in the order of the scan, before which steps the state becomes zero."""
    if seq_idx is None:
        return None
    order = seq_idx.flip(1) if reverse else seq_idx
    return pad(order[:, 1:] != order[:, :-1], (1, 0)).to(torch.uint8).contiguous()


def _ptr(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


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
        library = _lib()
        lanes = library.lanes
        self.library, self.reverse = library, reverse
        self.n_groups = B.shape[2]
        batch, seq_len, d_inner = u.shape
        d_group = d_inner // self.n_groups
        self.job = Job(batch, seq_len, self.n_groups, d_group, A.shape[1], CHUNK, dt_softplus=dt_softplus)
        self.vectors = -(-d_group // lanes)
        self._alive: list[Tensor] = []
        for name, x in (("u", u), ("dt", dt), ("z", z), ("B", B), ("C", C)):
            self.sequence(name, None if x is None else _dense(x))
        self.pointer("A2", _to_lanes((A.double() * math.log2(math.e)).float(), self.n_groups, lanes))
        self.pointer("D", _vector_to_lanes(D, u, self.n_groups, lanes))
        self.pointer("bias", _vector_to_lanes(dt_bias, u, self.n_groups, lanes))
        if initial_state is not None:
            self.pointer("initial_state", self.state_lanes(initial_state))
        self.pointer("reset", _resets(seq_idx, reverse))

    def state_lanes(self, state: Tensor) -> Tensor:
        return _to_lanes(state, self.n_groups, self.library.lanes)

    def sequence(self, name: str, x: Tensor | None) -> None:
        if x is not None:
            self._alive.append(x)
        setattr(self.job, name, _view(x, self.reverse))

    def pointer(self, name: str, x: Tensor | None) -> None:
        if x is not None:
            self._alive.append(x)
        setattr(self.job, name, _ptr(x))

    def split(self, batch_parts: int, channel_parts: int) -> None:
        self.job.batch_parts, self.job.channel_parts = batch_parts, channel_parts

    def run(self, *, backward: bool) -> None:
        self.library.run(self.job, backward=backward)


def _lane_shape(u: Tensor, A: Tensor, n_groups: int) -> tuple[int, int, int]:
    lanes = _lib().lanes
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
    final_state = u.new_empty(batch if want_final_state else 0, *shape)
    checkpoints = u.new_empty(batch if want_checkpoints else 0, (seq_len - 1) // CHUNK, *shape)
    call.pointer("final_state", final_state if want_final_state else None)
    call.pointer("checkpoints", checkpoints if want_checkpoints else None)
    call.split(batch, -(-call.vectors // 8))
    call.run(backward=False)
    return y, _from_lanes(final_state, call.n_groups, d_inner), checkpoints


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse, want_final_state, want_checkpoints):
    batch, seq_len, d_inner = u.shape
    return (
        u.new_empty(batch, seq_len, d_inner),
        u.new_empty(batch if want_final_state else 0, *A.shape),
        u.new_empty(batch if want_checkpoints else 0, (seq_len - 1) // CHUNK, *_lane_shape(u, A, B.shape[2])),
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
    channel_parts = min(-(-call.vectors // 8), -(-_ITEMS // (max(batch_parts, 1) * n_groups)))
    call.split(batch_parts, channel_parts)
    call.sequence("dout", _dense(dout))
    call.pointer("checkpoints", checkpoints)
    if dfinal is not None:
        call.pointer("dfinal", call.state_lanes(dfinal))
    dinitial = u.new_empty(0 if initial_state is None else batch, n_vectors, d_state, lanes)
    call.pointer("dinitial", None if initial_state is None else dinitial)
    du, ddt = u.new_empty(u.shape), u.new_empty(u.shape)
    dz = u.new_empty(u.shape if z is not None else (0, seq_len, d_inner))
    for name, x in (("du", du), ("ddt", ddt), ("dz", dz)):
        call.sequence(name, x)
    dB, dC = (u.new_empty(channel_parts, batch, seq_len, n_groups, d_state) for _ in range(2))
    call.sequence("dB", dB[0])
    call.sequence("dC", dC[0])
    job.dBC_part = dB.stride(0)
    dA = u.new_empty(batch_parts, n_vectors, d_state, lanes)
    dD, dbias = (u.new_empty(batch_parts, n_vectors, 1, lanes) for _ in range(2))
    for name, x in (("dA", dA), ("dD", dD), ("dbias", dbias)):
        call.pointer(name, x)
    call.run(backward=True)
    dB, dC = (x[0] if channel_parts == 1 else x.sum(0) for x in (dB, dC))
    dA, dD, dbias = (_from_lanes(x.sum(0), n_groups, d_inner) for x in (dA, dD, dbias))
    return (
        *(du, ddt, dA, dB, dC),
        *(dD[:, 0] if D is not None else u.new_empty(0), dz),
        *(dbias[:, 0] if dt_bias is not None else u.new_empty(0), _from_lanes(dinitial, n_groups, d_inner)),
    )


@_backward.register_fake
def _(dout, dfinal, checkpoints, u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse):
    batch, seq_len, d_inner = u.shape
    return (
        *(u.new_empty(u.shape), u.new_empty(u.shape), A.new_empty(A.shape), B.new_empty(B.shape), C.new_empty(C.shape)),
        u.new_empty(d_inner if D is not None else 0),
        u.new_empty(batch if z is not None else 0, seq_len, d_inner),
        u.new_empty(d_inner if dt_bias is not None else 0),
        u.new_empty(batch if initial_state is not None else 0, *A.shape),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.dt_softplus, ctx.reverse, _, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _backward_of_forward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, checkpoints = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    gradients = _backward(dout, dfinal, checkpoints, *tensors, ctx.dt_softplus, ctx.reverse)
    given = (None if x is None else gradient for x, gradient in zip(tensors[:9], gradients, strict=True))
    return (*given, None, None, None, None, None)


_forward.register_autograd(_backward_of_forward, setup_context=_setup_context)


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
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, final_state, _ = _forward(*tensors, seq_idx, dt_softplus, reverse, return_final_state, differentiable)
    return y, final_state if return_final_state else None

"""Backend "triton": the GPU scan as two custom ops of torch, with fake tensors and autograd."""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops.scan.triton_kernels import pass_states, scan_backward, scan_forward

__all__ = ["selective_scan_triton"]


class Shape(NamedTuple):
    """What a program, which is one warp, holds: `tile` steps, `lanes` states, `width` channels for each of `folds`."""

    tile: int
    folds: int
    lanes: int
    width: int


FORWARD = Shape(tile=32, folds=1, lanes=2, width=16)
BACKWARD = Shape(tile=16, folds=1, lanes=2, width=16)
WARPS = 2
"""Programs that a scheduler of the GPU holds at once, given their registers."""


@cache
def _schedulers(device: torch.device) -> int:
    return 4 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8


def _power(n: int, most: int) -> int:
    """Give the smallest power of two that is at least n, or ``most``."""
    return min(most, 1 << (n - 1).bit_length())


def _every(seq_len: int) -> int:
    """Steps between two states kept for the backward: its tile."""
    return max(2, _power(seq_len, BACKWARD.tile))


class _Call:
    """A scan's arguments as the kernels take them."""

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
        seq_idx: Tensor | None,
        dt_softplus: bool,
        reverse: bool,
    ) -> None:
        self.reverse = reverse
        self.batch, self.seq_len, self.d_inner = u.shape
        self.n_groups, self.d_state = B.shape[2:]
        self.d_group = self.d_inner // self.n_groups
        self.A = A.float().contiguous()
        self.reset = None if seq_idx is None else _resets(seq_idx, reverse)
        dummy = self.A
        self.sequences: list[Any] = []
        strides: list[int] = []
        for x in (u, dt, z):
            start, *stride = self.rows(x)
            self.sequences.append(dummy if start is None else start)
            strides += stride
        for x in (B.float(), C.float()):
            start, *stride = self.rows(x)
            self.sequences.append(start)
            strides += [*stride, x.stride(2)]
        u_p, dt_p, z_p, B_p, C_p = self.sequences
        D_p, bias_p = (dummy if x is None else x.float().contiguous() for x in (D, dt_bias))
        self.pointers = (u_p, dt_p, z_p, self.A, B_p, C_p, D_p, bias_p, dummy if self.reset is None else self.reset)
        self.strides = strides
        self.flags = {
            "SOFTPLUS": dt_softplus,
            "HAS_D": D is not None,
            "HAS_BIAS": dt_bias is not None,
            "HAS_Z": z is not None,
            "HAS_RESET": self.reset is not None,
        }

    def rows(self, x: Tensor | None) -> tuple[Tensor | None, int, int]:
        """Give where the first token scanned lies, and the distances between rows and between tokens."""
        if x is None:
            return None, 0, 0
        if x.stride(-1) != 1:
            x = x.contiguous()
        batch, time = x.stride()[:2]
        return (x[:, -1:], batch, -time) if self.reverse else (x, batch, time)

    def floats(self, *shape: int) -> Tensor:
        return self.A.new_empty(shape)

    def cut(self, shape: Shape) -> "_Cut":
        tile = max(2, _power(self.seq_len, shape.tile))
        lanes = _power(self.d_state, shape.lanes)
        n_blocks = -(-self.d_group // (shape.folds * shape.width))
        n_tiles = -(-self.seq_len // tile)
        warps = self.batch * self.n_groups * n_blocks
        # Where rows and channels leave half of the GPU idle, time is cut too: a second pass over the decays, then each
        # chunk by itself. One program too many would be a second wave, so the rest is left idle.
        n_chunks = max(1, min(WARPS * _schedulers(self.A.device) // max(warps, 1), n_tiles // 4))
        chunk_tiles = -(-n_tiles // n_chunks)
        return _Cut(tile, shape.folds, lanes, shape.width, n_blocks, n_tiles, -(-n_tiles // chunk_tiles), chunk_tiles)

    def keep(self, cut: "_Cut") -> Tensor | None:
        """Say which chunks no sequence begins in."""
        if self.reset is None:
            return None
        missing = cut.n_chunks * cut.chunk_tiles * cut.tile - self.seq_len
        return pad(self.reset, (0, missing)).unflatten(1, (cut.n_chunks, -1)).amax(2) == 0

    def sizes(self, cut: "_Cut", n_slots: int, first_chunk: int, n_run: int) -> tuple[int, ...]:
        return (
            *(self.seq_len, self.d_inner, self.d_group, self.d_state, self.n_groups, cut.n_blocks),
            *(cut.n_chunks, cut.chunk_tiles, cut.n_tiles, n_slots, first_chunk, n_run),
        )

    def grid(self, cut: "_Cut", n_run: int) -> tuple[int]:
        return (self.batch * n_run * self.n_groups * cut.n_blocks,)

    def pass_states(
        self, cut: "_Cut", own: Tensor, span: Tensor, entry: Tensor, slot_step: int, *, has_entry: bool, back: bool
    ) -> None:
        keep = self.keep(cut)
        block = 128
        pass_states[(self.batch * -(-self.d_state * self.d_inner // block),)](
            *(own, span, span if keep is None else keep.to(torch.uint8), self.A, entry),
            *(self.d_inner, self.d_state, cut.n_chunks, entry.shape[1], slot_step),
            HAS_ENTRY=has_entry,
            HAS_KEEP=keep is not None,
            BACK=back,
            BLOCK=block,
            num_warps=4,
        )


class _Cut(NamedTuple):
    """A `Shape` fitted to a call."""

    tile: int
    folds: int
    lanes: int
    width: int
    n_blocks: int
    n_tiles: int
    n_chunks: int
    chunk_tiles: int

    def options(self) -> dict[str, int]:
        return {"T": self.tile, "W": self.folds, "N_LANES": self.lanes, "J": self.width, "num_warps": 1}


def _resets(seq_idx: Tensor, reverse: bool) -> Tensor:
    """Say, in the order of the scan, before which steps the state becomes zero."""
    order = seq_idx.flip(1) if reverse else seq_idx
    return pad(order[:, 1:] != order[:, :-1], (1, 0)).to(torch.uint8).contiguous()


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
    call = _Call(u, dt, A, B, C, D, z, dt_bias, seq_idx, dt_softplus, reverse)
    cut = call.cut(FORWARD)
    every = _every(call.seq_len) if want_states else cut.tile
    slot_step = cut.chunk_tiles * (cut.tile // every) if want_states else 1
    n_slots = -(-call.seq_len // every) if want_states else cut.n_chunks
    states = call.floats(call.batch, n_slots, call.d_state, call.d_inner)
    if initial_state is not None:
        states[:, 0] = initial_state.transpose(1, 2)
    y = u.new_empty(u.shape)
    final = call.floats(call.batch, call.d_state, call.d_inner)
    options: dict[str, Any] = {**cut.options(), **call.flags, "EVERY": every, "HAS_INITIAL": initial_state is not None}
    y_p, *y_strides = call.rows(y)
    if call.batch and cut.n_chunks > 1:
        own = call.floats(call.batch, cut.n_chunks, call.d_state, call.d_inner)
        span = call.floats(call.batch, cut.n_chunks, call.d_inner)
        scan_forward[call.grid(cut, cut.n_chunks - 1)](
            *(*call.pointers, y_p, own, final, span, *call.strides, *y_strides),
            *call.sizes(cut, cut.n_chunks, 0, cut.n_chunks - 1),
            **options | {"SAVE": False, "ONLY_STATES": True},
        )
        call.pass_states(cut, own, span, states, slot_step, has_entry=initial_state is not None, back=False)
    if call.batch:
        scan_forward[call.grid(cut, cut.n_chunks)](
            *(*call.pointers, y_p, states, final, final, *call.strides, *y_strides),
            *call.sizes(cut, n_slots, 0, cut.n_chunks),
            **options | {"SAVE": want_states, "ONLY_STATES": False},
        )
    if not want_final_state:
        final = final[:0]
    return y, final.transpose(1, 2).contiguous(), states if want_states else states.new_empty(0, *A.shape)


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, initial_state, seq_idx, dt_softplus, reverse, want_final_state, want_states):
    batch, seq_len, d_inner = u.shape
    d_state, every = A.shape[1], _every(seq_len)
    kept = (batch, -(-seq_len // every), d_state, d_inner) if want_states else (0, d_inner, d_state)
    return (
        u.new_empty(batch, seq_len, d_inner),
        u.new_empty(batch if want_final_state else 0, d_inner, d_state, dtype=torch.float32),
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
    call = _Call(u, dt, A, B, C, D, z, dt_bias, seq_idx, dt_softplus, reverse)
    batch, seq_len, d_inner, d_state = call.batch, call.seq_len, call.d_inner, call.d_state
    cut = call.cut(BACKWARD)
    dy_p, *dy_strides = call.rows(dout)
    carry = call.floats(batch, cut.n_chunks, d_state, d_inner)
    if dfinal is not None:
        carry[:, -1] = dfinal.transpose(1, 2)
    du, ddt = u.new_empty(u.shape), dt.new_empty(u.shape)
    dz = u.new_empty(0, seq_len, d_inner) if z is None else z.new_empty(u.shape)
    (du_p, *du_strides), ddt_p, dz_p = call.rows(du), call.rows(ddt)[0], du if z is None else call.rows(dz)[0]
    dA = call.floats(batch, cut.n_chunks, d_state, d_inner)
    dB, dC = (call.floats(cut.n_blocks, batch, seq_len, call.n_groups, d_state) for _ in range(2))
    dD, dbias, span = (call.floats(batch, cut.n_chunks, d_inner) for _ in range(3))
    options: dict[str, Any] = {
        **cut.options(),
        **call.flags,
        "HAS_INITIAL": initial_state is not None,
        "HAS_FINAL": dfinal is not None,
    }

    def launch(carried: Tensor, first_chunk: int, *, only_carry: bool) -> None:
        n_run = cut.n_chunks - first_chunk
        scan_backward[call.grid(cut, n_run)](
            *(*call.pointers, dy_p, states, carried, span, du_p, ddt_p, dz_p, dA, dB, dC, dD, dbias),
            *(*call.strides, *dy_strides, *du_strides),
            *(*call.sizes(cut, states.shape[1], first_chunk, n_run), batch),
            **options,
            ONLY_CARRY=only_carry,
        )

    if batch and cut.n_chunks > 1:
        own = torch.empty_like(carry)
        launch(own, 1, only_carry=True)
        call.pass_states(cut, own, span, carry, 1, has_entry=dfinal is not None, back=True)
    if batch:
        launch(carry, 0, only_carry=False)
    dB, dC = (x[0] if cut.n_blocks == 1 else x.sum(0) for x in (dB, dC))
    if reverse:
        dB, dC = dB.flip(1), dC.flip(1)
    dinitial = None if initial_state is None else carry[:, 0].transpose(1, 2).to(initial_state.dtype).contiguous()
    return (
        *(du, ddt, dA.sum((0, 1)).T.to(A.dtype).contiguous(), dB.to(B.dtype), dC.to(C.dtype)),
        *(u.new_empty(0) if D is None else dD.sum((0, 1)).to(D.dtype), dz),
        u.new_empty(0) if dt_bias is None else dbias.sum((0, 1)).to(dt_bias.dtype),
        u.new_empty(0) if dinitial is None else dinitial,
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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.dt_softplus, ctx.reverse, _, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.set_materialize_grads(False)


def _backward_of_forward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, states = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    gradients = _backward(dout, dfinal, states, *tensors, ctx.dt_softplus, ctx.reverse)
    given = (None if x is None else gradient for x, gradient in zip(tensors[:9], gradients, strict=True))
    return (*given, None, None, None, None, None)


_forward.register_autograd(_backward_of_forward, setup_context=_setup_context)


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
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, final_state, _ = _forward(*tensors, seq_idx, dt_softplus, reverse, return_final_state, differentiable)
    return y, final_state if return_final_state else None

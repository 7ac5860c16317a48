"""Backend "triton" of `ssd`: the launches, as two custom ops of torch with fake tensors and autograd."""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._triton.launch import dense, launch, power, processors
from mambattn.ops.ssd_scan import triton_gradients, triton_kernels

__all__ = ["ssd_triton"]

_LEAST = 16  # rows and columns that a matrix product takes
_JOIN = 256  # elements of a state that one program carries from segment to segment
_HEADS = 16  # heads whose step sizes one program takes
_TOKENS = 64  # tokens whose step sizes' gradients it takes


_TOKENS_A_CHUNK = 64


class Cut(NamedTuple):
    """What a program takes at a time: tokens, channels and states; and the warps and loads ahead of each kernel."""

    Q: int
    P: int
    N: int
    precision: str
    sweep: dict[str, int]
    token_gradients: dict[str, int]
    state_gradients: dict[str, int]

    @property
    def options(self) -> dict[str, Any]:
        """Constants that all kernels take."""
        dot = tl.bfloat16 if self.precision == "ieee" else tl.float32
        return {"Q": self.Q, "P": self.P, "N": self.N, "DOT": dot, "PRECISION": self.precision}


def _cut(types: set[torch.dtype], d_head: int, d_state: int) -> Cut:
    """Choose by what spills the fewest registers; products in float32 are sums of products of bfloat16 parts."""
    parts = {frozenset({torch.bfloat16}): "ieee", frozenset({torch.float16}): "bf16x3"}
    precision = parts.get(frozenset(types), "bf16x6")
    states = power(max(d_state, _LEAST))
    channels = min(power(max(d_head, _LEAST)), 64 if states <= 128 else 32)
    if precision == "ieee" and states <= 128:
        kernels = ({"num_warps": 4, "STAGES": 2}, {"num_warps": 4, "num_stages": 1}, {"num_warps": 8, "num_stages": 2})
    else:
        kernels = ({"num_warps": 8, "STAGES": 1}, {"num_warps": 8, "num_stages": 1}, {"num_warps": 8, "num_stages": 1})
    return Cut(_TOKENS_A_CHUNK, channels, states, precision, *kernels)


def _tiled(x: Tensor) -> Tensor:
    """Give a tensor (batch, seq_len, …) whose last axis is contiguous, and whose chunks span less than 2³¹ numbers."""
    return dense(x if x.stride(1) < 2**31 // _TOKENS_A_CHUNK else x.contiguous())


class _Call:
    """A call's arguments as the kernels take them."""

    def __init__(
        self,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        dt_bias: Tensor | None,
        seq_idx: Tensor | None,
        dt_softplus: bool,
    ) -> None:
        self.batch, self.seq_len, self.n_heads, self.d_head = x.shape
        self.n_groups, self.d_state = B.shape[2:]
        self.cut = _cut({x.dtype, B.dtype, C.dtype}, self.d_head, self.d_state)
        self.x, self.raw, self.B, self.C = _tiled(x), dt, _tiled(B), _tiled(C)
        self.A = A.float().contiguous()
        self.D = None if D is None else D.float().reshape(self.n_heads, -1).expand(-1, self.d_head)
        self.bias = None if dt_bias is None else dt_bias.float().contiguous()
        self.runs = None if seq_idx is None else _runs(seq_idx)
        self.n_parts = -(-self.d_head // self.cut.P)
        # Sequences are cut only as far as rows and heads leave processors without two programs, of two chunks at least.
        programs = max(self.batch * self.n_heads * self.n_parts, 1)
        chunks = -(-self.seq_len // self.cut.Q)
        n_segments = max(1, min(2 * processors(x.device) // programs, chunks // 2))
        self.segment_len = -(-chunks // n_segments) * self.cut.Q
        self.n_segments = -(-self.seq_len // self.segment_len)
        self.softplus = dt_softplus
        self.dt, self.high = (self.floats(self.batch, self.n_heads, self.seq_len) for _ in range(2))
        self.low = torch.empty_like(self.high) if self.cut.precision == "bf16x6" else None
        self.head_blocks = -(-self.n_heads // _HEADS)
        launch(
            triton_kernels.decays,
            self.batch * chunks * self.head_blocks,
            *(dt, self.A, self.bias, self.dt, self.high, self.low, *dt.stride()),
            *(self.seq_len, self.n_heads, self.head_blocks),
            Q=self.cut.Q,
            H=_HEADS,
            SOFTPLUS=dt_softplus,
            num_warps=4,
        )

    def sizes(self) -> tuple[int, ...]:
        return (
            *(self.seq_len, self.segment_len, self.n_segments, self.n_heads, self.n_heads // self.n_groups),
            *(self.d_head, self.d_state, self.n_parts),
        )

    def floats(self, *shape: int) -> Tensor:
        return self.A.new_empty(shape)

    def states(self, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.A.new_empty((*leading, self.n_heads, self.d_head, self.d_state), dtype=dtype)

    def run(self, kernel: Any, *arguments: Any, **options: Any) -> None:
        programs = self.batch * self.n_segments * self.n_heads * self.n_parts
        launch(
            kernel,
            programs,
            *(*arguments, *self.sizes()),
            **self.cut.options,
            **self.cut.sweep,
            **options,
        )

    def sweep(
        self,
        value: Tensor,
        key: Tensor,
        entering: Tensor | None,
        *,
        leaving: Tensor | None = None,
        kept: Tensor | None = None,
        chunks: Tensor | None = None,
        reverse: bool = False,
    ) -> None:
        self.run(
            triton_kernels.sweep,
            *(value, self.dt, self.high, self.low, key, entering, self.runs, leaving, kept, chunks),
            *(*value.stride()[:3], *key.stride()[:3]),
            REVERSE=reverse,
        )

    def entering(self, value: Tensor, key: Tensor, initial: Tensor | None, *, reverse: bool = False) -> Tensor | None:
        """Give the state that enters each segment (batch, segment, n_heads, d_head, d_state)."""
        if self.n_segments == 1:
            return initial
        states, kept = self.states(self.batch, self.n_segments), self.floats(self.batch, self.n_segments, self.n_heads)
        self.sweep(value, key, None, leaving=states, kept=kept, reverse=reverse)
        d_all = self.d_head * self.d_state
        launch(
            triton_kernels.join_segments,
            self.batch * self.n_heads * -(-d_all // _JOIN),
            *(states, kept, initial, self.n_segments, self.n_heads, d_all),
            REVERSE=reverse,
            BLOCK=_JOIN,
            num_warps=4,
        )
        return states

    def forward(self, z: Tensor | None, entering: Tensor | None, final: Tensor | None = None) -> Tensor:
        y = self.x.new_empty(self.x.shape)
        z = None if z is None else _tiled(z)
        self.run(
            triton_kernels.forward,
            *(self.x, self.dt, self.high, self.low, self.B, self.C, self.D, z, entering, self.runs, y, final),
            *(*self.x.stride()[:3], *self.B.stride()[:3], *self.C.stride()[:3]),
            *((0, 0) if self.D is None else self.D.stride()),
            *((0, 0, 0) if z is None else z.stride()[:3]),
        )
        return y

    def step_gradients(self, d_steps: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradient of dt, and that of its bias by blocks of tokens, from the parts of the step sizes's."""
        blocks = self.batch * -(-self.seq_len // _TOKENS)
        d_raw, d_bias = self.raw.new_empty(self.raw.shape), self.floats(blocks, self.n_heads)
        launch(
            triton_gradients.step_gradients,
            blocks * self.head_blocks,
            *(d_steps, self.raw, self.bias, d_raw, d_bias, *self.raw.stride(), self.batch, self.seq_len, self.n_heads),
            *(self.head_blocks, len(d_steps)),
            T=_TOKENS,
            H=_HEADS,
            SOFTPLUS=self.softplus,
            num_warps=4,
        )
        return d_raw, d_bias


def _runs(seq_idx: Tensor) -> Tensor:
    """Number the packed sequences anew, in order: a number may come back."""
    return pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0)).cumsum(1, dtype=torch.int32).contiguous()


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
    call = _Call(x, dt, A, B, C, D, dt_bias, seq_idx, dt_softplus)
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
    call = _Call(x, dt, A, B, C, D, dt_bias, seq_idx, dt_softplus)
    batch, seq_len, n_heads, d_head = x.shape
    entering = call.entering(call.x, call.B, _state(initial_state))
    dy, dz = _tiled(dout), x.new_empty(0, seq_len, n_heads, d_head)
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
    n_blocks = min(heads, max(1, -(-8 * processors(x.device) // programs)))
    heads_a_block = -(-heads // n_blocks)
    n_blocks = -(-heads // heads_a_block)
    dx = x.new_empty(x.shape)
    # What comes through the chunk's own tokens and through states lies side by side, and is added at the end.
    d_steps = call.floats(2, n_parts, *call.dt.shape)
    dA = call.floats(2, batch * n_chunks, n_heads, n_parts)
    dB, dC = (call.floats(2, n_blocks, *B.shape) for _ in range(2))
    dD = None if D is None else call.floats(batch * n_chunks, n_heads, d_head)
    programs = batch * n_chunks * call.n_groups * n_blocks
    sizes = (
        *(batch, seq_len, n_heads, n_heads // call.n_groups, d_head, call.d_state),
        *(n_parts, n_blocks, heads_a_block),
    )
    launch(
        triton_gradients.token_gradients,
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
        triton_gradients.state_gradients,
        programs,
        *(call.x, dy, call.dt, call.high, call.low, call.A, call.C, call.runs, states, d_states),
        *(d_steps[1], dA[1], dB[1], dC[1]),
        *(*call.x.stride()[:3], *dy.stride()[:3], *call.C.stride()[:3], *sizes),
        **call.cut.options,
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


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.dt_softplus, ctx.has_final_state = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_of_forward(ctx: Any, dout: Tensor | None, dfinal: Tensor | None) -> tuple[Any, ...]:
    tensors = ctx.saved_tensors
    if dout is None:
        dout = torch.zeros_like(tensors[0])
    gradients = _backward(dout, dfinal if ctx.has_final_state else None, *tensors, ctx.dt_softplus)
    given = (None if x is None else gradient for x, gradient in zip(tensors[:9], gradients, strict=True))
    return (*given, None, None, None)


_forward.register_autograd(_backward_of_forward, setup_context=_setup_context)


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

"""Backend "triton" of `ssd`: the launches, as two custom ops of torch with fake tensors and autograd."""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._triton.launch import dense, launch, power, processors
from mambattn.ops.ssd_scan import triton_kernels as kernels

__all__ = ["ssd_triton"]

_LEAST = 16  # rows and columns that a matrix product takes
_JOIN = 256  # elements of a state that one program carries from segment to segment
_HEADS = 16  # heads whose step sizes one program takes
_TOKENS = 64  # tokens whose step sizes' gradients it takes


# Two programs of 4 warps a processor, or one of 8 that loads ahead; what spills less.
_TOKEN_GRADIENTS = {"num_warps": 4, "num_stages": 1}
_STATE_GRADIENTS = {"num_warps": 8, "num_stages": 2}


class Shape(NamedTuple):
    """Tokens, channels and states that a program takes at a time, and how."""

    Q: int
    P: int
    N: int


def _shape(dot: torch.dtype, d_head: int, d_state: int) -> Shape:
    states = power(max(d_state, _LEAST))
    wide = dot == torch.float32 or states > 128
    return Shape(Q=32 if wide else 64, P=min(power(max(d_head, _LEAST)), 32 if wide else 64), N=states)


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
        # Half precision has the digits of tf32, which has the range of float32.
        types = {x.dtype, B.dtype, C.dtype}
        self.dot = torch.bfloat16 if types == {torch.bfloat16} else torch.float32
        precision = {"DOT": tl.float32, "PRECISION": "tf32x3"}
        if types == {torch.bfloat16}:
            precision = {"DOT": tl.bfloat16, "PRECISION": "ieee"}
        elif types == {torch.float16}:
            precision["PRECISION"] = "tf32"
        self.precision = precision
        self.x, self.raw, self.B, self.C = dense(x), dt, dense(B), dense(C)
        self.A = A.float().contiguous()
        self.D = None if D is None else D.float().reshape(self.n_heads, -1).expand(-1, self.d_head)
        self.bias = None if dt_bias is None else dt_bias.float().contiguous()
        self.runs = None if seq_idx is None else _runs(seq_idx)
        self.shape = _shape(self.dot, self.d_head, self.d_state)
        self.n_parts = -(-self.d_head // self.shape.P)
        # Sequences are cut only as far as rows and heads leave processors without two programs, of two chunks at least.
        programs = max(self.batch * self.n_heads * self.n_parts, 1)
        chunks = -(-self.seq_len // self.shape.Q)
        n_segments = max(1, min(2 * processors(x.device) // programs, chunks // 2))
        self.segment_len = -(-chunks // n_segments) * self.shape.Q
        self.n_segments = -(-self.seq_len // self.segment_len)
        self.softplus = dt_softplus
        self.dt, self.high = (self.floats(self.batch, self.n_heads, self.seq_len) for _ in range(2))
        self.low = torch.empty_like(self.high) if precision["PRECISION"] == "tf32x3" else None
        self.head_blocks = -(-self.n_heads // _HEADS)
        launch(
            kernels.decays,
            self.batch * chunks * self.head_blocks,
            *(dt, self.A, self.bias, self.dt, self.high, self.low, *dt.stride()),
            *(self.seq_len, self.n_heads, self.head_blocks),
            Q=self.shape.Q,
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
            **self.shape._asdict(),
            **self.precision,
            STAGES=2,
            num_warps=4,
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
            kernels.sweep,
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
            kernels.join_segments,
            self.batch * self.n_heads * -(-d_all // _JOIN),
            *(states, kept, initial, self.n_segments, self.n_heads, d_all),
            REVERSE=reverse,
            BLOCK=_JOIN,
            num_warps=4,
        )
        return states

    def forward(self, z: Tensor | None, entering: Tensor | None, final: Tensor | None = None) -> Tensor:
        y = self.x.new_empty(self.x.shape)
        z = None if z is None else dense(z)
        self.run(
            kernels.forward,
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
            kernels.step_gradients,
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
    dy, dz = dense(dout), x.new_empty(0, seq_len, n_heads, d_head)
    if z is not None:
        dy, dz = _through_gate(dout, call.forward(None, entering), z)
    n_chunks = -(-seq_len // call.shape.Q)
    states, d_states = (call.states(batch, n_chunks, dtype=call.dot) for _ in range(2))
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
    options = {**call.shape._asdict(), **call.precision}
    launch(
        kernels.token_gradients,
        programs,
        *(call.x, dy, call.dt, call.high, call.low, call.A, call.B, call.C, call.D, call.runs, d_states),
        *(dx, d_steps[0], dA[0], dB[0], dC[0], dD),
        *(*call.x.stride()[:3], *dy.stride()[:3], *call.B.stride()[:3], *call.C.stride()[:3]),
        *((0, 0) if call.D is None else call.D.stride()),
        *sizes,
        **options,
        **_TOKEN_GRADIENTS,
    )
    launch(
        kernels.state_gradients,
        programs,
        *(call.x, dy, call.dt, call.high, call.low, call.A, call.C, call.runs, states, d_states),
        *(d_steps[1], dA[1], dB[1], dC[1]),
        *(*call.x.stride()[:3], *dy.stride()[:3], *call.C.stride()[:3], *sizes),
        **options,
        **_STATE_GRADIENTS,
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

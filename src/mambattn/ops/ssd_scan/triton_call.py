"""A call of `ssd` as the GPU kernels take it, and the launches that its forward and its backward share."""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from mambattn.ops._custom import begins, dense
from mambattn.ops._triton.launch import launch, power, processors
from mambattn.ops.ssd_scan import triton_gradients, triton_kernels

_LEAST = 16  # rows and columns that a matrix product takes
_JOIN = 256  # elements of a state that one program carries from segment to segment
_HEADS = 16  # heads whose step sizes one program takes
_TOKENS = 64  # tokens whose step sizes' gradients it takes
_TOKENS_A_CHUNK = 64  # at most
_FEW_TOKENS = 32


class Cut(NamedTuple):
    """What a program takes at a time: tokens, channels and states; and the warps and loads ahead of each kernel."""

    Q: int
    P: int
    N: int
    state_block: int  # the states that `state_gradients` takes
    precision: str
    sweep: dict[str, int]
    token_gradients: dict[str, int]
    state_gradients: dict[str, int]

    @property
    def options(self) -> dict[str, Any]:
        """Constants that all kernels take."""
        dot = tl.bfloat16 if self.precision == "ieee" else tl.float32
        return {"Q": self.Q, "P": self.P, "N": self.N, "DOT": dot, "PRECISION": self.precision}


def _cut(types: set[torch.dtype], seq_len: int, d_head: int, d_state: int) -> Cut:
    """Choose by what spills the fewest registers; products in float32 are sums of products of bfloat16 parts."""
    precision = "bf16x6"
    if torch.float32 not in types:
        # Over few tokens the rounding of a state does not average out in sums that cancel.
        precision = "ieee" if types == {torch.bfloat16} and seq_len > _FEW_TOKENS else "bf16x3"
    states, channels = (power(max(size, _LEAST)) for size in (d_state, d_head))
    eight = ({"num_warps": 8, "STAGES": 1}, {"num_warps": 8, "num_stages": 1}, {"num_warps": 8, "num_stages": 1})
    if precision != "ieee":
        # No product of 64 rows, which is what goes to the matrix unit of a warp group: with as many spilled registers
        # as the parts of float32 cost, triton 3.6's assembler then makes programs that add up wrong, or that read
        # memory which is not theirs. They are right when it does not optimise.
        return Cut(32, min(channels, 32), states, min(states, 32), precision, *eight)
    if states > 128:
        return Cut(64, min(channels, 32), states, states, precision, *eight)
    kernels = ({"num_warps": 4, "STAGES": 2}, {"num_warps": 4, "num_stages": 1}, {"num_warps": 8, "num_stages": 2})
    return Cut(64, min(channels, 64), states, states, precision, *kernels)


def tiled(x: Tensor) -> Tensor:
    """Give a tensor (batch, seq_len, …) whose last axis is contiguous, and whose chunks span less than 2³¹ numbers."""
    return dense(x if x.stride(1) < 2**31 // _TOKENS_A_CHUNK else x.contiguous())


class Call:
    """The arguments of a call as the kernels take them, and how its sequences are cut into segments.

    Parameters
    ----------
    x, dt, B, C : Tensor
        Input (batch, seq_len, n_heads, d_head), step sizes, and maps (batch, seq_len, n_groups, d_state).
    A : Tensor
        Decay rates (n_heads,).
    D, dt_bias, seq_idx : Tensor or None
        As `mambattn.ops.ssd` takes them.
    dt_softplus : bool
        Whether the step size goes through softplus.
    """

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
        self.cut = _cut({x.dtype, B.dtype, C.dtype}, self.seq_len, self.d_head, self.d_state)
        self.x, self.raw, self.B, self.C = tiled(x), dt, tiled(B), tiled(C)
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
        """Give the numbers that the kernels over segments take."""
        return (
            *(self.seq_len, self.segment_len, self.n_segments, self.n_heads, self.n_heads // self.n_groups),
            *(self.d_head, self.d_state, self.n_parts),
        )

    def floats(self, *shape: int) -> Tensor:
        """Make room for numbers."""
        return self.A.new_empty(shape)

    def states(self, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Make room for the states of all heads."""
        return self.A.new_empty((*leading, self.n_heads, self.d_head, self.d_state), dtype=dtype)

    def run(self, kernel: Any, *arguments: Any, **options: Any) -> None:
        """Run a kernel over all segments."""
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
        """Carry Σ value ⊗ key through each segment, and write the states that leave it and those between its chunks."""
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
        """Give the output, and write the last state to `final`."""
        y = self.x.new_empty(self.x.shape)
        z = None if z is None else tiled(z)
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
    return begins(seq_idx).cumsum(1, dtype=torch.int32).contiguous()

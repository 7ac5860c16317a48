"""A scan as the GPU kernels take it: pointers, strides and flags, and how the work is cut into programs."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._custom import begins, dense
from mambattn.ops._triton.launch import power, processors

PROGRAMS = 8
"""Programs that a multiprocessor holds at once, given their registers."""


class Shape(NamedTuple):
    """What a program, which is one warp, holds: `tile` steps, `lanes` states, `width` channels for each of `folds`."""

    tile: int
    folds: int
    lanes: int
    width: int


class Cut(NamedTuple):
    """A `Shape` fitted to a call, and how many programs there are along channels and time."""

    shape: Shape
    n_blocks: int
    n_tiles: int
    n_chunks: int
    chunk_tiles: int

    def options(self) -> dict[str, int]:
        """Give the constants of a kernel."""
        tile, folds, lanes, width = self.shape
        return {"T": tile, "W": folds, "N_LANES": lanes, "J": width, "num_warps": 1}


class Call:
    """The arguments of a scan.

    Parameters
    ----------
    u, dt : Tensor
        Input and step sizes (batch, seq_len, d_inner).
    A : Tensor
        Decay rates (d_inner, d_state).
    B, C : Tensor
        Maps (batch, seq_len, n_groups, d_state).
    D, z, dt_bias, seq_idx : Tensor or None
        As `mambattn.ops.selective_scan` takes them.
    dt_softplus : bool
        Whether the step size goes through softplus.
    reverse : bool
        Whether the scan starts at the last token.
    """

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
        self.reset = None if seq_idx is None else begins(seq_idx.flip(1) if reverse else seq_idx).to(torch.uint8)
        nothing = self.A  # stands where a kernel reads no pointer
        starts: list[Tensor] = []
        self.strides: list[int] = []
        for x in (u, dt, z, dense(B.float()), dense(C.float())):
            start, *strides = (nothing, 0, 0) if x is None else self.rows(x)
            starts.append(start)
            self.strides += strides if x is None or x.ndim == 3 else (*strides, x.stride(2))
        u_p, dt_p, z_p, B_p, C_p = starts
        D_p, bias_p = (nothing if x is None else x.float().contiguous() for x in (D, dt_bias))
        self.pointers = (u_p, dt_p, z_p, self.A, B_p, C_p, D_p, bias_p, nothing if self.reset is None else self.reset)
        self.flags = {
            "SOFTPLUS": dt_softplus,
            "HAS_D": D is not None,
            "HAS_BIAS": dt_bias is not None,
            "HAS_Z": z is not None,
            "HAS_RESET": self.reset is not None,
        }

    def rows(self, x: Tensor) -> tuple[Tensor, int, int]:
        """Give where the first token scanned lies, and the distances between rows and between tokens."""
        x = dense(x)
        batch, time = x.stride()[:2]
        return (x[:, -1:], batch, -time) if self.reverse else (x, batch, time)

    def floats(self, *shape: int) -> Tensor:
        """Make room for numbers (batch, *shape)."""
        return self.A.new_empty(self.batch, *shape)

    def states(self, n: int, at: int, state: Tensor | None, *, zeros: bool = False) -> Tensor:
        """Make room for n states a row, the one `at` set to that given or to zero; with `zeros` the others too."""
        states = self.floats(n, self.d_state, self.d_inner)
        if zeros:
            states.zero_()
        elif state is None:
            states[:, at].zero_()
        if state is not None:
            states[:, at] = state.transpose(1, 2)
        return states

    def cut(self, shape: Shape, fewest_chunks: int) -> Cut:
        """Fit a shape to the call; where rows and channels leave the GPU idle, time is cut too.

        Chunks cost a pass of their own over the decays, so there must be some number of them to gain by. One program
        too many would wait for all others to end, so their number is rounded down.
        """
        tile = max(2, min(power(self.seq_len), shape.tile))
        shape = shape._replace(tile=tile, lanes=min(power(self.d_state), shape.lanes))
        n_blocks = -(-self.d_group // (shape.folds * shape.width))
        n_tiles = -(-self.seq_len // tile)
        programs = max(1, self.batch * self.n_groups * n_blocks)
        n_chunks = min(PROGRAMS * processors(self.A.device) // programs, n_tiles // 4)
        n_chunks = n_chunks if n_chunks >= fewest_chunks else 1
        chunk_tiles = -(-n_tiles // n_chunks)
        return Cut(shape, n_blocks, n_tiles, -(-n_tiles // chunk_tiles), chunk_tiles)

    def programs(self, cut: Cut, n_run: int) -> int:
        """Count the programs over `n_run` chunks."""
        return self.batch * n_run * self.n_groups * cut.n_blocks

    def sizes(self, cut: Cut, n_slots: int, first_chunk: int, n_run: int) -> tuple[int, ...]:
        """Give the numbers that both kernels take."""
        return (
            *(self.seq_len, self.d_inner, self.d_group, self.d_state, self.n_groups, cut.n_blocks),
            *(cut.n_chunks, cut.chunk_tiles, cut.n_tiles, n_slots, first_chunk, n_run),
        )

    def keep(self, cut: Cut) -> Tensor | None:
        """Say through which chunks a state passes, as no sequence begins there."""
        if self.reset is None:
            return None
        missing = cut.n_chunks * cut.chunk_tiles * cut.shape.tile - self.seq_len
        return (pad(self.reset, (0, missing)).unflatten(1, (cut.n_chunks, -1)).amax(2) == 0).to(torch.uint8)

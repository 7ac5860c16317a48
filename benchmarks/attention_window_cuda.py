"""Ways to attend within a window on a GPU, timed against each other.

Run it as a script on a machine with CUDA for a table: medians in ms, forward / forward + backward, 16 heads of 64,
bfloat16. "blocks" and "varlen" are what `attention` can choose from; "SDPA" is torch's kernel without the window,
"flex" is FlexAttention. Each is first checked against the definition on a short sequence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from mambattn.ops import attention
from mambattn.ops.attend import vectorised
from mambattn.ops.attend.varlen import attend_varlen

SHAPES = ((1, 512, 64), (8, 512, 64), (1, 2048, 256), (1, 2048, 1024), (1, 8192, 1024), (1, 32768, 1024))
N_HEADS, D_HEAD = 16, 64
SCALE = D_HEAD**-0.5
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def heads_first(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def blocks(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window: int) -> Tensor:
    rows = vectorised._windowed(*heads_first(q, k, v), causal, window, 0, SCALE, 0.0)
    return torch.cat(rows, dim=2).transpose(1, 2)


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window: int) -> Tensor:
    return F.scaled_dot_product_attention(*heads_first(q, k, v), is_causal=causal).transpose(1, 2)


def varlen(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window: int) -> Tensor:
    return attend_varlen(q, k, v, causal, window, SCALE)


def window_mask(seq_len: int, *, causal: bool, window: int) -> BlockMask:
    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = (i - j).abs() < window
        return near & (j <= i) if causal else near

    return create_block_mask(seen, None, None, seq_len, seq_len, device="cuda")


def make_flex(seq_len: int, *, causal: bool, window: int) -> Attend:
    mask, compiled = window_mask(seq_len, causal=causal, window=window), torch.compile(flex_attention)

    def flex(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return compiled(*heads_first(q, k, v), block_mask=mask).transpose(1, 2)

    return flex


def contenders(seq_len: int, *, causal: bool, window: int) -> dict[str, Attend]:
    here = {"causal": causal, "window": window}
    fixed = {name: partial(way, **here) for name, way in (("SDPA", sdpa), ("blocks", blocks), ("varlen", varlen))}
    return {**fixed, "flex": make_flex(seq_len, **here)}


def draw(batch: int, seq_len: int) -> list[Tensor]:
    shape = (batch, seq_len, N_HEADS, D_HEAD)
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]


def check(*, causal: bool, window: int) -> None:
    """Raise unless every way that knows the window gives what the definition gives, on a sequence of 2048."""
    q, k, v = draw(1, 2048)
    exact = (x.detach().double() for x in (q, k, v))
    want = attention(*exact, causal=causal, window=window, backend="reference")
    for name, attend in contenders(2048, causal=causal, window=window).items():
        error = (attend(q, k, v).double() - want).norm() / want.norm()
        if name != "SDPA" and error > 1e-2:
            raise SystemExit(f"{name} is wrong by {error:.1e} with causal={causal}, window={window}: no times.")


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Give the median time of a call, between events of the GPU, after two calls that are not timed."""
    times = []
    for i in range(repeats + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if i >= 2:
            times.append(start.elapsed_time(end))
    return median(times)


def measure(batch: int, seq_len: int, *, causal: bool, window: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Time each way at one shape: forward, and forward + backward."""
    tensors = draw(batch, seq_len)
    gradient = torch.randn_like(tensors[0])
    times = {}
    for name, attend in contenders(seq_len, causal=causal, window=window).items():

        def both(attend: Attend = attend) -> None:
            torch.autograd.grad(attend(*tensors), tensors, gradient)

        with torch.no_grad():
            forward = milliseconds(partial(attend, *tensors), repeats)
        times[name] = (forward, milliseconds(both, repeats))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name()
    table = Table(title=f"Windowed attention, {device}, torch {torch.__version__}: ms forward / forward + backward")
    for column in ("batch × seq_len", "window", "causal", "SDPA", "blocks", "varlen", "flex"):
        table.add_column(column, justify="right")
    rows = []
    for causal in (True, False):
        for window in sorted({window for *_, window in SHAPES}):
            check(causal=causal, window=window)
        for batch, seq_len, window in SHAPES:
            torch.compiler.reset()
            times = measure(batch, seq_len, causal=causal, window=window, repeats=arguments.repeats)
            cells = (f"{forward:.3f} / {both:.3f}" for forward, both in times.values())
            table.add_row(f"{batch} × {seq_len}", str(window), str(causal), *cells)
            rows.append({"batch": batch, "seq_len": seq_len, "window": window, "causal": causal, "ms": times})
    Console(width=140).print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"device": device, "torch": torch.__version__, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

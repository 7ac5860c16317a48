"""How the time and memory of attention grow with the length of the sequence.

Run it as a script, on Linux, for a table: CPU time of one thread, the least of several repeats, and the peak memory of
a process of its own for each cell, forward and backward; and the exponent of a power law fitted to each row.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mambattn.ops import attention

REACHES = {
    "dense, causal": {"causal": True},
    "window 128, causal": {"causal": True, "window": 128},
    "window 128": {"window": 128},
    "window 128, 8 global, causal": {"causal": True, "window": 128, "n_global": 8},
    "window 128, 8 global": {"window": 128, "n_global": 8},
}
SEQ_LENS = (1024, 2048, 4096, 8192, 16384)


@dataclass(frozen=True)
class Scaling:
    """One kind of attention: CPU seconds and peak MiB at each length, and their exponents in the length."""

    reach: str
    seq_lens: tuple[int, ...]
    seconds: tuple[float, ...]
    mebibytes: tuple[float, ...]

    @property
    def time_exponent(self) -> float:
        return exponent(self.seq_lens, self.seconds)

    @property
    def memory_exponent(self) -> float:
        return exponent(self.seq_lens, self.mebibytes)


def exponent(lengths: Sequence[float], costs: Sequence[float]) -> float:
    """Fit cost = c · length^e by least squares of the logarithms; give e."""
    x, y = [math.log(n) for n in lengths], [math.log(c) for c in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def own_mebibytes(key: str) -> float:
    """Give the memory of this process now (VmRSS) or at its peak (VmHWM).

    The peak of getrusage would count the process that started this one too.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def measure_here(reach: str, seq_len: int, repeats: int) -> dict[str, float]:
    """Run forward and backward in this process: least CPU seconds, and by how many MiB its peak memory rose."""
    torch.set_num_threads(1)

    def once(length: int) -> float:
        q, k, v = (torch.randn(1, length, 4, 64, requires_grad=True) for _ in range(3))
        start = time.process_time()
        attention(q, k, v, **REACHES[reach]).sum().backward()
        return time.process_time() - start

    once(300)  # loads the kernels, so that their memory is not counted
    before = own_mebibytes("VmRSS")
    first = once(seq_len)
    rise = own_mebibytes("VmHWM") - before  # later runs would add the allocator's leftovers of earlier ones
    return {"seconds": min([first, *(once(seq_len) for _ in range(repeats - 1))]), "mebibytes": rise}


def measure(reach: str, *, seq_lens: Sequence[int] = SEQ_LENS, repeats: int = 3) -> Scaling:
    """Measure one kind of attention, a process for each length."""
    cells = []
    for seq_len in seq_lens:
        command = [sys.executable, __file__, "--cell", reach, "--seq-len", str(seq_len), "--repeats", str(repeats)]
        cells.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds, mebibytes = (tuple(cell[key] for cell in cells) for key in ("seconds", "mebibytes"))
    return Scaling(reach, tuple(seq_lens), seconds, mebibytes)


def as_table(rows: Sequence[Scaling]) -> Table:
    """Lay the measurements out, a row for each kind of attention."""
    table = Table(title="Attention, forward + backward, 1 × 4 heads × 64, float32, one thread: CPU ms / peak MiB")
    table.add_column("reach")
    for seq_len in rows[0].seq_lens:
        table.add_column(str(seq_len), justify="right")
    table.add_column("exponent of time", justify="right")
    table.add_column("of memory", justify="right")
    for row in rows:
        cells = (f"{1000 * s:.0f} / {m:.0f}" for s, m in zip(row.seconds, row.mebibytes, strict=True))
        table.add_row(row.reach, *cells, f"{row.time_exponent:.2f}", f"{row.memory_exponent:.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=REACHES, help="measure one cell in this process and print it as JSON")
    parser.add_argument("--seq-len", type=int, default=SEQ_LENS[0], help="length of that cell")
    parser.add_argument("--repeats", type=int, default=3, help="runs of a cell, of which the fastest counts")
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(measure_here(arguments.cell, arguments.seq_len, arguments.repeats)))
    else:
        rows = [measure(reach, repeats=arguments.repeats) for reach in REACHES]
        Console(width=140).print(as_table(rows))


if __name__ == "__main__":
    main()

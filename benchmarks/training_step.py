"""Training steps of the default MambAttention on the CPU: how long they take, and where the time goes.

Run it as a script for a table: batches of 128 rows of random tables, one with the columns of adult (6 numbers, 8
categories) and one of 100 numbers; the step is forward, backward, clipped gradient and AdamW, as in the training loop.
The backends take turns in one process on one thread, after a check that their gradients agree; CPU time, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from mambattn.bench.machine import machine
from mambattn.configs import MambAttentionConfig, PreprocessingConfig, TrainerConfig
from mambattn.tabular import build_network, make_preprocessor
from mambattn.training import Rows, cross_entropy, make_optimizer, weighted_loss

BATCH = 128
TABLES = {"adult's columns": (6, (9, 16, 7, 15, 6, 5, 2, 42)), "100 numbers": (100, ())}
BACKENDS = ("auto", "torch")
PARTS = {
    "selective scan": ("mambattn::selective_scan", "mambattn_selective_scan"),
    "linear maps": ("mkldnn::_linear", "aten::mm", "aten::addmm", "OneDNN"),
    "attention": ("mambattn::attention", "mambattn_attention"),
    "convolution": ("mambattn::causal_conv1d", "mambattn_causal_conv1d"),
    "copies and concatenations": ("aten::copy_", "aten::cat"),
    "optimiser and clipping": ("aten::_fused_adamw", "Optimizer.", "aten::_foreach", "aten::linalg_vector_norm"),
}


class Training:
    """A network of its own for each backend, on the same rows from the same weights."""

    def __init__(self, table: str, backend: str) -> None:
        n_numbers, n_categories = TABLES[table]
        draw = np.random.default_rng(0)
        columns = {f"n{j}": draw.normal(size=4096) for j in range(n_numbers)}
        columns |= {f"c{j}": draw.integers(n, size=4096).astype(str) for j, n in enumerate(n_categories)}
        frame, target = pd.DataFrame(columns), draw.integers(2, size=4096)
        config = MambAttentionConfig()
        preprocessor = make_preprocessor(config, PreprocessingConfig(), 0).fit(frame, target)
        self.network = build_network(config, preprocessor, 2, torch.Generator().manual_seed(0))
        for module in self.network.modules():
            if hasattr(module, "backend"):
                vars(module)["backend"] = backend
        self.config = TrainerConfig()
        self.optimizer = make_optimizer(self.network, self.config)
        self.rows = Rows(preprocessor.transform(frame), torch.as_tensor(target), torch.ones(4096))
        self.n_steps = 0

    def differentiate(self) -> None:
        """Leave the gradients of the loss on the next rows."""
        start = self.n_steps * BATCH % len(self.rows)
        rows = self.rows.take(torch.arange(start, start + BATCH))
        self.optimizer.zero_grad(set_to_none=True)
        weighted_loss(cross_entropy(self.network(rows.batch), rows.targets), rows.weights).backward()

    def step(self) -> None:
        self.differentiate()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip or torch.inf)
        self.optimizer.step()
        self.n_steps += 1

    def gradients(self) -> torch.Tensor:
        """Give the gradients without dropout, which the backends draw differently."""
        self.network.eval()
        self.differentiate()
        self.network.train()
        return torch.cat([p.grad.flatten() for p in self.network.parameters() if p.grad is not None])


def check(trainings: dict[str, Training]) -> None:
    """Raise unless all backends give the same gradients."""
    want, *others = (training.gradients() for training in trainings.values())
    error = max(float((other - want).norm() / want.norm()) for other in others)
    if error > 1e-4:
        raise SystemExit(f"The gradients of the backends differ by {error:.1e}: no times.")


def milliseconds(trainings: dict[str, Training], rounds: int) -> dict[str, float]:
    """Give the median CPU time of a step with each backend, the backends in turn."""
    times: dict[str, list[float]] = {name: [] for name in trainings}
    for i in range(rounds + 2):
        for name, training in trainings.items():
            start = time.process_time()
            training.step()
            if i >= 2:
                times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def shares(training: Training, steps: int = 10) -> dict[str, float]:
    """Give the share of a step that each part takes itself, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            training.step()
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        part = next((part for part, names in PARTS.items() if any(name in event.key for name in names)), "the rest")
        spent[part] += event.self_cpu_time_total
    return {part: time / spent.total() for part, time in spent.most_common()}


def measure(table: str, rounds: int) -> dict[str, Any]:
    trainings = {backend: Training(table, backend) for backend in BACKENDS}
    check(trainings)
    return {"table": table, "ms": milliseconds(trainings, rounds), "shares": shares(trainings["auto"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="steps timed with each backend")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    about = machine()
    rows = [measure(table, arguments.rounds) for table in TABLES]
    console = Console(width=120)
    console.print(" · ".join(f"{name} {value}" for name, value in about.items()))
    times = Table(title=f"A training step of the default MambAttention, {BATCH} rows, one thread")
    for heading in ("table", "torch backend, ms", "auto, ms", "ratio", "auto, steps per second"):
        times.add_column(heading, justify="left" if heading == "table" else "right")
    for row in rows:
        torchs, auto = row["ms"]["torch"], row["ms"]["auto"]
        times.add_row(row["table"], f"{torchs:.0f}", f"{auto:.1f}", f"{torchs / auto:.2f}", f"{1000 / auto:.1f}")
    console.print(times)
    for row in rows:
        parts = Table(title=f"Where the time goes: {row['table']}")
        parts.add_column("part")
        parts.add_column("share", justify="right")
        for part, share in row["shares"].items():
            parts.add_row(part, f"{share:.0%}")
        console.print(parts)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

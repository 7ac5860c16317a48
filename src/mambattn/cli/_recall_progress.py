"""What ``mambattn recall`` says on standard error while it runs: a bar, and a line a cell."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mambattn.recall import Watcher
from mambattn.recall.outcome import Outcome

__all__ = ["Narrator"]


class Narrator(Watcher):
    """Tells how a study goes: lines for all, and on a terminal a bar that moves with every training step."""

    def __init__(self, train_length: int, n_steps: int) -> None:
        self._train_length, self._n_steps = train_length, n_steps
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("cells")
        self._n_done = self._n_cells = self.n_cut = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, n_cells: int, n_kept: int) -> None:
        """Say what an earlier run has left to do."""
        self._n_done, self._n_cells = n_kept, n_cells
        if n_kept:
            self._say(f"{n_kept} of {n_cells} cells {'is' if n_kept == 1 else 'are'} kept from an earlier run.")
        self._bar.update(self._task, completed=n_kept, total=n_cells)

    def step(self, task: str, arch: str, n_done: int, n_steps: int) -> None:
        """Show how far the cell under way is."""
        doing = f"step {n_done:,} of {n_steps:,}" if n_done < n_steps else "testing"
        done = self._n_done + n_done / n_steps
        self._bar.update(self._task, completed=done, description=f"{task}, {arch}: {doing}")

    def done(self, outcome: Outcome) -> None:
        """Write the line of a cell, and move the bar on."""
        rows = outcome.rows
        self._n_done += 1
        where = f"{rows[0].task}, {rows[0].arch}"
        took = f"{outcome.seconds:.{0 if outcome.seconds >= 10 else 1}f} s"
        if outcome.finished:
            means = {at: sum(row.accuracy[at] for row in rows) / len(rows) for at in rows[0].accuracy}
            told = ", ".join(f"{means[at]:.3f} at {at}" for at in sorted({self._train_length, max(means)}))
            solved = f"{sum(row.solved for row in rows)}/{len(rows)}"
            self._say(f"{where}: solved {solved}, accuracy {told}, lr {rows[0].lr:g}, in {took}")
        else:
            self.n_cut += 1
            self._say(f"{where}: cut by the time limit at step {rows[0].steps:,} of {self._n_steps:,}, after {took}")
        self._bar.update(self._task, completed=self._n_done, description="cells")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

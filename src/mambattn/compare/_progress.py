"""What a comparison says on standard error while it runs: a bar, and a line a fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mambattn.compare._board import seconds
from mambattn.compare.results import FoldResult
from mambattn.plots import format_number

__all__ = ["Reporter", "reporter"]


class Reporter:
    """Shows how far a comparison is: lines for all, and a bar on a terminal."""

    def __init__(self, console: Console, bar: Progress, metric: str, digits: int, n_fits: int, n_folds: int) -> None:
        self._console = console
        self._bar = bar
        self._task = bar.add_task("fits", total=n_fits)
        self._metric = metric
        self._digits = digits
        self._n_folds = n_folds

    def say(self, *lines: str) -> None:
        """Write lines."""
        for line in lines:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def done(self, result: FoldResult, score: float) -> None:
        """Write the line of a fit with its score, and move the bar on."""
        seed = f", seed {result.seed + 1}" if result.seed else ""
        epochs = "" if result.n_epochs is None else f", {result.n_epochs} epoch{'' if result.n_epochs == 1 else 's'}"
        cut = ", cut by the time limit" if result.cut_by_time else ""
        where = f"{result.model}, fold {result.fold + 1} of {self._n_folds}{seed}"
        found = f"{self._metric} {format_number(score, self._digits)}"
        self.say(f"{where}: {found} in {seconds(result.fit_seconds)}{epochs}{cut}")
        self._bar.advance(self._task)

    def already(self, n_fits: int) -> None:
        """Move the bar on by fits of an earlier run."""
        if n_fits:
            self.say(f"{n_fits} fits of an earlier run are kept.")
            self._bar.advance(self._task, n_fits)

    def doing(self, text: str) -> None:
        """Say beside the bar what is going on."""
        self._bar.update(self._task, description=text)


@contextmanager
def reporter(n_fits: int, metric: str, digits: int, n_folds: int, *, shown: bool) -> Iterator[Reporter]:
    """Report on `n_fits` while the block runs, to standard error; nothing unless `shown`."""
    console = Console(stderr=True, quiet=not shown)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        yield Reporter(console, bar, metric, digits, n_fits, n_folds)

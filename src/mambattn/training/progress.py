"""The progress bar of a fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

Report = Callable[[int, float, float], None]


@contextmanager
def progress_bar(max_epochs: int, *, shown: bool) -> Iterator[Report]:
    """Draw a progress bar on the standard error stream, where that is a terminal.

    Parameters
    ----------
    max_epochs : int
        Length of the bar.
    shown : bool
        Whether a bar is wanted at all.

    Yields
    ------
    callable
        To be called with the epoch (from 1), its training loss and its validation loss.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda epoch, train_loss, val_loss: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=max_epochs)

        def report(epoch: int, train_loss: float, val_loss: float) -> None:
            bar.update(task, completed=epoch, description=f"train {train_loss:.4f}  validation {val_loss:.4f}")

        yield report

"""The table of a study: for each task and architecture, how many seeds solved it, and the accuracy by length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import RenderableType

from mambattn.recall import _table
from mambattn.recall.statistics import bootstrap_interval

if TYPE_CHECKING:
    from mambattn.recall.results import Row

__all__ = ["CellSummary", "LengthSummary", "Summary", "summarise_cell"]


@dataclass(frozen=True)
class LengthSummary:
    """The accuracy of one architecture at one length, over seeds.

    Parameters
    ----------
    seq_len : int
        The length.
    mean, min, max : float
        Mean, lowest and highest over the seeds.
    low, high : float
        95 % percentile-bootstrap interval of the mean; NaN for one seed. See `bootstrap_interval`.
    """

    seq_len: int
    mean: float
    min: float
    max: float
    low: float
    high: float


@dataclass(frozen=True)
class CellSummary:
    """One architecture on one task: a line of the table.

    Parameters
    ----------
    task, arch : str
        Names.
    finished : bool
        Whether every seed ran to its last step.
    n : int
        Number of seeds; 0 where the cell is unfinished.
    n_solved : int
        Seeds with an accuracy of at least 0.99 at the training length.
    lengths : tuple of LengthSummary
        The accuracy by length; empty where the cell is unfinished, so that nothing ranks it.
    """

    task: str
    arch: str
    finished: bool
    n: int
    n_solved: int
    lengths: tuple[LengthSummary, ...]


@dataclass(frozen=True)
class Summary(_table.Printed):
    """The table of a study; it prints itself, with ``print`` and on a rich console.

    Parameters
    ----------
    cells : tuple of CellSummary
        A line for each task and architecture, in the order of the study.
    train_length : int or None
        Length of the training sequences; None where the results do not say.
    chance : mapping of str to float
        Accuracy of the best guess without looking, by task; a task of one's own has none.
    """

    cells: tuple[CellSummary, ...]
    train_length: int | None
    chance: Mapping[str, float]

    def __iter__(self) -> Iterator[CellSummary]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def _draw(self, width: int) -> Iterator[RenderableType]:
        return _table.draw_summary(self, width)


def summarise_cell(task: str, arch: str, rows: Sequence[Row], lengths: Sequence[int]) -> CellSummary:
    """Summarise the seeds of one architecture on one task.

    Parameters
    ----------
    task, arch : str
        Names.
    rows : sequence of Row
        Its seeds; empty where the cell is unfinished.
    lengths : sequence of int
        Lengths at which all of them were tested.

    Returns
    -------
    CellSummary
        The line.
    """
    if not rows:
        return CellSummary(task, arch, finished=False, n=0, n_solved=0, lengths=())
    values = np.array([[row.accuracy[length] for length in lengths] for row in rows])
    columns = (values.mean(axis=0), values.min(axis=0), values.max(axis=0), *bootstrap_interval(values))
    by_length = zip(lengths, *(column.tolist() for column in columns), strict=True)
    summaries = tuple(LengthSummary(*each) for each in by_length)
    return CellSummary(task, arch, True, len(rows), sum(row.solved for row in rows), summaries)

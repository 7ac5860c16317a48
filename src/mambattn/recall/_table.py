"""How the results look in a terminal."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mambattn._plain import PlainData, as_text

if TYPE_CHECKING:
    from mambattn.recall.links import Link, Links
    from mambattn.recall.summary import CellSummary, Summary

__all__ = ["Printed", "draw_links", "draw_summary"]

_STYLES = {"holds": "green", "reversed": "red", "tie": "yellow", "undecided": "dim"}
_FIGURES = 21  # "−.008  −.054 to +.039"
_OTHERS = _FIGURES + 17  # with the gaps, the indent and "undecided:"
_LISTED = 8


def accuracy_text(value: float, *, signed: bool = False) -> str:
    """Write an accuracy in four places, ``.712`` or ``1.00``, and a difference with its sign in five."""
    digits = f"{abs(value):.3f}"
    text = digits[:-1] if digits.startswith("1") else digits[1:]
    if not signed:
        return text
    return f"{'−' if value < 0 and float(digits) else '+'}{text}"


class Printed(PlainData, abc.ABC):
    """Plain data that prints itself: without colours and 80 columns wide with ``print``, and on a rich console."""

    @abc.abstractmethod
    def _draw(self, width: int) -> Iterator[RenderableType]:
        """Draw a block for each task, as wide as the console allows."""

    def __str__(self) -> str:
        return as_text(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw on a rich console."""
        return self._draw(options.max_width)


def draw_summary(summary: Summary, width: int) -> Iterator[Text]:
    """Draw a block for each task."""
    for task in dict.fromkeys(cell.task for cell in summary):
        title = f"{task}: accuracy by length"
        title += f", trained at {summary.train_length}" if summary.train_length else ""
        title += f", chance {accuracy_text(summary.chance[task])}" if task in summary.chance else ""
        yield Text(title, style="bold underline")
        yield from _block([cell for cell in summary if cell.task == task], width)
        yield Text()
    if any(cell.n > 1 for cell in summary):
        yield Text("mean, range and 95 % bootstrap interval of the mean over seeds", style="dim")


_WIDE = (("min–max", ("min", "max")), ("95 %", ("low", "high")))
_NARROW = (("min", ("min",)), ("max", ("max",)), ("95 % from", ("low",)), ("95 % to", ("high",)))
"""Lines below the mean: a label, and the fields of `LengthSummary` that it stands for."""
_STUB, _WIDE_COLUMN, _NARROW_COLUMN = 14, 11, 6


def _block(cells: Sequence[CellSummary], width: int) -> Iterator[Text]:
    """Draw one task: ranges in one line where all lengths fit so, else an end a line, else in several parts."""
    lengths = next(([at.seq_len for at in cell.lengths] for cell in cells if cell.finished), [])
    is_wide = _STUB + _WIDE_COLUMN * len(lengths) <= width
    spread, column = (_WIDE, _WIDE_COLUMN) if is_wide else (_NARROW, _NARROW_COLUMN)
    fit = max(1, (width - _STUB) // column)
    for start in range(0, max(1, len(lengths)), fit):
        part = slice(start, start + fit)
        yield Text(f"{'solved':>{_STUB}}" + "".join(f"{length:>{column}}" for length in lengths[part]), style="dim")
        for cell in cells:
            name, solved = cell.arch, f"{cell.n_solved}/{cell.n}"
            if not cell.finished:
                yield Text.assemble((name, "bold"), ("  unfinished", "yellow"))
                continue
            if len(f"{name} {solved}") > _STUB:
                yield Text(name, style="bold")
                name = ""
            means = "".join(f"{accuracy_text(at.mean):>{column}}" for at in cell.lengths[part])
            yield Text(f"{name}{solved:>{_STUB - len(name)}}{means}", style="bold")
            for label, fields in spread if cell.n > 1 else ():
                ends = ("–".join(accuracy_text(getattr(at, name)) for name in fields) for at in cell.lengths[part])
                figures = "".join(f"{text:>{column}}" for text in ends)
                yield Text(f"  {label:<{_STUB - 2}}{figures}", style="dim")


def draw_links(links: Links, width: int) -> Iterator[RenderableType]:
    """Draw a block for each task."""
    at = links.lengths
    where = ", ".join(map(str, at)) if len(at) <= _LISTED else f"{len(at)} lengths from {at[0]} to {at[-1]}"
    yield Text(f"Claimed links: mean accuracy at {where or 'no length'}", style="bold underline")
    if not len(links):
        yield Text("No claim is about two architectures of this study.", style="dim")
        return
    widest = max(len(_claim(link)) for link in links)
    for task in dict.fromkeys(link.task for link in links):
        yield Text(task, style="bold")
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=min(widest, width // 3 - 1, max(8, width - _OTHERS)), overflow="fold")
        table.add_column(width=_FIGURES, no_wrap=True)
        table.add_column(overflow="fold")
        for link in (link for link in links if link.task == task):
            answer = Text.assemble((link.verdict, _STYLES[link.verdict]), f": {link.reason}")
            table.add_row(Text(_claim(link)), _figures(link), answer)
        yield Padding(table, (0, 0, 0, 2))
    yield Text("right − left over paired seeds, with its 95 % interval by Student's t", style="dim")


def _claim(link: Link) -> str:
    return f"{link.left} {link.claim} {link.right}"


def _figures(link: Link) -> str:
    if not link.n:
        return ""
    difference, low, high = (accuracy_text(each, signed=True) for each in (link.difference, link.low, link.high))
    return f"{difference}  {low} to {high}" if math.isfinite(link.low) else difference

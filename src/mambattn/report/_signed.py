"""Tables of numbers with signs: cells in the strength of their colour, and bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mambattn.plots import figures_of_three
from mambattn.report._markup import cell, table

__all__ = ["bars", "heat", "number", "span"]


def number(value: float, *, signed: bool = False) -> str:
    """Return a cell with a number of three figures, with a plus where signs matter."""
    return cell(("+" if signed and value > 0 else "") + figures_of_three(value), value=float(value))


def span(low: float, high: float) -> str:
    """Return a cell with both ends of a range."""
    return cell(f"{figures_of_three(low)} to {figures_of_three(high)}", value=float(low))


def bars(name: str, caption: str, columns: Mapping[str, str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table whose second column has bars; long ones scroll in themselves."""
    return f'<div class="bars">{table(name, caption, columns, rows)}</div>'


def heat(
    name: str,
    caption: str,
    corner: str,
    columns: Mapping[str, str],
    rows: Mapping[str, Iterable[tuple[float, str, bool]]],
) -> str:
    """Return a matrix as a table; each row has a number, its text and whether it is coloured, for each column.

    Colours are as strong as the number is beside the largest coloured one.
    """
    cells = {row: list(given) for row, given in rows.items()}
    reach = max((abs(value) for given in cells.values() for value, _, colored in given if colored), default=0.0) or 1.0
    lines = (
        (
            cell(row, head=True),
            *(
                cell(text, value=float(value), share=value / reach if colored else None)
                for value, text, colored in given
            ),
        )
        for row, given in cells.items()
    )
    return f'<div class="heat">{table(name, caption, {corner: "Sorts by name"} | dict(columns), lines)}</div>'

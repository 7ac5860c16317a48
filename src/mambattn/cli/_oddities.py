"""What a table holds that its owner may not mean: told on standard error, and used all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mambattn.cli._group import note

if TYPE_CHECKING:
    import pandas as pd

    from mambattn.cli._tables import Table

__all__ = ["note_oddities"]

_NUMBER_LIKE = r"\W*\d"
"""How numbers, dates, amounts and percentages begin."""

_FEW_ROWS = 20


def note_oddities(table: Table) -> None:
    """Tell what was left out of a table, and which of its columns may be meant otherwise."""
    from pandas.api.types import infer_dtype

    if table.n_untargeted:
        note(f"{table.n_untargeted:,} rows without a value of {table.target!r} are left out.")
    for column in table.unnamed:
        note(
            f"A column without a name, here called {column!r}, is used to predict. If it only numbers the rows, leave "
            f"it out: --drop {column!r}."
        )
    for name, column in table.X.items():
        if infer_dtype(column, skipna=True) == "string":
            _note_text(str(name), column.dropna().astype(str))


def _note_text(name: str, cells: pd.Series) -> None:
    """Tell of a column of text that looks like a quantity, or like a name of each row."""
    from mambattn.compare._task import first_text

    n_distinct = cells.nunique()
    if cells.str.match(_NUMBER_LIKE).mean() > 0.5:
        note(
            f"Column {name!r} holds text such as {first_text(cells)[:40]!r}, so it is taken for categories, "
            f"{n_distinct:,} of them. If it is a quantity, write every cell as a number, or leave it empty."
        )
    elif len(cells) > _FEW_ROWS and n_distinct > len(cells) / 2:
        note(
            f"Column {name!r} holds {n_distinct:,} distinct texts in {len(cells):,} rows, each a category of its own. "
            f"Leave it out, --drop {name!r}, or turn it into numbers."
        )

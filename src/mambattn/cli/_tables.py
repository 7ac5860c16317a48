"""Tables with a target, from files or bundled; every fault is named in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambattn._checks import did_you_mean
from mambattn._errors import DataError
from mambattn.cli._files import BUNDLED, read_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "Table", "read_table", "read_target_table", "refuse_infinite"]

_EXACT = 2**53  # whole numbers below it are exact as floats


@dataclass(frozen=True, eq=False)
class Table:
    """A table with its target: `X`, `y`, and what to call the two."""

    X: pd.DataFrame
    y: pd.Series
    name: str
    n_untargeted: int
    unnamed: tuple[str, ...]
    """Columns whose name was empty, as pandas calls them; most often the row numbers of a frame that was saved."""

    @property
    def target(self) -> str:
        """Name of the target."""
        return str(self.y.name)


def read_target_table(
    data: str, target: str | None, *, drop: Sequence[str] = (), categorical: Sequence[str] = ()
) -> Table:
    """Read a file, or load a bundled table, and split off its target; rows without a target are left out."""
    if data in BUNDLED:
        from mambattn.compare.bundled import load_bundled

        X, y = load_bundled(data)
        if target not in (None, y.name):
            raise DataError(f"The target of {data} is {y.name!r}, however --target is {target!r}. Leave --target out.")
        name = data
    else:
        frame = read_table(data)
        if target not in frame.columns:
            refuse_one_column(frame, data)
        if target is None:
            raise DataError(f"Say which column to predict: --target COLUMN. {_columns(frame.columns)}")
        check_known([target], frame.columns, "--target")
        y, X, name = frame.pop(target), frame, Path(data).name
    check_known(drop, X.columns, "--drop", target=str(y.name))
    check_known(categorical, X.columns.drop(list(drop)), "--categorical", target=str(y.name))
    X = X.drop(columns=list(drop))
    if X.shape[1] == 0:
        raise DataError(
            f"{data} has no column to predict {str(y.name)!r} from. Give a table with at least two columns."
        )
    refuse_infinite(X, data)
    present = y.notna().to_numpy().nonzero()[0]
    if not len(present):
        raise DataError(f"The target {str(y.name)!r} is missing in every row. Name another column with --target.")
    infinite = _first_infinite(y)
    if infinite is not None:
        raise DataError(
            f"The target {str(y.name)!r} holds infinite values. Row {infinite + 1} is the first: use a number, or "
            "leave the cell empty."
        )
    rows, kept = X.iloc[present].reset_index(drop=True), y.iloc[present].reset_index(drop=True)
    if kept.dtype.kind == "f" and len(kept) < len(y) and ((kept % 1 == 0) & (kept.abs() < _EXACT)).all():
        kept = kept.astype("int64")  # only its empty cells had made them floats: labels are 0 and 1, not 0.0 and 1.0
    unnamed = tuple(column for column in map(str, X.columns) if column.startswith("Unnamed: "))
    return Table(X=rows, y=kept, name=name, n_untargeted=len(y) - len(kept), unnamed=unnamed)


def refuse_one_column(frame: pd.DataFrame, data: str) -> None:
    """Refuse a table of one column that should have more: its separator is another."""
    if frame.shape[1] == 1:
        raise DataError(
            f"{data} has one column, {str(frame.columns[0])!r}. Separate columns with commas, semicolons or tabs."
        )


def _first_infinite(column: pd.Series) -> int | None:
    """Return the position of the first infinite number in a column, or None."""
    import numpy as np

    if column.dtype.kind != "f":
        return None
    infinite = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan)).nonzero()[0]
    return int(infinite[0]) if len(infinite) else None


def refuse_infinite(frame: pd.DataFrame, data: str) -> None:
    """Refuse an infinite number by its row in the file, which no later step knows."""
    for name, column in frame.items():
        row = _first_infinite(column)
        if row is not None:
            raise DataError(
                f"{data}: column {str(name)!r} holds {column.iloc[row]} in row {row + 1}. Use a number, or leave the "
                "cell empty."
            )


def check_known(names: Iterable[str], columns: Iterable[str], option: str, *, target: str | None = None) -> None:
    """Raise unless every name is a column."""
    known = [str(column) for column in columns]
    for name in names:
        if name == target:
            raise DataError(f"{option} {name!r} is the target. Name another column.")
        if name not in known:
            hint = did_you_mean(name, known, otherwise=_columns(known))
            raise DataError(f"{option}: there is no column {name!r}.{hint}")


def _columns(names: Iterable[str]) -> str:
    shown = [str(name) for name in names]
    return f"Columns: {', '.join(shown[:20])}{', …' if len(shown) > 20 else ''}."

"""Tables from files: CSV with comma, semicolon or tab, and Parquet; every fault is named in one sentence."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambattn._errors import DataError
from mambattn.cli._group import note

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "Table", "read_table", "read_target_table"]

BUNDLED = ("breast_cancer", "wine", "digits", "diabetes")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


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
        if target is None:
            raise DataError(f"Say which column to predict: --target COLUMN. {_columns(frame.columns)}")
        check_known([target], frame.columns, "--target")
        X, y, name = frame.drop(columns=target), frame[target], Path(data).name
    check_known(drop, X.columns, "--drop", target=str(y.name))
    check_known(categorical, X.columns.drop(list(drop)), "--categorical", target=str(y.name))
    X = X.drop(columns=list(drop))
    if X.shape[1] == 0:
        raise DataError(
            f"{data} has no column to predict {str(y.name)!r} from. Give a table with at least two columns."
        )
    present = y.notna().to_numpy().nonzero()[0]
    if not len(present):
        raise DataError(f"The target {str(y.name)!r} is missing in every row. Name another column with --target.")
    rows, kept = X.iloc[present].reset_index(drop=True), y.iloc[present].reset_index(drop=True)
    unnamed = tuple(column for column in map(str, X.columns) if column.startswith("Unnamed: "))
    return Table(X=rows, y=kept, name=name, n_untargeted=len(y) - len(kept), unnamed=unnamed)


def note_oddities(table: Table) -> None:
    """Tell what was left out of a table, and what its owner may not mean to be in it."""
    if table.n_untargeted:
        note(f"{table.n_untargeted:,} rows without a value of {table.target!r} are left out.")
    for column in table.unnamed:
        note(
            f"A column without a name, here called {column!r}, is used to predict. If it only numbers the rows, leave "
            f"it out: --drop {column!r}."
        )


def check_known(names: Iterable[str], columns: Iterable[str], option: str, *, target: str | None = None) -> None:
    """Raise unless every name is a column."""
    known = [str(column) for column in columns]
    for name in names:
        if name == target:
            raise DataError(f"{option} {name!r} is the target. Name another column.")
        if name not in known:
            like = {column.strip().casefold(): column for column in known}
            near = difflib.get_close_matches(name.strip().casefold(), like, n=1)
            hint = f"Did you mean {like[near[0]]!r}?" if near else _columns(known)
            raise DataError(f"{option}: there is no column {name!r}. {hint}")


def _columns(names: Iterable[str]) -> str:
    shown = [str(name) for name in names]
    return f"Columns: {', '.join(shown[:20])}{', …' if len(shown) > 20 else ''}."


def read_table(data: str | Path) -> pd.DataFrame:
    """Read a CSV or Parquet file; text stays text, empty cells are missing."""
    path = Path(data)
    if path.is_dir():
        raise DataError(f"{path} is a directory. Give a CSV or Parquet file.")
    if path.is_fifo():
        raise DataError(f"{path} is a pipe, and a table is read more than once. Write it to a file, and give that.")
    if not path.exists():
        near = difflib.get_close_matches(str(data), BUNDLED, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Give a CSV or Parquet file, or one of {', '.join(BUNDLED)}."
        raise DataError(f"There is no file {str(path)!r}. {hint}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if not start:
        raise DataError(f"{path} is empty. Give a table with a header and rows.")
    if start == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        frame = _read_parquet(path)
    elif start[:2] in (b"\x1f\x8b", b"PK"):
        raise DataError(f"{path} is compressed. Unpack it, and give the CSV or Parquet file inside.")
    else:
        frame = _read_csv(path)
    if len(frame) == 0:
        raise DataError(f"{path} has a header but no rows. Give a table with at least one row.")
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a Parquet file, or is damaged: {str(error).splitlines()[0].rstrip('.')}."
        ) from error
    _check_names(path, table.column_names)
    return table.to_pandas()


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        separator, decimal = _check_csv(path)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte 0x{error.object[error.start]:02x}). Save it as CSV in UTF-8, or as "
            "Parquet."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}. Save it as CSV in UTF-8, or as Parquet.") from error
    return pd.read_csv(path, sep=separator, decimal=decimal, encoding="utf-8-sig", low_memory=False, index_col=False)


def _check_csv(path: Path) -> tuple[str, str]:
    """Read a CSV once to find its separator and decimal sign, and to refuse rows of unequal length by their line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header_line = next((line for line in file if line.strip()), "")
        separator = max(_SEPARATORS, key=lambda sign: len(next(csv.reader([header_line], delimiter=sign))))
        file.seek(0)
        rows = csv.reader(file, delimiter=separator, strict=True)
        header = next((row for row in rows if row), [])
        if not header:
            raise DataError(f"{path} is empty. Give a table with a header and rows.")
        if "\0" in header_line:
            raise DataError(f"{path} is not text. Give a CSV or Parquet file.")
        _check_names(path, header)
        commas = points = 0
        for row in rows:
            if row and len(row) != len(header):
                raise DataError(
                    f"{path}, line {rows.line_num}: {len(row)} cells, but the header has {len(header)} "
                    f"({_SEPARATORS[separator]}-separated). Mend that line, or put quotes around cells that hold the "
                    "separator."
                )
            if separator == ";":
                commas += sum(_is_number(cell, ",") for cell in row)
                points += sum(_is_number(cell, ".") for cell in row)
    return separator, "," if commas and not points else "."


def _is_number(cell: str, decimal: str) -> bool:
    """Say whether a cell is digits, this decimal sign, and digits."""
    whole, sign, fraction = cell.strip().lstrip("+-").partition(decimal)
    return bool(sign) and whole.isdigit() and fraction.isdigit()


def _check_names(path: Path, names: Sequence[str]) -> None:
    name, n = Counter(names).most_common(1)[0]
    if n > 1:
        what = f"{n} columns are called {name!r}" if name else f"{n} columns have no name"
        raise DataError(f"{path}: {what}. Give every column a name of its own.")

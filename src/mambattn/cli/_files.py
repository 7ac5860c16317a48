"""Tables from files: CSV with comma, semicolon or tab, and Parquet; every fault is named in one sentence."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mambattn._checks import did_you_mean
from mambattn._errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUNDLED", "read_table"]

BUNDLED = ("breast_cancer", "wine", "digits", "diabetes")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_WORKBOOKS = (".xlsx", ".xlsm", ".ods")


def read_table(data: str | Path) -> pd.DataFrame:
    """Read a CSV or Parquet file; text stays text, empty cells are missing."""
    path = Path(data)
    if path.is_dir():
        raise DataError(f"{path} is a directory. Give a CSV or Parquet file.")
    if path.is_fifo():
        raise DataError(f"{path} is a pipe, and a table is read more than once. Write it to a file, and give that.")
    if not path.exists():
        hint = did_you_mean(data, BUNDLED, otherwise=f"Give a CSV or Parquet file, or one of {', '.join(BUNDLED)}.")
        raise DataError(f"There is no file {str(path)!r}.{hint}")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if not start:
        raise DataError(f"{path} is empty. Give a table with a header and rows.")
    if start == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        frame = _read_parquet(path)
    elif start[:2] == b"PK" and path.suffix.lower() in _WORKBOOKS:
        raise DataError(f"{path} is a workbook. Save its sheet as CSV in UTF-8, and give that.")
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
                    f"({_SEPARATORS[separator]}-separated). Mend that line or the header, "
                    f"{header_line.strip()[:40]!r}, or put quotes around cells that hold the separator."
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

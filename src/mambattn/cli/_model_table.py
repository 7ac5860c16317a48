"""The table that a saved model is applied to: its own columns out of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mambattn._errors import DataError
from mambattn.cli._tables import read_table, refuse_infinite, refuse_one_column

if TYPE_CHECKING:
    import pandas as pd

    from mambattn.tabular import TableSchema

__all__ = ["read_model_table"]


def read_model_table(data: str, schema: TableSchema) -> pd.DataFrame:
    """Read the columns that a model was fitted on, by name or by position; others are not looked at."""
    frame = _matched(read_table(data), schema, data)
    _refuse_text(frame, schema, data)
    refuse_infinite(frame, data)
    return frame if schema.named else frame.set_axis(range(schema.n_columns), axis=1)


def _matched(frame: pd.DataFrame, schema: TableSchema, data: str) -> pd.DataFrame:
    """Return the columns that the model was fitted on: by name, or by position where they had no names."""
    if not schema.named:
        if frame.shape[1] != schema.n_columns:
            raise DataError(
                f"{data} has {frame.shape[1]} columns, however the model was fitted on {schema.n_columns} columns "
                "without names. Give exactly these, in their order."
            )
        return frame.set_axis(schema.names, axis=1)
    missing = [name for name in schema.names if name not in frame.columns]
    if len(missing) > 1:
        refuse_one_column(frame, data)
    if missing:
        what = f"column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing[:5]))}"
        raise DataError(
            f"{data} lacks {what}{' and others' if len(missing) > 5 else ''}, which the model was fitted on. Add "
            f"{'them' if len(missing) > 1 else 'it'}, with empty cells where a value is unknown."
        )
    return frame.loc[:, list(schema.names)]


def _refuse_text(frame: pd.DataFrame, schema: TableSchema, data: str) -> None:
    """Refuse text in a column of numbers by its first cell: one such cell makes the whole column of a CSV text."""
    for name in schema.numeric:
        if frame[name].dtype.kind not in "biuf":
            for row, cell in enumerate(frame[name].tolist(), start=1):
                if isinstance(cell, str) and not _is_number(cell):
                    raise DataError(
                        f"{data}: column {name!r} held numbers when the model was fitted, however row {row} holds "
                        f"{cell!r}. Use a number, or leave the cell empty."
                    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

"""Tables of every accepted sort as pandas frames, and their columns as numbers or as category texts."""

from __future__ import annotations

import numbers
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mambattn._errors import DataError

__all__ = ["as_frame", "category_codes", "column_kind", "number_values"]

_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}
_TIMES = {"datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period"}
_CELLS = (str, bytes, numbers.Number, Decimal, np.generic, pd.Interval)
_RESHAPE = (
    "Reshape your data, with X.reshape(-1, 1) if it is one column or X.reshape(1, -1) if it is one row, "
    "or give a frame."
)


class NestedColumnError(DataError, TypeError):
    """A column holds lists, dicts or other objects; scikit-learn expects a `TypeError` for them."""


def as_frame(X: Any) -> pd.DataFrame:
    """Give a table as a pandas frame, and refuse what is no table.

    Parameters
    ----------
    X : array-like or frame
        A two-dimensional NumPy array of any type, a list of rows, a pandas frame (returned as it is), or any frame
        with a ``to_pandas`` method, such as those of polars and pyarrow.

    Returns
    -------
    pandas.DataFrame
        The table. Where `X` had no names, the columns are called 0, 1, ….

    Raises
    ------
    DataError
        If `X` is sparse, complex, not two-dimensional, ragged or empty, or two columns share a name.

    Examples
    --------
    >>> as_frame([[1, "a"], [2, "b"]]).shape
    (2, 2)
    """
    if sparse.issparse(X):
        raise DataError("Sparse data was passed for `X`, but a dense table is required. Use X.toarray().")
    if isinstance(X, (pd.Series, pd.Index)):
        raise DataError(f"Expected a table with two dimensions, got a column. {_RESHAPE}")
    if isinstance(X, pd.DataFrame):
        frame = X
    elif hasattr(X, "to_pandas"):
        frame = X.to_pandas()
        if not isinstance(frame, pd.DataFrame):
            raise DataError(f"Expected a table with two dimensions, got a column. {_RESHAPE}")
    else:
        frame = _from_rows(X) if isinstance(X, (list, tuple)) else _from_array(X)
    for axis, thing in ((0, "sample"), (1, "feature")):
        if frame.shape[axis] == 0:
            raise DataError(f"Found array with 0 {thing}(s) (shape={frame.shape}) while a minimum of 1 is required.")
    repeated = [(name, n) for name, n in Counter(map(str, frame.columns)).items() if n > 1]
    if repeated:
        name, n = repeated[0]
        raise DataError(
            f"Column names must be unique, however {name!r} stands {n} times. Rename or drop all but one of them."
        )
    return frame


def _from_rows(rows: list[Any] | tuple[Any, ...]) -> pd.DataFrame:
    """Give a list of rows as a frame in which every column keeps its own type."""
    if not rows:
        raise DataError(f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required. {_RESHAPE}")
    if not all(isinstance(row, (list, tuple, np.ndarray)) for row in rows):
        return _from_array(rows)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        raise DataError(
            f"The rows of `X` must be equally long, however there are rows of {min(lengths)} and of {max(lengths)} "
            "cells. Fill the short ones, with None where a value is missing."
        )
    return pd.DataFrame([list(row) for row in rows], columns=range(lengths.pop()))


def _from_array(X: Any) -> pd.DataFrame:
    """Give a two-dimensional array as a frame."""
    array = X if isinstance(X, np.ma.MaskedArray) else np.asarray(X)
    if array.ndim != 2:
        found = f"{array.ndim}D array" if array.ndim else f"a {type(X).__name__}"
        raise DataError(f"Expected 2D array, got {found} instead. {_RESHAPE}")
    if array.dtype.kind == "c":
        raise DataError("Complex data not supported for `X`. Use X.real and X.imag as columns of their own.")
    return pd.DataFrame(array)


def column_kind(series: pd.Series, name: str) -> str:
    """Say whether a column is to be treated as numbers or as categories.

    Parameters
    ----------
    series : pandas.Series
        The column.
    name : str
        What to call it in a message.

    Returns
    -------
    {"number", "category"}
        Numbers are numeric types and objects that are all numbers; text, ``category``, boolean and mixed columns are
        categories.

    Raises
    ------
    DataError
        If it holds dates, times, complex numbers, lists, dicts or other objects.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
        return "category"
    if pd.api.types.is_numeric_dtype(dtype):
        content = "complex" if pd.api.types.is_complex_dtype(dtype) else "floating"
    elif isinstance(dtype, pd.StringDtype):
        content = "string"
    else:
        content = pd.api.types.infer_dtype(series, skipna=True)
    if content in _TIMES or dtype.kind in "mM":
        raise DataError(
            f"Column {name!r} holds dates or times ({dtype}), which have no meaning as they are. Turn them into "
            "numbers first (year, month, weekday, or seconds since a day of reference), or drop the column."
        )
    if content == "complex":
        raise DataError(f"Complex data not supported: column {name!r}. Make its parts columns of their own.")
    if content in _NUMBERS:
        return "number"
    if content in ("string", "boolean", "bytes", "empty", "interval"):
        return "category"
    return _mixed_kind(series, name)


def _mixed_kind(series: pd.Series, name: str) -> str:
    """Look at the cells of a mixed column one by one; raise if one is more than a string, a bool or a number."""
    cells = series.to_numpy(dtype=object)
    present = np.flatnonzero(~np.asarray(series.isna()))
    for row in present:
        if not isinstance(cells[row], _CELLS) or isinstance(cells[row], (np.datetime64, np.timedelta64)):
            raise NestedColumnError(
                f"Column {name!r} holds a {type(cells[row]).__name__} in row {row}; a cell of this argument must be a "
                "string, a bool or a number. Spread nested values over columns of their own, or drop the column."
            )
    return "number" if all(_is_number(cells[row]) for row in present) else "category"


def _is_number(cell: Any) -> bool:
    """Say whether a cell is a number and no bool."""
    return isinstance(cell, (numbers.Real, Decimal)) and not isinstance(cell, bool)


def number_values(series: pd.Series, name: str) -> np.ndarray:
    """Give a column of numbers as float64, NaN where a value is missing.

    Parameters
    ----------
    series : pandas.Series
        The column.
    name : str
        What to call it in a message.

    Returns
    -------
    numpy.ndarray
        The numbers, of shape (rows,).

    Raises
    ------
    DataError
        If a value is infinite, or no number.
    """
    dtype = series.dtype
    if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)):
        series = _objects_as_numbers(series, name)
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        raise DataError(
            f"Column {name!r} holds an infinite number ({values[infinite[0]]} in row {infinite[0]}). "
            "Use NaN where a value is missing, or the largest sensible number."
        )
    return values


def _objects_as_numbers(series: pd.Series, name: str) -> pd.Series:
    """Turn a column of objects into floats, naming the first cell that is no number."""
    present = ~np.asarray(series.isna())
    cells = series.to_numpy(dtype=object)
    for row in np.flatnonzero(present):
        if not (_is_number(cells[row]) or isinstance(cells[row], (bool, np.bool_))):
            raise DataError(
                f"Column {name!r} held numbers when the model was fitted, however row {row} is {cells[row]!r}. "
                "Use a number, or NaN where it is missing."
            )
    values = np.full(len(cells), np.nan)
    try:
        values[present] = cells[present].astype(np.float64)
    except OverflowError as error:
        raise DataError(
            f"Column {name!r} holds an integer beyond the range of a float. Use its logarithm, or turn the numbers "
            "into text if they are categories."
        ) from error
    return pd.Series(values)


def category_codes(series: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Give a column of categories as codes and the text of each code.

    Categories are compared as text, and whole numbers are written without a point: 3, 3.0 and "3" are one category,
    so that a column of integers that turns into floats, because a value is missing, keeps its categories.

    Parameters
    ----------
    series : pandas.Series
        The column.

    Returns
    -------
    codes : numpy.ndarray
        An index into `texts` a row, -1 where the value is missing.
    texts : list of str
        The texts; two may be alike.
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.cat.codes.to_numpy(dtype=np.int64), [_category_text(value) for value in series.cat.categories]
    if series.dtype == object and pd.api.types.infer_dtype(series, skipna=True).startswith("mixed"):
        series = series.map(_category_text, na_action="ignore")  # as objects, True and 1 would be one
    codes, values = pd.factorize(series)
    return codes.astype(np.int64), [_category_text(value) for value in values]


def _category_text(value: Any) -> str:
    """Write a category as text."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (float, np.floating, Decimal)) and value == value // 1:
        return str(int(value))
    return str(value)

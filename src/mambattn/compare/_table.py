"""The table to compare on: checked, its task decided, its folds drawn."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.util import hash_pandas_object
from sklearn.model_selection import KFold, StratifiedKFold

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError, DataError
from mambattn.compare._task import check_classes, decide_task, encode_classes
from mambattn.tabular.frame import as_frame, column_kind, number_values

__all__ = ["ComparisonTable", "check_columns", "make_table"]

SMALLEST_SPAN = 0.01  # below it four decimals leave two figures of an error, or none
LARGEST = 1e150  # the linear yardstick and the errors square a number


@dataclass(frozen=True, eq=False)
class ComparisonTable:
    """A table as every fit sees it.

    `labels` are the targets as given, `y` the same as numbers: positions in `classes`, or the values themselves.
    `fold_of` is (n_seeds, n_rows): the fold in which a row is held out.
    """

    frame: pd.DataFrame
    labels: NDArray
    y: NDArray
    classes: tuple[Any, ...]
    categorical: tuple[Hashable, ...]
    task: str
    fold_of: NDArray[np.int64]
    fingerprint: str
    notes: tuple[str, ...]

    def split(self, fold: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the rows to train on and the rows held out."""
        held_out = self.fold_of[seed] == fold
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def check_columns(frame: pd.DataFrame, given: Sequence[Hashable] = ()) -> tuple[Hashable, ...]:
    """Return the columns that hold categories, by their type or because they are `given`; refuse what is no value."""
    unknown = [column for column in given if column not in frame.columns]
    if unknown:
        raise ConfigError(
            f"`categorical_columns` names {unknown[0]!r}, which is no column of the table. "
            f"Columns: {', '.join(map(str, frame.columns))}."
        )
    categorical = []
    for column, series in frame.items():
        if column_kind(series, str(column)) == "category" or column in given:
            categorical.append(column)
        elif (np.abs(number_values(series, str(column))) > LARGEST).any():
            raise DataError(
                f"Column {str(column)!r} holds numbers beyond {LARGEST:g}, whose squares overflow. Leave a cell empty "
                "if that marks a missing value; else use the logarithm, or a larger unit."
            )
    return tuple(categorical)


def make_table(
    X: Any,
    y: Any,
    *,
    task: str,
    folds: int,
    seeds: int,
    random_state: int,
    categorical_columns: Sequence[Hashable] = (),
    target_name: str | None = None,
) -> tuple[ComparisonTable, str]:
    """Check a table and its target, decide the task, and draw the folds; also return the target's name."""
    frame = as_frame(X).reset_index(drop=True)
    if len({isinstance(column, str) for column in frame.columns}) > 1:
        frame.columns = frame.columns.astype(str)  # scikit-learn takes names of one type only
    frame, target, name = _take_target(frame, y, target_name)
    if len(target) != len(frame):
        raise DataError(f"`y` must have a value a row, however X has {len(frame)} rows and y has {len(target)}.")
    target = target.infer_objects()
    categorical = check_columns(frame, categorical_columns)
    missing = int(target.isna().sum())
    if missing:
        raise DataError(
            f"The target {name!r} is missing in {missing} of {len(target)} rows. Drop these rows, "
            f"for example with `frame.dropna(subset=[{name!r}])`."
        )
    task, notes = decide_task(target, name, task)
    if task == "regression":
        labels = values = target.to_numpy(dtype=np.float64)
        classes: tuple[Any, ...] = ()
        if not np.isfinite(values).all():
            raise DataError(f"The target {name!r} holds infinite values. Drop or mend these rows.")
        if np.abs(values).max() > LARGEST:
            raise DataError(
                f"The target {name!r} holds numbers beyond {LARGEST:g}. Use its logarithm, or a larger unit."
            )
        if np.ptp(values) < SMALLEST_SPAN:
            notes += (
                f"The target {name!r} spans {np.ptp(values):.3g} only, and scores are written with four decimals: "
                "take a smaller unit to see more of them.",
            )
    else:
        labels, values, classes = encode_classes(target, name)
        task = check_classes(values, classes, name, task, folds)
    _check_folds(len(frame), folds, seeds)
    fold_of = _draw_folds(values, task, folds, seeds, random_state)
    table = ComparisonTable(
        frame=frame,
        labels=labels,
        y=values,
        classes=classes,
        categorical=categorical,
        task=task,
        fold_of=fold_of,
        fingerprint=_fingerprint(frame, labels),
        notes=notes,
    )
    return table, name


def _take_target(frame: pd.DataFrame, y: Any, name: str | None) -> tuple[pd.DataFrame, pd.Series, str]:
    """Return the table without its target, the target as a series, and its name."""
    if isinstance(y, str):
        if y not in frame.columns:
            hint = did_you_mean(y, frame.columns, otherwise=f"Columns: {', '.join(map(str, frame.columns))}.")
            raise DataError(f"The table has no column {y!r} to predict.{hint}")
        if frame.shape[1] == 1:
            raise DataError(f"The table has no column beside its target {y!r}. Give at least one to predict it from.")
        return frame.drop(columns=y), pd.Series(frame[y]), name or y
    if isinstance(y, pd.DataFrame) and y.shape[1] == 1:
        y = y.iloc[:, 0]
    elif hasattr(y, "to_pandas"):
        y = y.to_pandas()
    if isinstance(y, pd.Series):
        return frame, y.reset_index(drop=True), name or str(y.name or "y")
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"`y` must be one column, however its shape is {values.shape}. Compare one target at a time.")
    return frame, pd.Series(values), name or "y"


def _check_folds(n_rows: int, folds: int, seeds: int) -> None:
    for name, value, least in (("folds", folds, 2), ("seeds", seeds, 1)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ConfigError(f"`{name}` must be an integer of at least {least}, however {name}={value!r}.")
    # Two held-out rows a fold are the least that any metric needs; the rows trained on still give a validation share.
    if n_rows < max(10, 2 * folds):
        raise DataError(
            f"The table has {n_rows} rows, too few for folds={folds}: give at least {max(10, 2 * folds)} rows"
            f"{f', or use folds={n_rows // 2}' if n_rows >= 10 else ''}."
        )


def _draw_folds(y: NDArray, task: str, folds: int, seeds: int, random_state: int) -> NDArray[np.int64]:
    """Draw the fold in which each row is held out, for each seed; classes are spread evenly."""
    fold_of = np.empty((seeds, len(y)), dtype=np.int64)
    splitter = KFold if task == "regression" else StratifiedKFold
    for seed in range(seeds):
        cut = splitter(folds, shuffle=True, random_state=random_state + seed)
        for fold, (_, held_out) in enumerate(cut.split(np.zeros(len(y)), y)):
            fold_of[seed, held_out] = fold
    return fold_of


def _fingerprint(frame: pd.DataFrame, labels: NDArray) -> str:
    """Hash names, types and values, so that a directory of results is never continued with another table."""
    digest = hashlib.sha256()
    for column, series in [*frame.items(), ("", pd.Series(labels))]:
        plain = series.astype(str) if series.dtype == object else series
        digest.update(f"{column!r} {series.dtype}".encode())
        digest.update(hash_pandas_object(plain, index=False).to_numpy().tobytes())  # type: ignore[operator]
    return digest.hexdigest()[:16]

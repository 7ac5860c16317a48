"""The table to compare on: checked, its task decided, its folds drawn."""

from __future__ import annotations

import difflib
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

from mambattn._errors import ConfigError, DataError
from mambattn.tabular.frame import as_frame, column_kind, number_values

__all__ = ["ComparisonTable", "check_columns", "make_table"]

MOST_CLASSES = 20
TASKS = ("auto", "classification", "binary", "multiclass", "regression")


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
        else:
            number_values(series, str(column))
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
        if values.min() == values.max():
            raise DataError(f"The target {name!r} is {values[0]:g} in every row, so there is nothing to predict.")
    else:
        labels, values, classes = _encode_classes(target, name)
        task = _check_classes(values, classes, name, task, folds)
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
            near = difflib.get_close_matches(y, [str(column) for column in frame.columns], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Columns: {', '.join(map(str, frame.columns))}."
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


def decide_task(target: pd.Series, name: str, task: str) -> tuple[str, tuple[str, ...]]:
    """Tell the task of a target.

    A target is taken for a number to regress on if its type is numeric and it has more than 20 distinct values, or
    some with a fraction and more than two distinct ones; for classes otherwise.

    Parameters
    ----------
    target : pandas.Series
        The target, without missing values.
    name : str
        Its name, for the messages.
    task : {"auto", "classification", "binary", "multiclass", "regression"}
        What was promised.

    Returns
    -------
    task : str
        "classification" or "regression", or the kind of classes promised.
    assumed : tuple of str
        What was assumed, in a sentence, and how to say otherwise.

    Raises
    ------
    ConfigError
        If `task` is unknown.
    DataError
        If a number was promised and the target is text.

    Examples
    --------
    >>> decide_task(pd.Series([0.5, 1.5, 2.5]), "price", "auto")[0]
    'regression'
    """
    if task not in TASKS:
        raise ConfigError(f"`task` must be one of {', '.join(map(repr, TASKS))}, however task={task!r}.")
    is_number = pd.api.types.is_numeric_dtype(target.dtype) and not pd.api.types.is_bool_dtype(target.dtype)
    if task == "regression" and not is_number:
        text = next((value for value in target if isinstance(value, str)), target.iloc[0])
        raise DataError(
            f"task='regression' needs a numeric target, however {name!r} holds {text!r}. Turn it into numbers, or use "
            "task='classification'."
        )
    if task != "auto":
        return task, ()
    distinct = target.nunique()
    if not is_number:
        return "classification", ()
    values = target.to_numpy(dtype=np.float64)
    fractions = bool((values != np.trunc(values)).any())
    if distinct > MOST_CLASSES or (fractions and distinct > 2):
        return "regression", (
            f"The target {name!r} is numeric with {distinct:,} distinct values, so it is taken for a quantity; "
            "for classes, ask for task classification.",
        )
    return "classification", (
        f"The target {name!r} is numeric with {distinct} distinct values, so they are taken for classes; for a "
        "quantity, ask for task regression.",
    )


def _encode_classes(target: pd.Series, name: str) -> tuple[NDArray, NDArray, tuple[Any, ...]]:
    labels = target.to_numpy(dtype=object)
    is_text = [isinstance(label, str) for label in labels]
    strange = next((label for label in labels if not isinstance(label, (str, numbers.Real, np.bool_))), None)
    if strange is not None:
        raise DataError(
            f"The target {name!r} holds {type(strange).__name__} values. Turn its labels into text or numbers."
        )
    if any(is_text) and not all(is_text):
        raise DataError(f"The target {name!r} mixes text and numbers. Turn all labels into text, or all into numbers.")
    classes, y = np.unique(labels.astype(str) if any(is_text) else np.array(list(labels)), return_inverse=True)
    return classes[y], y.astype(np.int64), tuple(classes.tolist())


def _check_classes(y: NDArray, classes: tuple[Any, ...], name: str, task: str, folds: int) -> str:
    if len(classes) == 1:
        raise DataError(
            f"The target {name!r} is {classes[0]!r} in every row. Give a table with at least two classes, or another "
            "target."
        )
    counts = np.bincount(y)
    if counts.min() < max(2, folds):
        rare = classes[int(counts.argmin())]
        many = " Is it a number? Then ask for task regression." if len(classes) > MOST_CLASSES else ""
        size = "1 row" if counts.min() == 1 else f"{counts.min()} rows"
        raise DataError(
            f"Class {rare!r} of the target {name!r} has {size}, fewer than folds={folds}. Drop or merge "
            f"the class{f', or use folds={counts.min()}' if counts.min() > 1 else ''}.{many}"
        )
    kind = "binary" if len(classes) == 2 else "multiclass"
    if task in ("binary", "multiclass") and task != kind:
        raise DataError(
            f"task={task!r} does not fit the target {name!r} with {len(classes)} classes. Use task={kind!r}."
        )
    return kind


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

"""What kind of target a table has: classes or a quantity, told from its values."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mambattn._errors import ConfigError, DataError

__all__ = ["check_classes", "decide_task", "encode_classes", "first_text"]

MOST_CLASSES = 20
TASKS = ("auto", "classification", "binary", "multiclass", "regression")


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
        If a number was promised and the target is text; if it is the same number in every row; or if it holds
        anything but text, numbers and bools.

    Examples
    --------
    >>> decide_task(pd.Series([0.5, 1.5, 2.5]), "price", "auto")[0]
    'regression'
    """
    if task not in TASKS:
        raise ConfigError(f"`task` must be one of {', '.join(map(repr, TASKS))}, however task={task!r}.")
    is_number = pd.api.types.is_numeric_dtype(target.dtype) and not pd.api.types.is_bool_dtype(target.dtype)
    if task == "regression" and not is_number:
        raise DataError(
            f"task='regression' needs a numeric target, however {name!r} holds {first_text(target)!r}. Turn it into "
            "numbers, or use task='classification'."
        )
    strange = next((value for value in target if not isinstance(value, (str, numbers.Real, np.bool_))), None)
    if strange is not None:
        raise DataError(f"The target {name!r} holds {type(strange).__name__} values. Turn them into text or numbers.")
    if is_number and task in ("auto", "regression") and target.nunique() == 1:
        raise DataError(
            f"The target {name!r} is {target.iloc[0]} in every row, so there is nothing to predict. Name another one."
        )
    if task != "auto":
        return task, ()
    distinct = target.nunique()
    if not is_number:
        if distinct <= MOST_CLASSES:
            return "classification", ()
        text = str(first_text(target))[:40]
        return "classification", (
            f"The target {name!r} holds text such as {text!r}, so its {distinct:,} distinct values are taken for "
            "classes; for a quantity, write every value as a number.",
        )
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


def first_text(values: pd.Series) -> Any:
    """Return the first value that is no number, or the first one if even the text is of numbers."""
    figures: Any = pd.to_numeric(values.astype(str).to_numpy(dtype=object), errors="coerce")
    return values.iloc[int(np.isnan(figures.astype(np.float64)).argmax())]


def encode_classes(target: pd.Series, name: str) -> tuple[NDArray, NDArray, tuple[Any, ...]]:
    """Return the label of each row in one type, its position among the classes, and the classes."""
    labels = target.to_numpy(dtype=object)
    is_text = [isinstance(label, str) for label in labels]
    if any(is_text) and not all(is_text):
        raise DataError(f"The target {name!r} mixes text and numbers. Turn all labels into text, or all into numbers.")
    classes, y = np.unique(labels.astype(str) if any(is_text) else np.array(list(labels)), return_inverse=True)
    return classes[y], y.astype(np.int64), tuple(classes.tolist())


def check_classes(y: NDArray, classes: tuple[Any, ...], name: str, task: str, folds: int) -> str:
    """Return the kind of the classes; raise unless there are two, each with a row a fold, of the kind promised."""
    if len(classes) == 1:
        raise DataError(
            f"The target {name!r} is {classes[0]!r} in every row. Give a table with at least two classes, or another "
            "target."
        )
    counts = np.bincount(y)
    if counts.min() < max(2, folds):
        rare = classes[int(counts.argmin())]
        many = _say_how_to_regress(classes) if len(classes) > MOST_CLASSES else ""
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


def _say_how_to_regress(classes: tuple[Any, ...]) -> str:
    """Tell the owner of a quantity that was taken for classes what to do."""
    if not isinstance(classes[0], str):
        return " Is it a number? Then ask for task regression."
    return f" Is it a quantity? Then write every value as a number, unlike {first_text(pd.Series(classes))[:40]!r}."

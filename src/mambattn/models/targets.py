"""Targets and weights as a user gives them, and as the loss takes them."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from mambattn._errors import DataError

__all__ = ["LabelEncoder", "as_column", "as_plain", "class_weights", "regression_target", "row_weights"]


def as_column(y: Any, n_rows: int, name: str) -> np.ndarray:
    """Give a target as a one-dimensional array without missing values, of the length of the table.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, 1)
        The target; a column vector draws scikit-learn's `DataConversionWarning`.
    n_rows : int
        Rows of the table.
    name : str
        What to call it in a message.

    Returns
    -------
    numpy.ndarray
        The target, of shape (n_rows,), in its own type.

    Raises
    ------
    DataError
        If it is None, of another length, or a value is missing.
    """
    if y is None:
        raise DataError(f"Fitting requires y to be passed, but the target y is None. Give `{name}`.")
    # Pandas' nullable types would come out of `column_or_1d` as floats.
    column = column_or_1d(y.to_numpy() if hasattr(y, "to_numpy") else y, warn=True)
    if len(column) != n_rows:
        raise DataError(
            f"`{name}` must have one value a row, however there are {n_rows} rows and {len(column)} values."
        )
    n_missing = int(np.sum(pd.isna(column)))
    if n_missing:
        raise DataError(
            f"Input {name} contains NaN: {n_missing} of {n_rows} values are missing. Drop those rows first."
        )
    return column


def regression_target(y: Any, n_rows: int, name: str = "y") -> np.ndarray:
    """Check a target of numbers.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, 1)
        The target; a column vector draws scikit-learn's `DataConversionWarning`.
    n_rows : int
        Rows of the table.
    name : str, default "y"
        What to call it in a message.

    Returns
    -------
    numpy.ndarray
        The target, float64 of shape (n_rows,).

    Raises
    ------
    DataError
        If it has another length, or a value is missing, infinite or no number.

    Examples
    --------
    >>> regression_target([1, 2.5], 2)
    array([1. , 2.5])
    """
    column = as_column(y, n_rows, name)
    if column.dtype.kind == "c":
        raise DataError(f"Complex data not supported for `{name}`. Use its real part.")
    if column.dtype.kind in "mM":
        raise DataError(
            f"`{name}` must hold numbers for a regressor, however it holds dates or times ({column.dtype}). Turn them "
            "into numbers first, such as days since a day of reference."
        )
    if column.dtype.kind in "OUS":
        for row, value in enumerate(column.tolist()):
            if not _is_number(value):
                raise DataError(
                    f"`{name}` must hold numbers for a regressor, however row {row} is {value!r}. "
                    "Use a classifier for labels, or turn the text into numbers."
                )
    values = column.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        found = "NaN" if np.isnan(values[row]) else "infinity"
        raise DataError(f"Input {name} contains {found}, in row {row}. Drop that row, or use a finite number.")
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def row_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Check the weights of the rows.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,) or None
        Weights; None is 1 everywhere.
    n_rows : int
        Rows of the table.

    Returns
    -------
    numpy.ndarray
        The weights, float64 of shape (n_rows,).

    Raises
    ------
    DataError
        If they have another shape, or are not finite, negative, or all zero.

    Examples
    --------
    >>> row_weights(None, 2)
    array([1., 1.])
    """
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise DataError(f"`sample_weight` must have the shape ({n_rows},), however it has {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0:
        row = int(np.flatnonzero(~np.isfinite(weights) | (weights < 0))[0])
        raise DataError(
            f"`sample_weight` must be finite and not negative, however row {row} has {weights[row]}. Use 0 to leave "
            "a row out."
        )
    if not weights.any():
        raise DataError("Sample weights must contain at least one non-zero number, however all are zero.")
    return weights


class LabelEncoder:
    """Labels of any type as codes 0, 1, … in the order of the sorted labels, and back.

    Numbers are compared by value, so that 1 and 1.0 in a column of objects are one class; text, numbers and booleans
    are never the same class, and sort in the order booleans, numbers, text.

    Parameters
    ----------
    classes : numpy.ndarray
        The distinct labels, sorted, in the type in which they are to be returned.

    Examples
    --------
    >>> encoder = LabelEncoder.learn(np.array(["no", "yes", "no"]))
    >>> encoder.classes.tolist(), encoder.encode(np.array(["yes", "no"]), "y").tolist()
    (['no', 'yes'], [1, 0])
    """

    def __init__(self, classes: np.ndarray) -> None:
        self.classes = classes
        self._codes = {_identity(label): code for code, label in enumerate(classes.tolist())}

    @classmethod
    def learn(cls, labels: np.ndarray) -> LabelEncoder:
        """Find the classes of a target.

        Parameters
        ----------
        labels : numpy.ndarray
            Labels of shape (rows,), none of them missing.

        Returns
        -------
        LabelEncoder
            The encoder.

        Raises
        ------
        DataError
            If the labels are fractions or infinite, or all the same.
        """
        if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
            raise DataError(
                "Unknown label type: continuous. `y` must hold classes, however it holds numbers such as "
                f"{labels[~(np.isfinite(labels) & (labels == np.floor(labels)))][0]}. Use a regressor, or turn the "
                "numbers into text."
            )
        if labels.dtype.kind == "c":
            raise DataError("Complex data not supported for `y`. Turn the labels into text.")
        if labels.dtype.kind == "O":
            distinct = {_identity(label): label for label in labels.tolist()}
            classes = np.empty(len(distinct), dtype=object)
            classes[:] = [distinct[key] for key in sorted(distinct)]
        else:
            classes = np.unique(labels)
        if len(classes) < 2:
            raise DataError(
                f"A classifier needs at least two classes, however `y` holds one class only: {classes.tolist()}."
            )
        return cls(classes)

    def find(self, labels: np.ndarray) -> np.ndarray:
        """Give the codes of labels, known or not.

        Parameters
        ----------
        labels : numpy.ndarray
            Labels of shape (rows,).

        Returns
        -------
        numpy.ndarray
            Codes, int64 of shape (rows,); -1 where a label is no class.
        """
        values, inverse = np.unique(labels, return_inverse=True) if labels.dtype.kind != "O" else (labels, slice(None))
        return np.array([self._codes.get(_identity(label), -1) for label in values.tolist()], dtype=np.int64)[inverse]

    def encode(self, labels: np.ndarray, name: str) -> np.ndarray:
        """Turn labels into codes.

        Parameters
        ----------
        labels : numpy.ndarray
            Labels of shape (rows,).
        name : str
            What to call them in a message.

        Returns
        -------
        numpy.ndarray
            Codes, int64 of shape (rows,).

        Raises
        ------
        DataError
            If a label is no known class.
        """
        codes = self.find(labels)
        unknown = np.flatnonzero(codes < 0)
        if unknown.size:
            raise DataError(
                f"`{name}` holds the label {labels.tolist()[unknown[0]]!r}, which is none of the classes "
                f"{_shown(self.classes.tolist())}. Drop those rows, or fit with rows of that class."
            )
        return codes

    def to_dict(self) -> dict[str, Any]:
        """Return the classes as JSON-ready values.

        Returns
        -------
        dict
            The dtype and the labels, each with the name of its type.

        Raises
        ------
        DataError
            If a label is no text, number or boolean.
        """
        labels = [as_plain(label) for label in self.classes.tolist()]
        for label in labels:
            if type(label) not in (str, bool, int, float):
                raise DataError(
                    f"A model file holds labels that are text, numbers or booleans, however {label!r} is a "
                    f"{type(label).__name__}. Turn the labels into text before fitting, or pickle the model."
                )
        return {"dtype": self.classes.dtype.str, "labels": labels}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelEncoder:
        """Make an encoder from what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The dtype and the labels.

        Returns
        -------
        LabelEncoder
            The encoder.
        """
        classes = np.empty(len(values["labels"]), dtype=np.dtype(values["dtype"]))
        classes[:] = values["labels"]
        return cls(classes)


def as_plain(label: Any) -> Any:
    """Give a NumPy scalar, such as an array of objects may hold, as the Python object that it stands for.

    Parameters
    ----------
    label : object
        A label, or a part of one.

    Returns
    -------
    object
        The label, as a Python object.
    """
    return label.item() if isinstance(label, np.generic) else label


def _identity(label: Any) -> tuple[int, str, Any]:
    """Give a key that tells classes apart and sorts across types."""
    if isinstance(label, (bool, np.bool_)):
        return (0, "bool", bool(label))
    if isinstance(label, numbers.Real):
        return (1, "number", label)
    return (2, type(label).__name__, label)


def _shown(labels: list[Any]) -> str:
    return f"[{', '.join(map(repr, labels[:8]))}{', …' if len(labels) > 8 else ''}]"


def class_weights(
    class_weight: Mapping[Any, float] | str | None, encoder: LabelEncoder, codes: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Give the weight of each class.

    Parameters
    ----------
    class_weight : mapping of label to float, "balanced" or None
        ``"balanced"`` gives each class the same total weight: rows / (classes · rows of the class), rows counted by
        their weights. Classes that a mapping leaves out weigh 1. A mapping may hold labels that do not occur, as in a
        fold that lacks a rare class, if it gives every class that does its weight; else one is likely misspelt.
    encoder : LabelEncoder
        The classes.
    codes : numpy.ndarray
        Class codes of the rows.
    weights : numpy.ndarray
        Weights of the rows.

    Returns
    -------
    numpy.ndarray
        A weight a class, float64.

    Raises
    ------
    DataError
        If a label is no class of the target while a class has no weight, or a weight is negative or not finite.

    Examples
    --------
    >>> labels = np.array(["a", "a", "a", "b"])
    >>> encoder = LabelEncoder.learn(labels)
    >>> class_weights("balanced", encoder, encoder.encode(labels, "y"), np.ones(4)).round(3)
    array([0.667, 2.   ])
    """
    n_classes = len(encoder.classes)
    if class_weight is None:
        return np.ones(n_classes)
    if isinstance(class_weight, str) and class_weight == "balanced":
        return weights.sum() / (n_classes * np.bincount(codes, weights=weights, minlength=n_classes))
    if not isinstance(class_weight, Mapping):
        raise DataError(f"`class_weight` must be a dict, 'balanced' or None, however class_weight={class_weight!r}.")
    keys = np.empty(len(class_weight), dtype=object)
    keys[:] = list(class_weight)
    given = np.array([float(weight) for weight in class_weight.values()])
    if not np.isfinite(given).all() or (given < 0).any():
        raise DataError(f"`class_weight` must be finite and not negative, however class_weight={dict(class_weight)!r}.")
    found = encoder.find(keys)
    if (found < 0).any() and (found >= 0).sum() < n_classes:
        raise DataError(
            f"`class_weight` holds the label {keys[found < 0][0]!r}, which is none of the classes "
            f"{_shown(encoder.classes.tolist())}. Correct it, or give every class a weight."
        )
    values = np.ones(n_classes)
    values[found[found >= 0]] = given[found >= 0]
    return values

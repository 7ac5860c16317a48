"""Four small tables that come with scikit-learn, by name."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from mambattn._checks import did_you_mean
from mambattn._errors import DataError

__all__ = ["BUNDLED", "load_bundled"]

_LOADERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "breast_cancer": (load_breast_cancer, {}, "diagnosis"),
    "wine": (load_wine, {}, "cultivar"),
    "digits": (load_digits, {}, "digit"),
    "diabetes": (load_diabetes, {"scaled": False}, "progression"),
}
BUNDLED = tuple(_LOADERS)


def load_bundled(name: str) -> tuple[pd.DataFrame, pd.Series]:
    """Load a bundled table.

    Parameters
    ----------
    name : {"breast_cancer", "wine", "digits", "diabetes"}
        Which one: 569 rows in 2 classes, 178 in 3, 1797 in 10, and 442 with a numeric target.

    Returns
    -------
    X : pandas.DataFrame
        The columns, unscaled.
    y : pandas.Series
        The target; its name says what it is.

    Raises
    ------
    DataError
        If there is no such table.

    Examples
    --------
    >>> X, y = load_bundled("breast_cancer")
    >>> X.shape, y.name, sorted(y.unique())
    ((569, 30), 'diagnosis', ['benign', 'malignant'])
    """
    if name not in BUNDLED:
        hint = did_you_mean(name, BUNDLED)
        raise DataError(f"There is no bundled table {name!r}. There are {', '.join(BUNDLED)}.{hint}")
    load, options, target_name = _LOADERS[name]
    data: Any = load(as_frame=True, **options)
    labels = data.target
    if name in ("breast_cancer", "wine"):
        labels = labels.map(dict(enumerate(data.target_names.tolist())))
    return data.data, labels.rename(target_name)

"""What the networks are measured against: a dummy, a linear model and gradient boosting, on any table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from mambattn.tabular.frame import category_codes, number_values

__all__ = ["YARDSTICKS", "boosting", "dummy", "linear"]

# Boosting takes at most 255 categories a column, one of which stands for all that are rarer.
_MOST_CATEGORIES = 254


def plain_columns(frame: pd.DataFrame, categorical: Sequence[Hashable]) -> pd.DataFrame:
    """Return numbers as float64 with NaN, and categories as text with None, where missing; names become text."""
    columns: dict[str, np.ndarray] = {}
    for column, series in frame.items():
        if column in categorical:
            codes, texts = category_codes(series)
            columns[str(column)] = np.array([*texts, None], dtype=object)[codes]
        else:
            columns[str(column)] = number_values(series, str(column))
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})


class FillEmpty(TransformerMixin, BaseEstimator):
    """Put 0 into the columns that held no value at all when fitted, which boosting cannot cut into bins."""

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Find the empty columns."""
        self.empty_ = np.isnan(X).all(axis=0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Fill them."""
        return np.where(self.empty_, 0.0, X)


def _by_kind(columns: Sequence[Hashable], categorical: Sequence[Hashable]) -> tuple[list[str], list[str]]:
    numeric = [str(column) for column in columns if column not in categorical]
    return numeric, [str(column) for column in columns if column in categorical]


def _plain(categorical: Sequence[Hashable]) -> FunctionTransformer:
    return FunctionTransformer(plain_columns, kw_args={"categorical": tuple(categorical)})


def dummy(task: str, columns: Sequence[Hashable], categorical: Sequence[Hashable], seed: int) -> Pipeline:
    """Guess: the shares of the classes, or the mean."""
    model = DummyRegressor() if task == "regression" else DummyClassifier(strategy="prior", random_state=seed)
    return make_pipeline(_plain(categorical), model)


def linear(task: str, columns: Sequence[Hashable], categorical: Sequence[Hashable], seed: int) -> Pipeline:
    """Logistic or ridge regression: medians for missing numbers, which are scaled; one column a category."""
    numeric, texts = _by_kind(columns, categorical)
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    one_hot = OneHotEncoder(handle_unknown="ignore")
    prepare = ColumnTransformer(
        [("numbers", make_pipeline(fill, StandardScaler()), numeric), ("categories", one_hot, texts)]
    )
    model = Ridge() if task == "regression" else LogisticRegression(max_iter=2000, random_state=seed)
    return make_pipeline(_plain(categorical), prepare, model)


def boosting(task: str, columns: Sequence[Hashable], categorical: Sequence[Hashable], seed: int) -> Pipeline:
    """Histogram gradient boosting at scikit-learn's defaults, which splits on categories and on missing values."""
    numeric, texts = _by_kind(columns, categorical)
    encode = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=_MOST_CATEGORIES,
    )
    prepare = ColumnTransformer([("categories", encode, texts), ("numbers", "passthrough", numeric)])
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    places: Any = list(range(len(texts)))
    model = kind(categorical_features=places, random_state=seed)
    return make_pipeline(_plain(categorical), prepare, FillEmpty(), model)


YARDSTICKS: dict[str, Callable[[str, Sequence[Hashable], Sequence[Hashable], int], Pipeline]] = {
    "dummy": dummy,
    "linear": linear,
    "boosting": boosting,
}

"""Numbers to what the tokenizer takes, on scikit-learn's transformers, restored from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.preprocessing import (
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from mambattn._errors import DataError
from mambattn.configs import PreprocessingConfig
from mambattn.tabular.piecewise import bin_edges, piecewise_linear

__all__ = ["NumberScaler", "check_saved_array"]

_SPLINE_DEGREE = 3
_LARGEST = 1e15
"""Scaled numbers are held within this, so that their squares in a norm stay finite in float32."""
_ENORMOUS = 1e150
"""Numbers are held within this before they are scaled, so that their squares stay finite in float64."""


class _FarScaler(StandardScaler):
    """Standardise only columns more than 10 standard deviations from 0, or enormous, and leave the others."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        super().fit(X, y, sample_weight)
        mean, scale = np.asarray(self.mean_), np.asarray(self.scale_)
        near = (np.abs(mean) <= 10 * scale) & (scale < 1e30)
        self.mean_, self.scale_ = np.where(near, 0.0, mean), np.where(near, 1.0, scale)
        return self


_FITTED = {
    _FarScaler: ("mean_", "scale_"),
    StandardScaler: ("mean_", "scale_"),
    MinMaxScaler: ("min_", "scale_"),
    RobustScaler: ("center_", "scale_"),
    QuantileTransformer: ("quantiles_", "references_"),
    PowerTransformer: ("lambdas_",),
}
"""What each transformer needs to transform; set on a new one, they restore it to the bit."""


class NumberScaler:
    """The numerical preprocessing of a table: float64 with NaN in, float32 without NaN out.

    A column with fewer than two distinct numbers carries no information and becomes 0 (with "none" it stays as it is).
    Numbers beyond ±1e150 count as ±1e150.

    Parameters
    ----------
    config : PreprocessingConfig
        What to do.
    random_state : int
        Seed of the sample from which quantiles are taken on very large tables, and of the trees.

    Attributes
    ----------
    low, high : numpy.ndarray
        Smallest and largest number of each column, of shape (n_numeric,); NaN where all were missing.
    """

    low: np.ndarray
    high: np.ndarray

    def __init__(self, config: PreprocessingConfig, random_state: int) -> None:
        self.config = config
        self.random_state = random_state
        self._steps: list[Any] = []
        self._table: np.ndarray | None = None  # knots of the splines or edges of the bins

    @property
    def empty(self) -> np.ndarray:
        """Columns without one number: bool of shape (n_numeric,)."""
        return np.isnan(self.low)

    @property
    def width(self) -> int | None:
        """Length of the vector a number becomes; None where it stays a number."""
        if self.config.numerical_preprocessing == "splines":
            return self.config.n_knots + _SPLINE_DEGREE - 1
        return self.config.n_bins if self.config.numerical_preprocessing == "ple" else None

    def fit(self, numbers: np.ndarray, y: np.ndarray | None, task: str) -> Self:
        """Learn the scales.

        Parameters
        ----------
        numbers : numpy.ndarray
            Float64 numbers of shape (rows, n_numeric), NaN where missing.
        y : numpy.ndarray or None
            Target of shape (rows,), for bins found by trees.
        task : {"classification", "regression"}
            What the target is.

        Returns
        -------
        NumberScaler
            Itself.
        """
        numbers = np.clip(numbers, -_ENORMOUS, _ENORMOUS)
        present = ~np.isnan(numbers)
        some = present.any(axis=0)
        self.low = np.where(some, np.where(present, numbers, np.inf).min(axis=0, initial=np.inf), np.nan)
        self.high = np.where(some, np.where(present, numbers, -np.inf).max(axis=0, initial=-np.inf), np.nan)
        kind = self.config.numerical_preprocessing
        x = numbers[:, self._active]
        if kind == "ple":
            self._table = bin_edges(
                x, y, n_bins=self.config.n_bins, bins=self.config.bins, task=task, random_state=self.random_state
            )
        elif kind == "splines":
            self._table = np.linspace(self.low[self._active], self.high[self._active], self.config.n_knots)
        self._steps = self._make_steps(n_rows=len(numbers))
        for step in self._steps if x.shape[1] else ():
            x = step.fit_transform(x)
        return self

    def transform(self, numbers: np.ndarray) -> np.ndarray:
        """Scale numbers.

        Parameters
        ----------
        numbers : numpy.ndarray
            Float64 numbers of shape (rows, n_numeric), NaN where missing.

        Returns
        -------
        numpy.ndarray
            Float32 of shape (rows, n_numeric), or (rows, n_numeric, width) where a number becomes a vector; 0 where
            missing, and all within ±1e15.
        """
        active = self._active
        shape = numbers.shape if self.width is None else (*numbers.shape, self.width)
        out = np.zeros(shape, dtype=np.float32)
        if active.any() and len(numbers):
            values = self._transform_active(np.clip(numbers[:, active], -_ENORMOUS, _ENORMOUS))
            out[:, active] = np.clip(np.nan_to_num(values, copy=False, nan=0.0), -_LARGEST, _LARGEST)
        out[np.isnan(numbers)] = 0.0
        return out

    def arrays(self) -> dict[str, np.ndarray]:
        """Give what was learned.

        Returns
        -------
        dict of str to numpy.ndarray
            Float64 arrays, from which `load` restores the scaler to the bit.
        """
        found = {"low": self.low, "high": self.high}
        if self._table is not None:
            found["table"] = self._table
        if self._active.any():
            for i, step in enumerate(self._steps):
                found |= {f"{i}.{name}": np.asarray(getattr(step, name)) for name in _FITTED[type(step)]}
        return found

    def load(self, arrays: Mapping[str, np.ndarray], n_numeric: int) -> Self:
        """Take back what `arrays` gave.

        Parameters
        ----------
        arrays : mapping of str to numpy.ndarray
            The arrays.
        n_numeric : int
            Number columns of the table.

        Returns
        -------
        NumberScaler
            Itself.

        Raises
        ------
        DataError
            If an array is missing, unknown, or of the wrong shape or type.
        """
        for name in ("low", "high"):
            check_saved_array(arrays, name, (n_numeric,))
        self.low, self.high = arrays["low"], arrays["high"]
        n_active = int(self._active.sum())
        known = {"low", "high"}
        if self.width is not None:
            bins = self.config.numerical_preprocessing == "ple"
            check_saved_array(
                arrays, "table", (n_active, self.config.n_bins + 1) if bins else (self.config.n_knots, n_active)
            )
            self._table = arrays["table"]
            known.add("table")
        n_quantiles = len(arrays["0.references_"]) if "0.references_" in arrays else 1
        self._steps = self._make_steps(n_rows=n_quantiles)
        for i, step in enumerate(self._steps if n_active else ()):
            step.n_features_in_ = n_active
            for name in _FITTED[type(step)]:
                key = f"{i}.{name}"
                shape = {"quantiles_": (n_quantiles, n_active), "references_": (n_quantiles,)}.get(name, (n_active,))
                check_saved_array(arrays, key, shape)
                setattr(step, name, arrays[key])
                known.add(key)
        if unknown := set(arrays) - known:
            raise DataError(f"The saved preprocessing has arrays that it does not know: {', '.join(sorted(unknown))}.")
        return self

    @property
    def _active(self) -> np.ndarray:
        """Columns that are transformed: bool of shape (n_numeric,)."""
        return ~self.empty if self.config.numerical_preprocessing == "none" else self.low < self.high

    def _make_steps(self, n_rows: int) -> list[Any]:
        """Make the transformers of the setting, not fitted; they give arrays, whatever `sklearn.set_config` says."""
        return [step.set_output(transform="default") for step in self._transformers(n_rows)]

    def _transformers(self, n_rows: int) -> list[Any]:
        kind = self.config.numerical_preprocessing
        if kind == "standardization":
            return [StandardScaler()]
        if kind == "minmax":
            return [MinMaxScaler()]
        if kind == "robust":
            return [RobustScaler()]
        if kind == "quantile":
            return [
                QuantileTransformer(
                    n_quantiles=min(1000, n_rows),
                    output_distribution="normal",
                    subsample=200_000,
                    random_state=self.random_state,
                )
            ]
        if kind == "yeo-johnson":
            # Far from 0 (years, say) the power grows until the numbers overflow, or shrinks until they collapse.
            return [_FarScaler(), PowerTransformer(standardize=False), StandardScaler()]
        return []

    def _transform_active(self, x: np.ndarray) -> np.ndarray:
        """Transform the columns that carry information."""
        kind = self.config.numerical_preprocessing
        if kind == "ple":
            assert self._table is not None
            return piecewise_linear(x, self._table)
        if kind == "splines":
            knots: Any = self._table
            spline = SplineTransformer(knots=knots, degree=_SPLINE_DEGREE).set_output(transform="default").fit(knots)
            return spline.transform(np.where(np.isnan(x), self.low[self._active], x)).reshape(*x.shape, self.width)
        if kind == "yeo-johnson":
            # A power extrapolates explosively; numbers beyond the range count as its ends, as they do for quantiles.
            x = np.clip(x, self.low[self._active], self.high[self._active])
        for step in self._steps:
            x = step.transform(x)
        return x


def check_saved_array(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> None:
    """Check one array of a saved preprocessing.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        All arrays.
    name : str
        Which one.
    shape : tuple of int
        Shape it must have.

    Raises
    ------
    DataError
        If it is missing, or not float64 of that shape.
    """
    if name not in arrays:
        raise DataError(f"The saved preprocessing lacks the array {name!r}.")
    if arrays[name].shape != shape or arrays[name].dtype != np.float64:
        raise DataError(
            f"The saved array {name!r} must be float64 of shape {shape}, "
            f"however it is {arrays[name].dtype} of shape {arrays[name].shape}."
        )

"""What the regressors add: a standardised target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import RegressorMixin

from mambattn.models._base import TabularEstimator
from mambattn.models.targets import regression_target
from mambattn.training import squared_error
from mambattn.training.losses import RowLoss


class TabularRegressor(RegressorMixin, TabularEstimator):
    """Base of the regressors: squared error on the standardised target."""

    _task: ClassVar[str] = "regression"
    _loss: ClassVar[RowLoss] = staticmethod(squared_error)

    target_mean_: float
    target_scale_: float

    def predict(self, X: Any) -> np.ndarray:
        """Predict the target of each row; a row's result does not depend on the other rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_columns)
            A table with the columns of the fitted one; by name, in any order, where both have names.

        Returns
        -------
        numpy.ndarray of shape (n_rows,)
            Predictions in the units of the target, float64.
        """
        return self._outputs(X)[:, 0].numpy() * self.target_scale_ + self.target_mean_

    @property
    def _n_outputs(self) -> int:
        return 1

    def _learn_target(self, y: Any, weights: np.ndarray) -> np.ndarray:
        return regression_target(y, len(weights))

    def _known_target(self, y: Any, n_rows: int) -> np.ndarray:
        return regression_target(y, n_rows, "y_val")

    def _class_weights(self, targets: np.ndarray) -> np.ndarray:
        return np.ones(len(targets))

    def _learn_scale(self, targets: np.ndarray, weights: np.ndarray) -> None:
        # Counted in a power of two, which costs no digit, squares neither overflow nor vanish.
        unit = float(np.ldexp(1.0, np.frexp(np.abs(targets).max())[1] - 1))
        mean = float(np.average(targets / unit, weights=weights))
        scale = float(np.sqrt(np.average((targets / unit - mean) ** 2, weights=weights)))
        # A constant target leaves a scale of rounding errors, by which nothing must be divided.
        self.target_mean_, self.target_scale_ = mean * unit, scale * unit if scale > 1e-12 * abs(mean) else 1.0

    def _loss_targets(self, targets: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((targets - self.target_mean_) / self.target_scale_).float()

    def _saved_target(self) -> dict[str, Any]:
        return {"mean": self.target_mean_, "scale": self.target_scale_}

    def _load_target(self, values: Mapping[str, Any]) -> None:
        self.target_mean_, self.target_scale_ = float(values["mean"]), float(values["scale"])

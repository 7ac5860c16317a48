"""What the classifiers add: labels, class weights, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from mambattn._errors import DataError
from mambattn.configs import PreprocessingConfig, TabularModelConfig, TrainerConfig
from mambattn.models._base import TabularEstimator
from mambattn.models.targets import LabelEncoder, as_column, as_plain, class_weights
from mambattn.training import cross_entropy
from mambattn.training.losses import RowLoss
from mambattn.training.seeding import RandomState


class TabularClassifier(ClassifierMixin, TabularEstimator):
    """Base of the classifiers: one logit a class, cross-entropy."""

    _task: ClassVar[str] = "classification"
    _loss: ClassVar[RowLoss] = staticmethod(cross_entropy)

    def __init__(
        self,
        model_config: TabularModelConfig | None = None,
        preprocessing_config: PreprocessingConfig | None = None,
        trainer_config: TrainerConfig | None = None,
        random_state: RandomState = None,
        class_weight: Mapping[Any, float] | str | None = None,
    ) -> None:
        super().__init__(model_config, preprocessing_config, trainer_config, random_state)
        self.class_weight = class_weight

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted, in their own type."""
        check_is_fitted(self, "_labels")
        return self._labels.classes

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each row.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_columns)
            A table with the columns of the fitted one; by name, in any order, where both have names.

        Returns
        -------
        numpy.ndarray of shape (n_rows,)
            The most probable label.
        """
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class; a row's result does not depend on the other rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_columns)
            A table with the columns of the fitted one; by name, in any order, where both have names.

        Returns
        -------
        numpy.ndarray of shape (n_rows, n_classes)
            Probabilities in the order of `classes_`, float64.
        """
        return torch.softmax(self._outputs(X), dim=1).numpy()

    @property
    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _learn_target(self, y: Any, weights: np.ndarray) -> np.ndarray:
        labels = as_column(y, len(weights), "y")
        self._labels = LabelEncoder.learn(labels[weights > 0])
        codes = np.zeros(len(labels), dtype=np.int64)
        codes[weights > 0] = self._labels.encode(labels[weights > 0], "y")
        self._weights_of_classes = class_weights(self.class_weight, self._labels, codes, weights)
        return codes

    def _known_target(self, y: Any, n_rows: int) -> np.ndarray:
        return self._labels.encode(as_column(y, n_rows, "y_val"), "y_val")

    def _class_weights(self, targets: np.ndarray) -> np.ndarray:
        return self._weights_of_classes[targets]

    def _learn_scale(self, targets: np.ndarray, weights: np.ndarray) -> None:
        """Labels have no scale."""

    def _loss_targets(self, targets: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(targets)

    def _saved_params(self) -> dict[str, Any]:
        weight = self.class_weight
        if isinstance(weight, Mapping):
            weight = [[as_plain(label), float(value)] for label, value in weight.items()]
            if any(type(label) not in (str, bool, int, float) for label, _ in weight):
                raise DataError(
                    "A model file holds a `class_weight` whose labels are text, numbers or booleans, however "
                    f"class_weight={self.class_weight!r}. Use class_weight=None before saving; it no longer acts."
                )
        return super()._saved_params() | {"class_weight": weight}

    @classmethod
    def _loaded_params(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        weight = values["class_weight"]
        return super()._loaded_params(values) | {"class_weight": dict(weight) if isinstance(weight, list) else weight}

    def _saved_target(self) -> dict[str, Any]:
        return self._labels.to_dict()

    def _load_target(self, values: Mapping[str, Any]) -> None:
        self._labels = LabelEncoder.from_dict(values)

"""What the ten estimators share: fitting, predicting, saving."""

from __future__ import annotations

import copy
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from mambattn._errors import ConfigError, DataError
from mambattn.configs import PreprocessingConfig, TabularModelConfig, TrainerConfig
from mambattn.models._params import ConfiguredEstimator
from mambattn.models.targets import row_weights
from mambattn.tabular import TablePreprocessor, TabularNetwork, as_frame, build_network, make_preprocessor
from mambattn.tabular.backbones import TokenModelConfig
from mambattn.training import (
    History,
    ModelFile,
    Rows,
    draw_seeds,
    hold_out,
    load_weights,
    network_outputs,
    resolve_device,
    train,
)
from mambattn.training.checkpoint import check_keys
from mambattn.training.losses import RowLoss
from mambattn.training.seeding import RandomState

_FACTS = ("params", "model_config", "trainer_config", "features", "preprocessing", "target", "history", "fit_seconds")
_PREPROCESSING, _NETWORK = "preprocessing.", "network."


class TabularEstimator(ConfiguredEstimator, ABC):
    """Base of the estimators: a network over the columns of a table, trained and kept with its preprocessing."""

    _task: ClassVar[str]
    _loss: ClassVar[RowLoss]

    n_features_in_: int
    feature_names_in_: np.ndarray
    preprocessor_: TablePreprocessor
    network_: TabularNetwork
    model_config_: TabularModelConfig
    trainer_config_: TrainerConfig
    history_: History
    fit_seconds_: float

    def __init__(
        self,
        model_config: TabularModelConfig | None = None,
        preprocessing_config: PreprocessingConfig | None = None,
        trainer_config: TrainerConfig | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.model_config = model_config
        self.preprocessing_config = preprocessing_config
        self.trainer_config = trainer_config
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = True
        # Text is welcome, yet scikit-learn's tag `string` promises that a cell may be any object, and dicts are not.
        tags.input_tags.categorical = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Leave a GPU behind: a pickled or copied model opens on any machine."""
        state: dict[str, Any] = dict(vars(self))
        if "network_" in state and next(self.network_.parameters()).is_cuda:
            state["network_"] = copy.deepcopy(self.network_).cpu()
        return state

    @property
    def schedule_(self) -> str | None:
        """The schedule of the fitted stack, one letter a layer; None for a model without layers of mixers."""
        check_is_fitted(self, "network_")
        config = self.model_config_
        return config.layer_schedule if isinstance(config, TokenModelConfig) else None

    @property
    def stopped_by_(self) -> str:
        """What ended the training: "max_epochs", "patience", "max_seconds" or "interrupt"."""
        check_is_fitted(self, "network_")
        return self.history_.stopped_by

    @property
    def n_parameters_(self) -> int:
        """How many numbers were trained."""
        check_is_fitted(self, "network_")
        return sum(parameter.numel() for parameter in self.network_.parameters())

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Self:
        """Train the model.

        Part of the rows (`val_size`; stratified for classes) is held out to choose the best epoch, unless `X_val` and
        `y_val` are given. Preprocessing learns from the training rows alone. Rows of weight 0 are left out.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_columns)
            A table of numbers, text, categories and booleans: a pandas or polars frame, an array or a list of rows.
            Missing values are allowed.
        y : array-like of shape (n_rows,)
            Target.
        sample_weight : array-like of shape (n_rows,) or None, default None
            Weights of the rows in the loss.
        X_val : array-like or frame or None, default None
            Validation rows, if they are not to be taken from `X`.
        y_val : array-like or None, default None
            Their target.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        DataError
            If the table, the target or the weights cannot be used.
        ConfigError
            If a setting cannot hold, or does not fit the table.
        """
        started = time.monotonic()
        config, preprocessing, trainer = (self._resolved(name) for name in self._config_classes())
        split_seed, preprocessing_seed, network_seed, training_seed = draw_seeds(self.random_state, 4)

        frame = as_frame(X)
        vars(self).pop("network_", None)  # a fit that fails must not leave an old network with new preprocessing
        self._check_columns(frame, y, reset=True)
        weights = row_weights(sample_weight, len(frame))
        targets = self._learn_target(y, weights)
        weights = weights * self._class_weights(targets)
        kept = np.flatnonzero(weights > 0)
        if len(kept) < 2:
            raise DataError(
                f"Found a table with {len(kept)} sample(s) of positive weight (shape={frame.shape}), while a minimum "
                "of 2 is required: one to learn from and one to validate by."
            )
        if (X_val is None) != (y_val is None):
            raise DataError("`X_val` and `y_val` go together, however only one of them was given. Give both or none.")
        if X_val is None:
            codes = targets[kept] if self._task == "classification" else None
            train_rows, val_rows = (kept[part] for part in hold_out(len(kept), trainer.val_size, split_seed, codes))
            val_frame, val_targets, val_weights = frame.iloc[val_rows], targets[val_rows], weights[val_rows]
        else:
            train_rows = kept
            val_frame = self._known_frame(X_val)
            val_targets = self._known_target(y_val, len(val_frame))
            val_weights = self._class_weights(val_targets)

        self.preprocessor_ = make_preprocessor(config, preprocessing, preprocessing_seed)
        self.preprocessor_.fit(frame, targets, task=self._task, rows=train_rows)
        scale = float(weights[train_rows].mean())
        self._learn_scale(targets[train_rows], weights[train_rows])
        training, validation = (
            Rows(self.preprocessor_.transform(part), self._loss_targets(values), torch.from_numpy(rows / scale).float())
            for part, values, rows in (
                (frame.iloc[train_rows], targets[train_rows], weights[train_rows]),
                (val_frame, val_targets, val_weights),
            )
        )
        network = build_network(
            config, self.preprocessor_, self._n_outputs, torch.Generator().manual_seed(network_seed)
        )
        self.history_ = train(
            network,
            training,
            validation,
            loss=type(self)._loss,
            config=trainer,
            seed=training_seed,
            started=started,
        )
        self.model_config_, self.trainer_config_, self.network_ = config, trainer, network
        self.fit_seconds_ = time.monotonic() - started
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one file of JSON and tensors; nothing is pickled.

        A `random_state` that is a ``RandomState`` is saved as None, since the file holds no generators.

        Parameters
        ----------
        path : str or os.PathLike
            Where to write, such as "model.mambattn".

        Raises
        ------
        DataError
            If a label is of a type that JSON lacks.
        """
        check_is_fitted(self, "network_")
        values, arrays = self.preprocessor_.state()
        tensors = {f"{_PREPROCESSING}{name}": torch.from_numpy(array) for name, array in arrays.items()}
        tensors |= {f"{_NETWORK}{name}": tensor for name, tensor in self.network_.state_dict().items()}
        names = self.feature_names_in_.tolist() if hasattr(self, "feature_names_in_") else None
        facts = {
            "params": self._saved_params(),
            "model_config": self.model_config_.to_dict(),
            "trainer_config": self.trainer_config_.to_dict(),
            "features": {"n": self.n_features_in_, "names": names},
            "preprocessing": values,
            "target": self._saved_target(),
            "history": self.history_.to_dict(),
            "fit_seconds": self.fit_seconds_,
        }
        ModelFile(model=type(self).__name__, facts=facts, tensors=tensors).write(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that `save` wrote; it predicts identically to the bit.

        Parameters
        ----------
        path : str or os.PathLike
            The file.

        Returns
        -------
        estimator
            The fitted model, of this class.

        Raises
        ------
        DataError
            If the file is missing, damaged, changed, of a newer format, or holds another class.
        """
        content = ModelFile.read(path)
        if content.model != cls.__name__:
            raise DataError(
                f"{os.fspath(path)!r} must hold a {cls.__name__}, however it holds a {content.model}. "
                "Use mambattn.models.load, which reads every class."
            )
        return cls.rebuild(content, os.fspath(path))

    @classmethod
    def rebuild(cls, content: ModelFile, source: str) -> Self:
        """Build the estimator that a file describes."""
        facts = content.facts
        check_keys(facts, _FACTS, source=source)
        groups: dict[str, dict[str, torch.Tensor]] = {_PREPROCESSING: {}, _NETWORK: {}}
        for name, tensor in content.tensors.items():
            prefix = next((prefix for prefix in groups if name.startswith(prefix)), None)
            if prefix is None:
                raise DataError(f"{source!r} has the unknown tensor {name!r}. Save the model again.")
            groups[prefix][name.removeprefix(prefix)] = tensor
        try:
            model = cls(
                model_config=cls._model_config.from_dict(facts["model_config"]),
                trainer_config=TrainerConfig.from_dict(facts["trainer_config"]),
                **cls._loaded_params(facts["params"]),
            )
            arrays = {name: tensor.numpy() for name, tensor in groups[_PREPROCESSING].items()}
            model.preprocessor_ = TablePreprocessor.from_state(facts["preprocessing"], arrays)
            model.preprocessing_config = model.preprocessor_.config
            model._load_target(facts["target"])
            model.n_features_in_ = int(facts["features"]["n"])
            if facts["features"]["names"] is not None:
                model.feature_names_in_ = np.asarray(facts["features"]["names"], dtype=object)
            model.history_ = History.from_dict(facts["history"])
            model.fit_seconds_ = float(facts["fit_seconds"])
            model.model_config_, model.trainer_config_ = (
                model._resolved("model_config"),
                model._resolved("trainer_config"),
            )
            model.network_ = build_network(
                model.model_config_, model.preprocessor_, model._n_outputs, torch.Generator()
            )
        except (AttributeError, ConfigError, DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source!r} does not describe a {cls.__name__}: {error}") from error
        load_weights(model.network_, groups[_NETWORK], source=source)
        model.network_.eval()
        return model

    def _outputs(self, X: Any) -> torch.Tensor:
        """Run the network over a table: outputs (rows, n_outputs), float64, on the CPU."""
        check_is_fitted(self, "network_")
        batch = self.preprocessor_.transform(self._known_frame(X))
        device = resolve_device(self._resolved("trainer_config").device)
        return network_outputs(self.network_.to(device), batch, device=device).double()

    def _known_frame(self, X: Any) -> Any:
        """Give a table as a frame, matched by name where both tables have names and by position otherwise."""
        frame = as_frame(X)
        is_named = all(isinstance(name, str) for name in frame.columns)
        if not (is_named and hasattr(self, "feature_names_in_")):
            self._check_columns(frame, reset=False)
        return frame

    def _check_columns(self, frame: Any, y: Any = "no_validation", *, reset: bool) -> None:
        """Let scikit-learn note the columns, or compare their number and names with those noted."""
        validate_data(self, frame, y, reset=reset, skip_check_array=True)

    def _saved_params(self) -> dict[str, Any]:
        seed = self.random_state
        return {"random_state": int(seed) if isinstance(seed, (int, np.integer)) else None}

    @classmethod
    def _loaded_params(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return {"random_state": values["random_state"]}

    @property
    @abstractmethod
    def _n_outputs(self) -> int:
        """Width of the network's output."""

    @abstractmethod
    def _learn_target(self, y: Any, weights: np.ndarray) -> np.ndarray:
        """Check the target of `fit` and give it as codes or numbers."""

    @abstractmethod
    def _known_target(self, y: Any, n_rows: int) -> np.ndarray:
        """Check the target of further rows, and give it as `_learn_target` does."""

    @abstractmethod
    def _class_weights(self, targets: np.ndarray) -> np.ndarray:
        """Give the weight that each row has by its class."""

    @abstractmethod
    def _learn_scale(self, targets: np.ndarray, weights: np.ndarray) -> None:
        """Learn the scale of the training target."""

    @abstractmethod
    def _loss_targets(self, targets: np.ndarray) -> torch.Tensor:
        """Give the target as the loss takes it."""

    @abstractmethod
    def _saved_target(self) -> dict[str, Any]:
        """Give what is known of the target, JSON-ready."""

    @abstractmethod
    def _load_target(self, values: Mapping[str, Any]) -> None:
        """Take back what `_saved_target` gave."""

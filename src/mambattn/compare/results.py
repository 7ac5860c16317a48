"""What a comparison found, as plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Comparison", "FoldResult", "ModelResult"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldResult:
    """One fit of one model on one fold with one seed.

    Parameters
    ----------
    model : str
        Name of the row of the leaderboard.
    fold, seed : int
        Which split, and which repetition of it.
    score : float
        The comparison's metric on the held-out rows.
    scores : dict of str to float
        Every metric of the task on the held-out rows.
    fit_seconds, predict_seconds : float
        Wall-clock times.
    n_parameters : int or None
        Trained numbers of a network; None for yardsticks.
    n_epochs : int or None
        Epochs run; None for yardsticks.
    best_epoch : int or None
        Epoch (from 1) whose weights were kept; None for yardsticks.
    cut_by_time : bool
        Whether the time limit ended the fit.
    budget_seconds : float or None
        Time the fit was allowed; None where there was no limit.
    history : dict of str to list of float, or None
        Learning curves by epoch ("train_loss", "val_loss", "lr"); None for yardsticks.
    """

    model: str
    fold: int
    seed: int
    score: float
    scores: dict[str, float]
    fit_seconds: float
    predict_seconds: float
    n_parameters: int | None = None
    n_epochs: int | None = None
    best_epoch: int | None = None
    cut_by_time: bool = False
    budget_seconds: float | None = None
    history: dict[str, list[float]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One row of the leaderboard: a model over all folds and seeds.

    Parameters
    ----------
    model : str
        Name.
    family : {"mamba", "attention", "both", "no mixer", "yardstick"}
        What the model mixes its tokens with.
    schedule : str or None
        Schedule of its stack; None where it has none.
    mean, sd : float
        Mean and standard deviation of the score over folds and seeds.
    difference, ci_low, ci_high : float
        Score minus the best row's score, paired on the same held-out rows, and its 95 % bootstrap interval (all 0 for
        the best row itself). Negative is worse whatever the metric: errors are negated.
    n_parameters : int or None
        Trained numbers.
    fit_seconds, predict_seconds : float
        Mean over folds and seeds.
    n_cut : int
        Fits that the time limit ended.
    n_fits : int
        Fits in all.
    """

    model: str
    family: str
    schedule: str | None
    mean: float
    sd: float
    difference: float
    ci_low: float
    ci_high: float
    n_parameters: int | None
    fit_seconds: float
    predict_seconds: float
    n_cut: int
    n_fits: int

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `mambattn.compare.run` found.

    Parameters
    ----------
    task : {"binary", "multiclass", "regression"}
        The task.
    metric : str
        Name of the metric, such as "roc_auc" or "rmse".
    greater_is_better : bool
        Its direction.
    data : dict
        Name, target, n_rows, n_features, n_categorical, n_missing, classes.
    settings : dict
        Folds, seeds, time limit, epochs, random state, thread and process counts.
    machine : dict
        Versions, processor, cores.
    rows : tuple of ModelResult
        The leaderboard, best first.
    folds : tuple of FoldResult
        Every fit.
    contrasts : dict of str to dict
        Paired differences between model families ("both - mamba", "both - attention", "mamba - attention",
        "best mixer - boosting", "best mixer - linear"), each with "a", "b", "difference", "ci_low", "ci_high".
    predictions : dict of str to list, not in the JSON
        Held-out predictions of each row for figures: see `mambattn.compare.run`.
    seconds : float
        Wall-clock time of the whole comparison.
    """

    task: str
    metric: str
    greater_is_better: bool
    data: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    rows: tuple[ModelResult, ...]
    folds: tuple[FoldResult, ...]
    contrasts: dict[str, dict[str, Any]]
    seconds: float
    predictions: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

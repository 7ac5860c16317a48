"""The metrics of a comparison, each with a weight a row, so that a bootstrap over rows is a matrix of weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mambattn._errors import ConfigError

__all__ = ["METRICS", "Metric", "choose_metric", "metrics_of"]

Floats = NDArray[np.float64]
Scorer = Callable[[Floats], Floats]
"""Weights (n, n_draws) of n rows to the n_draws scores; NaN where the metric is not defined."""

TASKS = ("binary", "multiclass", "regression")
CLASSES = ("binary", "multiclass")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
        Its name.
    tasks : tuple of str
        Tasks that it fits.
    greater_is_better : bool
        Its direction.
    prepare : callable
        Maps targets (n,) and predictions to a scorer, which maps weights (n, n_draws) to scores (n_draws,). Sorting
        and other work that no weight changes is done once, here. For classes, targets are positions of the classes
        and predictions are probabilities (n, n_classes); else both are numbers (n,).
    """

    name: str
    tasks: tuple[str, ...]
    greater_is_better: bool
    prepare: Callable[[NDArray, NDArray], Scorer]

    def score(self, y: NDArray, prediction: NDArray) -> float:
        """Score predictions, each row with the same weight.

        Parameters
        ----------
        y : numpy.ndarray
            Targets (n,).
        prediction : numpy.ndarray
            Predictions.

        Returns
        -------
        float
            The score.

        Examples
        --------
        >>> import numpy as np
        >>> METRICS["rmse"].score(np.array([0.0, 0.0]), np.array([3.0, 4.0]))
        3.535...
        """
        return float(self.prepare(y, prediction)(np.ones((len(y), 1)))[0])

    def quality(self, score: float) -> float:
        """Turn a score around where lower is better.

        Parameters
        ----------
        score : float
            A score.

        Returns
        -------
        float
            A number to sort by, greater meaning better; that of NaN is the least.
        """
        return -math.inf if math.isnan(score) else score if self.greater_is_better else -score


def _from_sums(statistics: Floats, combine: Callable[[Floats], Floats]) -> Scorer:
    """Make the scorer of a metric that is a function of weighted sums: `combine` of (k, n_draws) for (n, k)."""
    columns = np.ascontiguousarray(statistics.T)

    def scorer(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return combine(columns @ weights)

    return scorer


def _mean_of(values: NDArray) -> Scorer:
    return _from_sums(np.stack([values, np.ones(len(values))], axis=1), lambda sums: sums[0] / sums[1])


def _accuracy(y: NDArray, prediction: NDArray) -> Scorer:
    return _mean_of(prediction.argmax(axis=1) == y)


def _log_loss(y: NDArray, prediction: NDArray) -> Scorer:
    # A network's probabilities are rounded to float32, so one of exactly 0 stands for anything below its precision.
    tiny = np.finfo(np.float32).eps
    own = np.clip(prediction[np.arange(len(y)), y].astype(np.float64), tiny, 1.0)
    return _mean_of(-np.log(own))


def _balanced_accuracy(y: NDArray, prediction: NDArray) -> Scorer:
    n_classes = prediction.shape[1]
    is_class = y[:, None] == np.arange(n_classes)
    hit = is_class & (prediction.argmax(axis=1) == y)[:, None]

    def combine(sums: Floats) -> Floats:
        there = sums[n_classes:] > 0  # as a recall, a class that no row has does not count
        recall = np.divide(sums[:n_classes], sums[n_classes:], out=np.zeros_like(sums[n_classes:]), where=there)
        return recall.sum(axis=0) / there.sum(axis=0)

    return _from_sums(np.concatenate([hit, is_class], axis=1).astype(np.float64), combine)


def _f1(y: NDArray, prediction: NDArray) -> Scorer:
    called = prediction.argmax(axis=1)
    counts = np.stack([(called == 1) & (y == 1), called == 1, y == 1], axis=1).astype(np.float64)
    return _from_sums(counts, lambda sums: np.where(sums[0] > 0, 2 * sums[0] / (sums[1] + sums[2]), 0.0))


def _rmse(y: NDArray, prediction: NDArray) -> Scorer:
    error = (y - prediction).astype(np.float64) ** 2
    return _from_sums(np.stack([error, np.ones(len(y))], axis=1), lambda sums: np.sqrt(sums[0] / sums[1]))


def _mae(y: NDArray, prediction: NDArray) -> Scorer:
    return _mean_of(np.abs(y - prediction))


def _r2(y: NDArray, prediction: NDArray) -> Scorer:
    centred = y - y.mean()  # the variance as a difference of moments then loses no digits
    statistics = np.stack([(y - prediction) ** 2, centred**2, centred, np.ones(len(y))], axis=1)

    def combine(sums: Floats) -> Floats:
        spread = sums[1] - sums[2] ** 2 / sums[3]
        return np.where(spread > 0, 1 - sums[0] / spread, np.nan)

    return _from_sums(statistics, combine)


def _roc_auc(y: NDArray, prediction: NDArray) -> Scorer:
    """Weighted AUC: the chance that a positive row outranks a negative one, ties counting one half.

    The negatives are sorted once. A positive row i outranks the first `below[i]` of them and ties with those up to
    `upto[i]`; with C the running sum of the sorted negatives' weights, the weight it outranks is the mean of
    C[below[i]] and C[upto[i]].
    """
    score = prediction[:, 1]
    positive, negative = np.flatnonzero(y == 1), np.flatnonzero(y != 1)
    negative = negative[np.argsort(score[negative], kind="stable")]
    below = np.searchsorted(score[negative], score[positive], side="left")
    upto = np.searchsorted(score[negative], score[positive], side="right")
    tied = bool((below != upto).any())

    def scorer(weights: Floats) -> Floats:
        running = np.zeros((len(negative) + 1, weights.shape[1]))
        np.cumsum(weights[negative], axis=0, out=running[1:])
        outranked = 0.5 * (running[below] + running[upto]) if tied else running[below]
        own = weights[positive]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.einsum("ij,ij->j", own, outranked) / (own.sum(axis=0) * running[-1])

    return scorer


METRICS = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", ("binary",), True, _roc_auc),
        Metric("accuracy", CLASSES, True, _accuracy),
        Metric("balanced_accuracy", CLASSES, True, _balanced_accuracy),
        Metric("f1", ("binary",), True, _f1),
        Metric("log_loss", CLASSES, False, _log_loss),
        Metric("rmse", ("regression",), False, _rmse),
        Metric("mae", ("regression",), False, _mae),
        Metric("r2", ("regression",), True, _r2),
    )
}
"""Every metric by name; the first one that fits a task is its default."""


def metrics_of(task: str) -> tuple[Metric, ...]:
    """List the metrics that fit a task, its default first.

    Parameters
    ----------
    task : {"binary", "multiclass", "regression"}
        The task.

    Returns
    -------
    tuple of Metric
        The metrics.

    Examples
    --------
    >>> [metric.name for metric in metrics_of("regression")]
    ['rmse', 'mae', 'r2']
    """
    return tuple(metric for metric in METRICS.values() if task in metric.tasks)


def choose_metric(name: str | None, task: str) -> Metric:
    """Return the metric of that name, or the task's default.

    Parameters
    ----------
    name : str or None
        Name of a metric; None is "roc_auc" for two classes, "accuracy" for more, "rmse" for numbers.
    task : {"binary", "multiclass", "regression"}
        The task.

    Returns
    -------
    Metric
        The metric.

    Raises
    ------
    ConfigError
        If there is no such metric, or it does not fit the task.

    Examples
    --------
    >>> choose_metric(None, "binary").name
    'roc_auc'
    """
    fitting = metrics_of(task)
    if name is None:
        return fitting[0]
    if name not in METRICS:
        raise ConfigError(f"`metric` must be one of {', '.join(METRICS)}, however metric={name!r}.")
    if METRICS[name] not in fitting:
        raise ConfigError(
            f"`metric` {name!r} does not fit a {task} task. Use {', '.join(metric.name for metric in fitting)}."
        )
    return METRICS[name]

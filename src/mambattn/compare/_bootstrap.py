"""The bootstrap over pooled held-out rows, with the same draw for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mambattn.compare.metrics import Metric

__all__ = ["N_DRAWS", "bootstrap_means", "interval", "mean_over_folds"]

N_DRAWS = 2000
LEVEL = 0.95
_CHUNK = 16


def mean_over_folds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average scores (n_fold_scores, ...) over the first axis, leaving out those that are not defined."""
    defined = ~np.isnan(scores)
    count = defined.sum(axis=0)
    total = np.where(defined, scores, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def bootstrap_means(
    metric: Metric,
    y: NDArray,
    fold_of: NDArray[np.int64],
    predictions: Mapping[str, Sequence[NDArray]],
    *,
    n_draws: int = N_DRAWS,
    seed: int | Sequence[int] = 0,
) -> dict[str, NDArray[np.float64]]:
    """Redraw the rows with replacement, and give each model's mean score over folds and seeds for every draw.

    A draw is n rows out of the n of the table, each of which was held out once a seed: `y` is (n,), `fold_of`
    (n_seeds, n) the fold in which a row was held out, and `predictions` has for each model an array a seed, in the
    order of the rows. A row's weight is how often it was drawn. The metric is computed again in every fold, then
    averaged over folds and seeds, as in the leaderboard. All models share each draw, so differences are paired.
    """
    rng = np.random.default_rng(seed)
    n = len(y)
    cells = []
    for s, folds in enumerate(fold_of):
        for fold in np.unique(folds):
            rows = np.flatnonzero(folds == fold)
            scorers = {name: metric.prepare(y[rows], given[s][rows]) for name, given in predictions.items()}
            cells.append((rows, scorers))
    means = {name: np.empty(n_draws) for name in predictions}
    for start in range(0, n_draws, _CHUNK):
        size = min(_CHUNK, n_draws - start)
        counts = np.empty((n, size))
        for draw in range(size):
            counts[:, draw] = np.bincount(rng.integers(0, n, n), minlength=n)
        scores = {name: np.empty((len(cells), size)) for name in predictions}
        for i, (rows, scorers) in enumerate(cells):
            weights = counts[rows]
            for name, scorer in scorers.items():
                scores[name][i] = scorer(weights)
        for name in predictions:
            means[name][start : start + size] = mean_over_folds(scores[name])
    return means


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the percentile interval of the draws, those left out in which no fold defines the metric."""
    tail = 100 * (1 - LEVEL) / 2
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)

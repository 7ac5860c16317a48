"""From fits to the leaderboard: means, paired intervals, and differences between families of models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambattn.compare._bootstrap import interval, mean_over_folds
from mambattn.compare._candidates import Candidate
from mambattn.compare.metrics import Metric
from mambattn.compare.results import FoldResult, ModelResult

__all__ = ["Board", "contrasts", "leaderboard", "mean_scores"]

MIXERS = ("both", "mamba", "attention")


class Board:
    """Means of all rows over the same folds, observed and in every draw of the bootstrap.

    A difference is positive where `a` is better, whatever the metric.
    """

    def __init__(self, metric: Metric, means: Mapping[str, float], draws: Mapping[str, NDArray[np.float64]]) -> None:
        self.means = means
        self._metric = metric
        self._sign = 1.0 if metric.greater_is_better else -1.0
        self._draws = draws

    def quality(self, name: str) -> float:
        """Return a row's mean, greater meaning better."""
        return self._metric.quality(self.means[name])

    def difference(self, a: str, b: str) -> dict[str, float]:
        """Return how much better `a` is than `b`, with its interval."""
        low, high = interval(self._sign * (self._draws[a] - self._draws[b]))
        return {"difference": self._sign * (self.means[a] - self.means[b]), "ci_low": low, "ci_high": high}


def mean_scores(candidates: Sequence[Candidate], results: Sequence[FoldResult]) -> dict[str, float]:
    """Average the scores of each row over folds and seeds."""
    return {
        candidate.name: float(mean_over_folds(np.array([r.score for r in results if r.model == candidate.name])))
        for candidate in candidates
    }


def leaderboard(
    board: Board, candidates: Sequence[Candidate], results: Sequence[FoldResult]
) -> tuple[ModelResult, ...]:
    """Return the rows, best first; of equal ones the earlier in `candidates` comes first."""
    ranked = sorted(candidates, key=lambda candidate: -board.quality(candidate.name))
    best = ranked[0].name
    rows = []
    for candidate in ranked:
        own = [result for result in results if result.model == candidate.name]
        scores = np.array([result.score for result in own])
        no_difference = {"difference": 0.0, "ci_low": 0.0, "ci_high": 0.0}
        rows.append(
            ModelResult(
                model=candidate.name,
                family=candidate.family,
                schedule=candidate.schedule,
                mean=board.means[candidate.name],
                sd=float(np.nanstd(scores, ddof=1)) if np.isfinite(scores).sum() > 1 else math.nan,
                n_parameters=own[0].n_parameters,
                fit_seconds=float(np.mean([result.fit_seconds for result in own])),
                predict_seconds=float(np.mean([result.predict_seconds for result in own])),
                n_cut=sum(result.cut_by_time for result in own),
                n_fits=len(own),
                **(no_difference if candidate.name == best else board.difference(candidate.name, best)),
            )
        )
    return tuple(rows)


def contrasts(board: Board, rows: Sequence[ModelResult]) -> dict[str, dict[str, Any]]:
    """Return the differences between families, each standing for its best row, with how many it was chosen from."""
    names = {family: [row.model for row in rows if row.family == family] for family in (*MIXERS, "no mixer")}
    groups = {
        **{family: names[family] for family in MIXERS},
        "best mixer": [row.model for row in rows if row.family in MIXERS],
        "network without mixer": names["no mixer"],
        **{name: [row.model for row in rows if row.model == name] for name in ("boosting", "linear", "dummy")},
    }
    pairs = [("both", "mamba"), ("both", "attention"), ("mamba", "attention")]
    others = ("boosting", "linear", "network without mixer")
    pairs += [("best mixer", other) for other in (*others, "dummy")]
    pairs += [(family, other) for family in MIXERS for other in others]
    return {
        f"{a} - {b}": {
            "a": groups[a][0],
            "b": groups[b][0],
            "a_of": len(groups[a]),
            "b_of": len(groups[b]),
            **board.difference(groups[a][0], groups[b][0]),
        }
        for a, b in pairs
        if groups[a] and groups[b]
    }

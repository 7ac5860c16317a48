"""The course of a comparison: which fit comes when, what is kept of each, and the network that is saved."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mambattn.compare._board import seconds
from mambattn.compare._budget import Budget
from mambattn.compare._candidates import Candidate
from mambattn.compare._fitting import Fit, FitKey, Outcome, refit
from mambattn.compare._pool import Workers, run_fits
from mambattn.compare._progress import Reporter
from mambattn.compare._store import Store
from mambattn.compare._table import ComparisonTable
from mambattn.compare.metrics import Metric
from mambattn.compare.results import FoldResult

__all__ = ["gather", "keep_best", "make_fits", "order_fits", "scored_by", "uneven"]

_QUICK = ("MLP", "ResNet")
"""Networks that need the least time: they come first, so that what they leave goes to the others."""


def order_fits(candidates: Sequence[Candidate], folds: int, seeds: int) -> list[Fit]:
    """Put the fits in an order in which early fits can leave their time to others, and no mixer is favoured.

    Yardsticks come first, then the quick networks, then the rest fold by fold, each time with another model in front.
    """
    groups: list[list[Candidate]] = [[], [], []]
    for candidate in candidates:
        groups[0 if not candidate.is_network else 1 if candidate.name in _QUICK else 2].append(candidate)
    fits = []
    for group in groups:
        for turn, (seed, fold) in enumerate(itertools.product(range(seeds), range(folds))):
            first = turn % max(1, len(group))
            fits += [Fit(candidate, fold, seed) for candidate in group[first:] + group[:first]]
    return fits


def make_fits(
    fits: Sequence[Fit],
    workers: Workers,
    store: Store | None,
    budget: Budget,
    report: Reporter,
    metric: Metric,
) -> dict[FitKey, Outcome]:
    """Make the fits that `store` does not have yet; return all in the order of `fits`."""
    outcomes: dict[FitKey, Outcome] = {}
    if store is not None:
        outcomes = {fit.key: found for fit in fits if (found := store.read(fit)) is not None}
        report.already(len(outcomes))
    to_do = [fit for fit in fits if fit.key not in outcomes]
    n_after = int(store is not None and any(fit.candidate.is_network for fit in fits))
    for fit, outcome in run_fits(to_do, workers, budget, n_after=n_after):
        outcomes[fit.key] = outcome
        if store is not None:
            store.write(fit, outcome, budget.elapsed())
        report.done(outcome.result, outcome.result.scores[metric.name])
    return {fit.key: outcomes[fit.key] for fit in fits}


def keep_best(
    store: Store,
    workers: Workers,
    candidates: Sequence[Candidate],
    metric: Metric,
    means: Mapping[str, float],
    budget: Budget,
    report: Reporter,
) -> None:
    """Fit the best network once more, on all rows, and save it."""
    networks = [candidate for candidate in candidates if candidate.is_network]
    if not networks:
        return
    best = max(networks, key=lambda candidate: metric.quality(means[candidate.name]))
    if store.refitted() != best.name:
        report.doing(f"fitting {best.name} on all rows")
        workers.submit(refit, best, budget.start("refit", [best.name]), store.model_path).result()
        store.note_refitted(best.name)


def gather(
    table: ComparisonTable, candidates: Sequence[Candidate], outcomes: Mapping[FitKey, Outcome]
) -> dict[str, list[NDArray]]:
    """Put the predictions of each row's folds together, an array a seed, in the order of the table."""
    gathered: dict[str, list[NDArray]] = {}
    for candidate in candidates:
        gathered[candidate.name] = []
        for seed, fold_of in enumerate(table.fold_of):
            parts = [outcomes[candidate.name, int(fold), seed].prediction for fold in np.unique(fold_of)]
            whole = np.empty((len(fold_of), *parts[0].shape[1:]))
            for fold, part in enumerate(parts):
                whole[fold_of == fold] = part
            gathered[candidate.name].append(whole)
    return gathered


def scored_by(result: FoldResult, metric: Metric) -> FoldResult:
    """Return the result with this metric as its score: fits are kept with every metric of their task."""
    return dataclasses.replace(result, score=result.scores[metric.name])


def uneven(results: Sequence[FoldResult]) -> tuple[str, ...]:
    """Say so where the time limit could not give every network that it cut about the same."""
    given = [result.budget_seconds for result in results if result.cut_by_time and result.budget_seconds is not None]
    if not given or min(given) >= max(given) / 2:
        return ()
    return (
        f"The time limit was too short to be shared evenly: networks that it cut trained for {seconds(min(given))} to "
        f"{seconds(max(given))}. Give more time before you compare them.",
    )

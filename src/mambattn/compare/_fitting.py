"""One fit of one row of the leaderboard on one fold, in this process or in a worker."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mambattn.compare._candidates import Candidate, FitSettings
from mambattn.compare._table import ComparisonTable
from mambattn.compare.metrics import metrics_of
from mambattn.compare.results import FoldResult
from mambattn.configs import PreprocessingConfig, TrainerConfig

__all__ = ["Fit", "FitKey", "Outcome", "Workload", "fit_fold", "refit"]


FitKey = tuple[str, int, int]
"""Row, fold and seed."""


@dataclass(frozen=True)
class Fit:
    """A fit to make: which row, on which fold of which seed's folds."""

    candidate: Candidate
    fold: int
    seed: int

    @property
    def key(self) -> FitKey:
        """What tells it from the others."""
        return self.candidate.name, self.fold, self.seed


@dataclass(frozen=True, eq=False)
class Workload:
    """What all fits share; `n_threads` is None where a fit may use them all."""

    table: ComparisonTable
    preprocessing: PreprocessingConfig
    trainer: TrainerConfig
    random_state: int
    n_threads: int | None

    def settings(self, fold: int, seed: int, max_seconds: float | None) -> FitSettings:
        """Return what one fit is told; the same for every model, so that no model has a luckier seed."""
        trainer = self.trainer.replace(verbose=0)
        if max_seconds is not None:
            limits = [max_seconds, *([] if trainer.max_seconds is None else [trainer.max_seconds])]
            trainer = trainer.replace(max_seconds=min(limits))
        return FitSettings(
            task=self.table.task,
            columns=tuple(self.table.frame.columns),
            categorical=self.table.categorical,
            preprocessing=self.preprocessing,
            trainer=trainer,
            seed=int(np.random.SeedSequence([self.random_state, seed, fold]).generate_state(1)[0]),
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """A fit that was made: its result, and its predictions of the rows held out."""

    result: FoldResult
    prediction: NDArray
    overhead: float | None = None


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    """Use so many threads, then as many as before. With one a result does not depend on how many fits run at once."""
    if n_threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(before)


def _fit(model: Any, X: Any, y: NDArray) -> None:
    with warnings.catch_warnings():
        # The yardstick's logistic regression may stop short of its optimum on awkward tables: it is still a yardstick.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)


def fit_fold(work: Workload, fit: Fit, max_seconds: float | None) -> Outcome:
    """Fit a model on the rows of the other folds, and predict those of this fold."""
    started = time.monotonic()
    table = work.table
    train, held_out = table.split(fit.fold, fit.seed)
    settings = work.settings(fit.fold, fit.seed, max_seconds)
    with _threads(work.n_threads):
        model = fit.candidate.build(settings)
        _fit(model, table.frame.iloc[train], table.y[train])
        fitted = time.monotonic()
        rows = table.frame.iloc[held_out]
        prediction = np.asarray(model.predict(rows) if table.task == "regression" else model.predict_proba(rows))
    finished = time.monotonic()
    scores = {metric.name: metric.score(table.y[held_out], prediction) for metric in metrics_of(table.task)}
    cut, network = False, {}
    if fit.candidate.is_network:
        history = model.history_
        _check_interrupt(history.stopped_by)
        cut = max_seconds is not None and history.stopped_by == "max_seconds"
        network = {
            "n_parameters": int(model.n_parameters_),
            "n_epochs": len(history.val_loss),
            "best_epoch": int(history.best_epoch),
            "history": {
                "train_loss": list(history.train_loss),
                "val_loss": list(history.val_loss),
                "lr": list(history.lr),
            },
        }
    result = FoldResult(
        model=fit.candidate.name,
        fold=fit.fold,
        seed=fit.seed,
        score=scores[metrics_of(table.task)[0].name],
        scores=scores,
        fit_seconds=fitted - started,
        predict_seconds=finished - fitted,
        cut_by_time=cut,
        budget_seconds=max_seconds if fit.candidate.is_network else None,
        **network,
    )
    overhead = time.monotonic() - started - max_seconds if cut and max_seconds is not None else None
    return Outcome(result, prediction, overhead)


def _check_interrupt(stopped_by: str) -> None:
    """Pass Ctrl-C on: training ends quietly then, with the best weights so far, which are no result here."""
    if stopped_by == "interrupt":
        raise KeyboardInterrupt


def refit(work: Workload, candidate: Candidate, max_seconds: float | None, path: Path) -> None:
    """Fit a model on every row of the table, with the labels as given, and save it.

    As in the folds, it holds a share of the rows out itself to choose its best epoch.
    """
    no_fold = int(work.table.fold_of.max()) + 1
    settings = work.settings(no_fold, 0, max_seconds)
    with _threads(work.n_threads):
        model = candidate.build(settings)
        _fit(model, work.table.frame, work.table.labels)
    _check_interrupt(model.history_.stopped_by)
    model.save(path)

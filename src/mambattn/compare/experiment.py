"""The main job: the same folds, seeds and budget for every model, and an answer with its uncertainty."""

from __future__ import annotations

import numbers
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch

from mambattn._errors import ConfigError
from mambattn.compare._bootstrap import LEVEL, N_DRAWS, bootstrap_means
from mambattn.compare._budget import Budget
from mambattn.compare._candidates import Candidate, choose_candidates
from mambattn.compare._fitting import Workload
from mambattn.compare._plan import gather, keep_best, make_fits, order_fits, scored_by, uneven
from mambattn.compare._pool import open_workers
from mambattn.compare._progress import reporter
from mambattn.compare._statistics import Board, contrasts, leaderboard, mean_scores
from mambattn.compare._store import open_store
from mambattn.compare._table import ComparisonTable, make_table
from mambattn.compare.metrics import choose_metric
from mambattn.compare.results import Comparison
from mambattn.configs import PreprocessingConfig, TabularModelConfig, TrainerConfig
from mambattn.plots import decimals
from mambattn.report import compare_page
from mambattn.training import resolve_device

__all__ = ["run"]


def run(
    X: Any,
    y: Any,
    *,
    models: Sequence[str] | None = None,
    task: str = "auto",
    metric: str | None = None,
    folds: int = 3,
    seeds: int = 1,
    time_limit: float | None = None,
    max_epochs: int | None = None,
    schedules: Sequence[str] = (),
    ablate: Mapping[str, Sequence[Any]] | None = None,
    preprocessing_config: PreprocessingConfig | None = None,
    trainer_config: TrainerConfig | None = None,
    model_configs: Mapping[str, TabularModelConfig | Mapping[str, Any]] | None = None,
    device: str = "auto",
    n_jobs: int | None = None,
    random_state: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool = True,
    data_name: str | None = None,
    target_name: str | None = None,
) -> Comparison:
    """Train models on the same folds of a table, and say whether Mamba, attention or both suit it.

    Every model meets the same folds, drawn anew for each seed (stratified for classes), and the same seeds. A score is
    the mean over folds and seeds. Differences between rows come with a 95 % interval: the pooled held-out rows are
    drawn again with replacement 2,000 times, the same draw for all models, and the metric is computed again in every
    fold and averaged in the same way; the interval runs from the 2.5th to the 97.5th percentile of the differences.
    It is conditional on the fits: it covers which rows were held out, not what other seeds or other training rows
    would have changed. Where a family of stacks has several rows, its best one stands for it, which flatters it; the
    verdict says so.

    Parameters
    ----------
    X : frame or array-like
        The table, (rows, columns): pandas, polars, or an array. Missing values and text are welcome.
    y : array-like or str
        The target, a value a row; or the name of its column in `X`.
    models : sequence of str or None, default None
        Names out of MambAttention, Mambular, FTTransformer, ResNet, MLP, and the yardsticks dummy (the shares of the
        classes, or the mean), linear (logistic or ridge regression) and boosting (scikit-learn's
        ``HistGradientBoosting``); None is all of them. Case and hyphens do not matter.
    task : {"auto", "classification", "binary", "multiclass", "regression"}, default "auto"
        ``"auto"`` is regression for a numeric target with more than 20 distinct values, or with fractions and more
        than two distinct values; else classification. What was assumed is among the result's `notes`.
    metric : str or None, default None
        For two classes "roc_auc" (the default), "accuracy", "balanced_accuracy", "f1" or "log_loss"; for more
        "accuracy" (the default), "balanced_accuracy" or "log_loss"; for numbers "rmse" (the default), "mae" or "r2".
        Log loss, rmse and mae are better when lower, the others when higher.
    folds : int, default 3
        Folds of the cross-validation.
    seeds : int, default 1
        Repetitions, each with other folds and other seeds of the models.
    time_limit : float or None, default None
        Wall-clock limit of all fits together, in seconds. A network's fit may take the longest time that every fit
        still to start could have; what a fit leaves goes to the later ones. A network is never given less than 0.2 s.
    max_epochs : int or None, default None
        Epochs of each network at most; None is what `trainer_config` says.
    schedules : sequence of str, default ()
        A MambAttention row more for each of these stacks, such as "MMA" (see `mambattn.schedule`).
    ablate : mapping of str to sequence, or None, default None
        Fields of `MambAttentionConfig` with the values to try: a row for every combination, those that give the same
        network merged.
    preprocessing_config : PreprocessingConfig or None, default None
        Preprocessing of the networks; None is the default one.
    trainer_config : TrainerConfig or None, default None
        Training of the networks; None is the default one.
    model_configs : mapping of str to config or dict, or None, default None
        Settings of the networks by name.
    device : str, default "auto"
        ``"auto"`` is CUDA where there is one, else the CPU; or any torch device.
    n_jobs : int or None, default None
        Fits at a time, on worker processes if more than one. On the CPU each uses one thread, so this does not change
        the results; None is the number of cores there (at most the fits there are), and 1 on another device.
    random_state : int, default 0
        Seed of the folds, the fits and the bootstrap. Without a time limit, equal calls give equal results on the CPU.
    out : str, path or None, default None
        A directory for ``comparison.json``, ``report.html``, ``predictions.npz``, ``model.safetensors`` (the best
        network, fitted once more on all rows; where there is a time limit, one share of it is kept for this) and
        ``fits``, where every finished fit is kept at once.
    resume : bool, default True
        Whether to go on from the fits in `out`, the time they took counted. False removes them.
    progress : bool, default True
        Whether to write a line a fit, and a bar, to standard error.
    data_name : str or None, default None
        What to call the table.
    target_name : str or None, default None
        What to call the target; None is its name in `X` or `y`.

    Returns
    -------
    Comparison
        The leaderboard, every fit, the contrasts between families, and the verdict.

    Raises
    ------
    DataError
        If the table or target cannot be used, or `out` holds another comparison.
    ConfigError
        If a setting cannot hold.

    Examples
    --------
    >>> from mambattn.compare import load_bundled, run
    >>> X, y = load_bundled("wine")
    >>> result = run(X, y, models=["linear", "dummy"], n_jobs=1, progress=False)
    >>> [row.model for row in result.rows], result.metric
    (['linear', 'dummy'], 'accuracy')
    """
    candidates, merged = choose_candidates(models, schedules=schedules, ablate=ablate, model_configs=model_configs)
    return compare_candidates(
        X,
        y,
        candidates,
        task=task,
        metric=metric,
        folds=folds,
        seeds=seeds,
        time_limit=time_limit,
        preprocessing=preprocessing_config or PreprocessingConfig(),
        trainer=_merge_trainer(trainer_config or TrainerConfig(), max_epochs, device),
        n_jobs=n_jobs,
        random_state=random_state,
        out=None if out is None else Path(out),
        resume=resume,
        progress=progress,
        data_name=data_name,
        target_name=target_name,
        notes=merged,
    )


def compare_candidates(
    X: Any,
    y: Any,
    candidates: Sequence[Candidate],
    *,
    task: str = "auto",
    metric: str | None = None,
    folds: int = 3,
    seeds: int = 1,
    time_limit: float | None = None,
    preprocessing: PreprocessingConfig,
    trainer: TrainerConfig,
    n_jobs: int | None = None,
    random_state: int = 0,
    out: Path | None = None,
    resume: bool = True,
    progress: bool = True,
    data_name: str | None = None,
    target_name: str | None = None,
    notes: Sequence[str] = (),
) -> Comparison:
    """Do as `run`, with rows that are already chosen."""
    _check_numbers(time_limit, n_jobs, random_state)
    table, target = make_table(
        X,
        y,
        task=task,
        folds=folds,
        seeds=seeds,
        random_state=random_state,
        categorical_columns=preprocessing.categorical_columns,
        target_name=target_name,
    )
    chosen = choose_metric(metric, table.task)
    device = resolve_device(trainer.device)
    on_cpu = device.type == "cpu"
    work = Workload(table, preprocessing, trainer, random_state, n_threads=1 if on_cpu else None)
    fits = order_fits(candidates, folds, seeds)
    n_workers = min(n_jobs or (joblib.cpu_count() if on_cpu else 1), len(fits))
    settings = {
        "models": [candidate.name for candidate in candidates],
        "folds": folds,
        "seeds": seeds,
        "time_limit": time_limit,
        "random_state": random_state,
        "device": str(device),
        "preprocessing": preprocessing.to_dict(),
        "trainer": trainer.to_dict(),
    }
    identity = {
        "table": table.fingerprint,
        "task": table.task,
        **settings,
        "models": [candidate.describe() for candidate in candidates],
    }
    with open_store(out, identity, resume=resume) as store:
        budget = Budget(time_limit, n_workers, spent=0.0 if store is None else store.elapsed())
        notes = (*table.notes, *notes)
        with reporter(len(fits), chosen.name, _digits(table), folds, shown=progress) as report:
            report.say(*notes)
            with open_workers(work, n_workers) as workers:
                outcomes = make_fits(fits, workers, store, budget, report, chosen)
                results = [scored_by(made.result, chosen) for made in outcomes.values()]
                short = uneven(results)
                report.say(*short)
                means = mean_scores(candidates, results)
                if store is not None:
                    keep_best(store, workers, candidates, chosen, means, budget, report)
                seconds = budget.elapsed()
            report.doing("drawing the held-out rows again")
            held_out = gather(table, candidates, outcomes)
            board = Board(
                chosen, means, bootstrap_means(chosen, table.y, table.fold_of, held_out, seed=[random_state, 1])
            )
        rows = leaderboard(board, candidates, results)
        comparison = Comparison(
            task=table.task,
            metric=chosen.name,
            greater_is_better=chosen.greater_is_better,
            data=_describe_table(table, data_name, target),
            settings=settings | {"n_jobs": n_workers, "n_threads": work.n_threads, "n_draws": N_DRAWS, "level": LEVEL},
            machine=_describe_machine(device),
            rows=rows,
            folds=tuple(results),
            contrasts=contrasts(board, rows),
            seconds=seconds,
            notes=(*notes, *short),
            predictions={
                "index": np.arange(len(table.y)),
                "fold": table.fold_of[0],
                "y": table.y,
                "classes": list(table.classes),
                "models": {name: given[0] for name, given in held_out.items()},
            },
        )
        if store is not None:
            store.write_results(comparison, compare_page(comparison))
        return comparison


def _merge_trainer(trainer: TrainerConfig, max_epochs: int | None, device: str) -> TrainerConfig:
    """Put the two settings that `run` takes itself into those of the training."""
    for name, value, unset in (("max_epochs", max_epochs, None), ("device", device, "auto")):
        if value == unset:
            continue
        if not trainer.is_default(name) and getattr(trainer, name) != value:
            raise ConfigError(
                f"`{name}` is {value!r}, but `trainer_config` has {name}={getattr(trainer, name)!r}. Give one of them."
            )
        trainer = trainer.replace(**{name: value})
    return trainer


def _check_numbers(time_limit: float | None, n_jobs: int | None, random_state: int) -> None:
    if time_limit is not None and (not isinstance(time_limit, numbers.Real) or not 0 < time_limit < float("inf")):
        raise ConfigError(f"`time_limit` must be a positive number of seconds, however time_limit={time_limit!r}.")
    for name, value, least in (("n_jobs", n_jobs, 1), ("random_state", random_state, 0)):
        allowed = isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least
        if not allowed and not (name == "n_jobs" and value is None):
            raise ConfigError(f"`{name}` must be an integer of at least {least}, however {name}={value!r}.")


def _digits(table: ComparisonTable) -> int:
    """Return the decimals that scores need; an error has the scale of the target."""
    return decimals([float(np.ptp(table.y))]) if table.task == "regression" else 4


def _describe_table(table: ComparisonTable, name: str | None, target: str) -> dict[str, Any]:
    return {
        "name": name or "table",
        "target": target,
        "n_rows": len(table.frame),
        "n_features": table.frame.shape[1],
        "n_categorical": len(table.categorical),
        "n_missing": int(table.frame.isna().to_numpy().sum()),
        "classes": list(table.classes),
    }


def _describe_machine(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("mambattn", "torch", "scikit-learn", "numpy", "pandas")},
        "processor": platform.processor() or platform.machine(),
        "n_cores": joblib.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
    }

"""Running a study."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count

from mambattn._errors import ConfigError
from mambattn.nn._checks import check_counts
from mambattn.recall.outcome import Outcome, run_cell
from mambattn.recall.pool import run_here, run_on_ray, run_on_workers
from mambattn.recall.results import Results
from mambattn.recall.row import Row
from mambattn.recall.store import Store
from mambattn.recall.study import Study
from mambattn.tasks import parse_task
from mambattn.training.device import resolve_device
from mambattn.training.files import reserved, write_text

__all__ = ["Watcher", "run"]

_SAVE_EVERY = 20.0
"""Seconds between two checkpoints of a cell; a killed run loses as much, and at most the 60 s that are promised."""


class Watcher:
    """What is told how a study goes; this one keeps silent.

    The methods are called in the process that called `run`.
    """

    def begin(self, n_cells: int, n_kept: int) -> None:
        """Learn how many cells there are, and how many of them an earlier run finished.

        Parameters
        ----------
        n_cells, n_kept : int
            Their numbers.
        """

    def step(self, task: str, arch: str, n_done: int, n_steps: int) -> None:
        """Learn how far a cell is; with cells in other processes this is not called.

        Parameters
        ----------
        task, arch : str
            The cell.
        n_done, n_steps : int
            Steps taken, and steps in all.
        """

    def done(self, outcome: Outcome) -> None:
        """Learn what came of a cell.

        Parameters
        ----------
        outcome : Outcome
            Finished, or cut by the time limit.
        """


def run(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    time_limit: float | None = None,
    watcher: Watcher | None = None,
) -> Results:
    """Train and test every architecture of a study on every task.

    Parameters
    ----------
    study : Study
        What to run.
    out : str or os.PathLike or None, default None
        Directory that the results are kept in as they come, with the state of cells under way at least every 60 s: a
        run that was killed goes on there, on a CPU to the same bit. None keeps nothing.
    workers : int or None, default None
        Cells trained at a time, each in a process of its own. None is as many as the cores allow with the study's
        `n_threads`, and one on a GPU. The results do not depend on it.
    ray : str or None, default None
        Address of a Ray cluster that trains the cells instead (extra ``ray``); checkpoints are of use there where all
        nodes share `out`.
    time_limit : float or None, default None
        Seconds after which training stops; cells that it cut are marked unfinished, and go on in a later run.
    watcher : Watcher or None, default None
        What is told how it goes.

    Returns
    -------
    Results
        A row for each task, architecture and seed.

    Raises
    ------
    ConfigError
        If an argument is out of range or does not go with another.
    DataError
        If another run is at work in `out`, it holds another study, or a file in it is damaged.
    BackendUnavailableError
        If Ray is not installed, or has no cluster at the address.
    MambAttnError
        If a worker process is killed, or Ray loses a cell again and again; what is kept in `out` is not lost.

    Examples
    --------
    >>> study = Study(archs=("mamba",), seeds=(0,), lrs=(1e-2,), steps=2, lengths=(32,), d_model=8, batch=4)
    >>> results = run(study, workers=1)
    >>> results.rows[0].arch, results.rows[0].solved
    ('mamba', False)
    """
    if time_limit is not None and not (isinstance(time_limit, (int, float)) and time_limit > 0):
        raise ConfigError(f"`time_limit` must be a number of seconds above 0, however time_limit={time_limit!r}.")
    deadline = math.inf if time_limit is None else time.time() + time_limit
    if workers is not None:
        check_counts(workers=workers)
        if ray is not None:
            raise ConfigError(f"`workers` does not go with `ray`, however workers={workers}, ray={ray!r}. Give one.")
    device = str(resolve_device(study.device))
    watcher = Watcher() if watcher is None else watcher
    _check_draws(study)
    with contextlib.nullcontext() if out is None else reserved(Path(out)):
        store = None if out is None else Store(Path(out), study, torch.device(device).type)
        return _run(study, store, device, deadline, workers, ray, watcher)


def _run(
    study: Study,
    store: Store | None,
    device: str,
    deadline: float,
    workers: int | None,
    ray: str | None,
    watcher: Watcher,
) -> Results:
    cells = [(task, arch) for task in study.tasks for arch in study.archs]
    found = {} if store is None else {key: value for key, value in store.read().items() if key in cells}
    watcher.begin(len(cells), len(found))
    calls = [
        (study, task, arch, device, store and store.checkpoint(task, arch).absolute(), deadline, _SAVE_EVERY)
        for task, arch in cells
        if (task, arch) not in found
    ]
    for outcome in _outcomes(study, calls, device, workers, ray, watcher):
        found[outcome.rows[0].task, outcome.rows[0].arch] = outcome
        if store is not None and outcome.finished:
            store.add(outcome)
        watcher.done(outcome)
        if store is not None:
            _write(store.out, _results(study, found, device))
    results = _results(study, found, device)
    if store is not None:
        _write(store.out, results)
    return results


def _check_draws(study: Study) -> None:
    """Refuse a task that has no sequences of a split, before anything is trained."""
    for task in map(parse_task, study.tasks):
        drawn = [("train", study.train_length), ("validation", study.train_length)]
        for split, seq_len in (*drawn, *(("test", length) for length in study.lengths)):
            task.draw(1, seq_len, seed=0, split=split)


def _outcomes(
    study: Study, calls: list[tuple[Any, ...]], device: str, workers: int | None, ray: str | None, watcher: Watcher
) -> Iterator[Outcome]:
    if ray is not None and calls:
        n_gpus = 0 if device == "cpu" else 1
        return run_on_ray(run_cell, calls, ray, n_cpus=study.n_threads, n_gpus=n_gpus)
    if workers is None:
        workers = 1 if device != "cpu" else max(1, cpu_count() // study.n_threads)
    workers = min(workers, len(calls))
    if workers > 1:
        return run_on_workers(run_cell, calls, workers)
    return run_here(run_cell, ((*call, _teller(watcher, study.steps, *call[1:3])) for call in calls))


def _teller(watcher: Watcher, n_steps: int, task: str, arch: str) -> Callable[[int], None]:
    return lambda n_done: watcher.step(task, arch, n_done, n_steps)


def _results(study: Study, found: dict[tuple[str, str], Outcome], device: str) -> Results:
    rows: list[Row] = []
    for task in study.tasks:
        for arch in study.archs:
            if (task, arch) in found:
                rows += found[task, arch].rows
    return Results(tuple(rows), {**study.to_dict(), "device": torch.device(device).type})


def _write(out: Path, results: Results) -> None:
    write_text(out / "results.json", json.dumps([row.to_dict() for row in results.rows], indent=1))

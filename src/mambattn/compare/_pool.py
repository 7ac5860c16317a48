"""Where fits run: one after the other in this process, or several at a time on worker processes."""

from __future__ import annotations

import functools
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from joblib.externals.loky import ProcessPoolExecutor

from mambattn.compare._budget import Budget
from mambattn.compare._fitting import Fit, Outcome, Workload, fit_fold
from mambattn.training.workers import open_pool

__all__ = ["Workers", "open_workers", "run_fits"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Work = Callable[Concatenate[Workload, Arguments], Result]


class Workers(Protocol):
    """Takes calls of functions of the workload, `n_jobs` at a time."""

    n_jobs: int

    def submit(
        self, function: Work[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Start a call, and return what will hold its result."""
        ...


class _ThisProcess:
    """Runs a call at once."""

    n_jobs = 1

    def __init__(self, work: Workload) -> None:
        self._work = work

    def submit(
        self, function: Work[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        future: Future[Result] = Future()
        future.set_result(function(self._work, *args, **kwargs))
        return future


class _Processes:
    """Runs calls on worker processes, each of which reads the workload once, from a file."""

    def __init__(self, pool: ProcessPoolExecutor, path: Path, n_jobs: int) -> None:
        self._pool = pool
        self._path = path
        self.n_jobs = n_jobs

    def submit(
        self, function: Work[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        return self._pool.submit(_call, self._path, function, *args, **kwargs)


@contextmanager
def open_workers(work: Workload, n_jobs: int) -> Iterator[Workers]:
    """Give workers while the block runs; what still runs when it fails, or on Ctrl-C, is ended."""
    if n_jobs == 1:
        _warm_up()
        yield _ThisProcess(work)
        return
    with tempfile.TemporaryDirectory(prefix="mambattn-") as folder:
        path = Path(folder) / "workload.pickle"
        path.write_bytes(pickle.dumps(work))
        mend = "Use n_jobs=1; with the same `out`, the fits that are done are kept."
        with open_pool(n_jobs, mend=mend, warm_up=_warm_up) as pool:
            yield _Processes(pool, path, n_jobs)


def _warm_up() -> None:
    """Make a first step of an optimiser, which imports for seconds, so that the first fit is not charged for it."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()


@functools.lru_cache(maxsize=1)
def _load(path: Path) -> Workload:
    return pickle.loads(path.read_bytes())  # noqa: S301 - written by the parent, in a directory of its own


def _call(path: Path, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(_load(path), *args, **kwargs)


def run_fits(
    fits: Sequence[Fit], workers: Workers, budget: Budget, *, n_after: int = 0
) -> Iterator[tuple[Fit, Outcome]]:
    """Make the fits in their order, and yield each as it is done.

    A fit is handed over only when a worker is free, so that its share of the time is worked out as it starts.
    `n_after` networks are still to be fitted when all are done.
    """
    waiting = list(fits)
    running: dict[Future[Outcome], Fit] = {}
    while waiting or running:
        while waiting and len(running) < workers.n_jobs:
            unstarted = [fit.candidate.name for fit in waiting if fit.candidate.is_network]
            fit = waiting.pop(0)
            seconds = budget.start(fit.key, unstarted, n_after) if fit.candidate.is_network else None
            running[workers.submit(fit_fold, fit, seconds)] = fit
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            fit, outcome = running.pop(future), future.result()
            budget.finish(fit.key, fit.candidate.name, outcome.overhead)
            yield fit, outcome

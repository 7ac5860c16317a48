"""A cell from its first step, or its checkpoint, to its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mambattn.recall._kept import KeptCell
from mambattn.recall.cell import CellTraining, members_of
from mambattn.recall.row import Row
from mambattn.recall.study import Study

__all__ = ["Outcome", "run_cell"]

_SOLVED = 0.99

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Parameters
    ----------
    rows : tuple of Row
        One a seed, with the learning rate that was chosen for the cell.
    members : tuple of mapping
        For each member `seed`, `lr`, `accuracy` and `loss` on the draw that chose the learning rate; empty where the
        cell is not finished.
    seconds : float
        Time spent on it, over all runs.
    """

    rows: tuple[Row, ...]
    members: tuple[Mapping[str, Any], ...]
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return all(row.finished for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values.

        Returns
        -------
        dict
            The fields.
        """
        rows = [row.to_dict() for row in self.rows]
        return {"rows": rows, "members": [dict(member) for member in self.members], "seconds": self.seconds}


def run_cell(
    study: Study,
    task: str,
    arch: str,
    device: str,
    checkpoint: Path | None = None,
    deadline: float = math.inf,
    save_every: float = 20.0,
    progress: Progress = lambda n_done: None,
) -> Outcome:
    """Train, choose the learning rate and test.

    Parameters
    ----------
    study : Study
        The study.
    task, arch : str
        The cell.
    device : str
        Where to train.
    checkpoint : Path or None, default None
        File that the state is kept in; where it exists, training goes on from there, to the same result.
    deadline : float, default inf
        Time (of `time.time`) at which training stops, its state kept.
    save_every : float, default 20.0
        Seconds between two checkpoints.
    progress : callable, optional
        Called with the number of steps done, now and then.

    Returns
    -------
    Outcome
        Rows of all seeds; not finished where the deadline came first.

    Raises
    ------
    DataError
        If the checkpoint is damaged or of another study.
    """
    with _threads(study.n_threads):
        training = CellTraining(study, task, arch, torch.device(device))
        identity = {"study": study.identity(), "task": task, "arch": arch, "device": torch.device(device).type}
        kept = KeptCell(training, identity, checkpoint, save_every)
        while training.n_done < study.steps:
            if time.time() >= deadline:
                kept.save()
                return _cut(study, task, arch, training.n_done, kept.seconds)
            training.step()
            if training.n_done % 50 == 0:
                if training.device.type == "cuda":
                    torch.cuda.synchronize()  # so that the clock speaks of steps taken, not of steps launched
                progress(training.n_done)
            kept.save_if_due()
        try:
            rows, members = _test(study, task, arch, kept, deadline)
        except TimeoutError:
            return _cut(study, task, arch, training.n_done, kept.seconds)
        return Outcome(rows, members, kept.seconds)


def _cut(study: Study, task: str, arch: str, n_done: int, seconds: float) -> Outcome:
    rows = (Row(task, arch, seed, math.nan, n_done, False, {}, finished=False) for seed in study.seeds)
    return Outcome(tuple(rows), (), seconds)


def _tested(
    kept: KeptCell, members: Sequence[int], seq_len: int, n: int, split: str, deadline: float
) -> tuple[list[float], list[float]]:
    """Test members, from where an earlier run came to; raises `TimeoutError` at the deadline, all of it kept."""
    training, name = kept.training, f"{split} {seq_len}"
    for tally in training.tallies(members, seq_len, n, split, kept.tests.get(name)):
        kept.tests[name] = tally
        kept.save_if_due()
        if tally.n < n and time.time() >= deadline:
            kept.save()
            raise TimeoutError
    return kept.tests[name].means(n * training.task.n_queries)


def _test(
    study: Study, task: str, arch: str, kept: KeptCell, deadline: float
) -> tuple[tuple[Row, ...], tuple[Mapping[str, Any], ...]]:
    kept.save()
    pairs = members_of(study)
    measured = _tested(kept, range(len(pairs)), study.train_length, study.n_validation, "validation", deadline)
    members = tuple(
        {"seed": seed, "lr": lr, "accuracy": right, "loss": nats if math.isfinite(nats) else None}
        for (seed, lr), right, nats in zip(pairs, *measured, strict=True)
    )
    lr = _best_rate(study.lrs, members)
    chosen = [i for i, (_, rate) in enumerate(pairs) if rate == lr]
    found = {length: _tested(kept, chosen, length, study.n_test, "test", deadline)[0] for length in study.lengths}
    rows = []
    for i, seed in enumerate(study.seeds):
        curve = {length: accuracies[i] for length, accuracies in found.items()}
        rows.append(Row(task, arch, seed, lr, study.steps, curve[study.train_length] >= _SOLVED, curve))
    return tuple(rows), members


def _best_rate(lrs: Sequence[float], members: Sequence[Mapping[str, Any]]) -> float:
    """Choose one rate for the cell: the best accuracy over seeds, and among equals the smallest loss."""

    def worth(lr: float) -> tuple[float, float]:
        own = [member for member in members if member["lr"] == lr]
        losses = [math.inf if member["loss"] is None else member["loss"] for member in own]
        return sum(member["accuracy"] for member in own), -sum(losses)

    return max(lrs, key=worth)


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

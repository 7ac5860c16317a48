"""A run of benchmarks: cases in, one result out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mambattn.bench.cases import Case
from mambattn.bench.limits import Limits, measure_limits
from mambattn.bench.machine import machine
from mambattn.bench.measure import Measurement, measure
from mambattn.bench.peers import peers
from mambattn.bench.problems import contenders
from mambattn.bench.training import TrainingMeasurement, measure_training

__all__ = ["BenchResult", "run"]


@dataclass(frozen=True)
class BenchResult:
    """What a run of benchmarks found.

    Parameters
    ----------
    machine : dict of str
        What it ran on.
    limits : Limits
        Ceilings measured in the same run.
    rounds : int
        Runs of each contender, of which medians are given.
    cases : tuple of Case
        What was measured.
    rows : tuple of Measurement or TrainingMeasurement
        One for each case and contender.
    missing : dict of str
        Why a peer was left out, by its module.
    """

    machine: dict[str, str]
    limits: Limits
    rounds: int
    cases: tuple[Case, ...]
    rows: tuple[Measurement | TrainingMeasurement, ...]
    missing: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as a dictionary for JSON.

        Returns
        -------
        dict
            Field names and values.
        """
        return {
            "machine": self.machine,
            "limits": asdict(self.limits),
            "rounds": self.rounds,
            "cases": [case.to_dict() for case in self.cases],
            "rows": [row.to_dict() for row in self.rows],
            "missing": self.missing,
        }


def run(
    cases: Sequence[Case],
    *,
    device: torch.device,
    rounds: int = 7,
    report: Callable[[Case], None] = lambda case: None,
) -> BenchResult:
    """Check and time cases, one after the other, on as many threads as torch has.

    Parameters
    ----------
    cases : sequence of Case
        What to measure.
    device : torch.device
        Where.
    rounds : int, default 7
        Runs of each contender; medians are given.
    report : callable, optional
        Called with each case before it is measured.

    Returns
    -------
    BenchResult
        The figures.

    Raises
    ------
    WrongResultError
        If a contender computes something else than the definition; no time is reported then.

    Examples
    --------
    >>> import torch
    >>> from mambattn.bench import Case, run
    >>> case = Case("tiny", "causal_conv1d", (2, 5, 8, 4), "an example")
    >>> result = run([case], device=torch.device("cpu"), rounds=1)
    >>> result.rows[0].contender
    'loop'
    """
    limits, about = measure_limits(device), machine(device)
    rows: list[Measurement | TrainingMeasurement] = []
    missing: dict[str, str] = {}
    for case in cases:
        report(case)
        if case.op == "training_step":
            rows += measure_training(case, rounds, device)
        else:
            others, why = peers(case, device)
            missing |= why
            rows += measure(case, contenders(case, device) + others, rounds, device, limits)
    return BenchResult(about, limits, rounds, tuple(cases), tuple(rows), missing)

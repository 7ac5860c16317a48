"""Checking and timing: nothing is timed whose result is wrong."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mambattn._errors import MambAttnError
from mambattn.bench.cases import BASELINE, ScanCase
from mambattn.ops import selective_scan

__all__ = ["TOLERANCE", "Measurement", "WrongResultError", "check", "measure"]

TOLERANCE = 2e-5
_PART = {"rows": 3, "tokens": 96}


class WrongResultError(MambAttnError):
    """What was to be timed does not compute what it should."""


@dataclass(frozen=True)
class Measurement:
    """The times of one contender on one case.

    Parameters
    ----------
    case : str
        Name of the case.
    shape : tuple of int
        The sizes (batch, d_inner, seq_len, d_state).
    contender : str
        What ran.
    forward_ms : float
        Median milliseconds of the forward alone, without gradients.
    total_ms : float
        Median milliseconds of forward and backward.
    best_ms : float
        Smallest milliseconds of forward and backward.
    ratio : float
        How many times faster than the unbind loop it is, by the medians of forward and backward.
    error : float
        Largest error of an output or gradient against float64, in units of the largest true value.
    """

    case: str
    shape: tuple[int, int, int, int]
    contender: str
    forward_ms: float
    total_ms: float
    best_ms: float
    ratio: float
    error: float

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as a dictionary for JSON.

        Returns
        -------
        dict
            Field names and values.
        """
        return asdict(self)


def _forward_backward(run: Callable[..., Tensor], inputs: Mapping[str, Tensor], dy: Tensor) -> tuple[Tensor, ...]:
    y = run(**inputs)
    return y.detach(), *torch.autograd.grad(y, list(inputs.values()), dy)


def _gradient_like(case: ScanCase, u: Tensor) -> Tensor:
    return torch.randn(u.shape, generator=torch.Generator().manual_seed(case.seq_len))


def check(case: ScanCase, run: Callable[..., Tensor]) -> float:
    """Compare output and all gradients with the definition in float64, on a few rows and the first tokens.

    Parameters
    ----------
    case : ScanCase
        Where the inputs come from.
    run : callable
        Function of the inputs.

    Returns
    -------
    float
        The largest error, in units of the largest true value.

    Raises
    ------
    WrongResultError
        If it is above `TOLERANCE`.
    """
    inputs = {
        name: x[: _PART["rows"], : _PART["tokens"]] if name in {"u", "dt", "B", "C", "z"} else x
        for name, x in case.inputs().items()
    }
    dy = _gradient_like(case, inputs["u"])
    given = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    wide = {name: x.double().requires_grad_() for name, x in inputs.items()}
    results = _forward_backward(run, given, dy)
    truth = _forward_backward(lambda **x: selective_scan(**x, dt_softplus=True, backend="reference"), wide, dy.double())
    names = ("y", *(f"the gradient of {name}" for name in inputs))
    worst = 0.0
    for name, x, want in zip(names, results, truth, strict=True):
        error = ((x - want).abs().max() / want.abs().max()).item()
        if not error <= TOLERANCE:
            raise WrongResultError(f"{name} is off by {error:.1e} of its largest value, more than {TOLERANCE:.0e}")
        worst = max(worst, error)
    return worst


def measure(case: ScanCase, runs: Mapping[str, Callable[..., Tensor]], rounds: int) -> list[Measurement]:
    """Check all contenders, then time them in turn, so that what disturbs the machine disturbs all of them.

    Times are CPU time of the process, each after a run that is not timed, as in a training loop.

    Parameters
    ----------
    case : ScanCase
        The shape and inputs.
    runs : dict of callable
        The contenders, the unbind loop among them.
    rounds : int
        How often each runs; medians are reported.

    Returns
    -------
    list of Measurement
        One for each contender.

    Raises
    ------
    WrongResultError
        If one of them computes something else; its name is in the message.
    """
    errors = {}
    for name, run in runs.items():
        try:
            errors[name] = check(case, run)
        except WrongResultError as error:
            raise WrongResultError(f"{name} at {case.shape}: {error}; no time is reported") from error
    inputs = {name: x.requires_grad_() for name, x in case.inputs().items()}
    dy = _gradient_like(case, inputs["u"])
    forwards: dict[str, list[float]] = {name: [] for name in runs}
    totals: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            # Untimed: the memory that the contender before gave back is not paged in at this one's cost.
            _forward_backward(run, inputs, dy)
            started = time.process_time()
            with torch.no_grad():
                run(**inputs)
            between = time.process_time()
            _forward_backward(run, inputs, dy)
            forwards[name].append(1e3 * (between - started))
            totals[name].append(1e3 * (time.process_time() - between))
    loop = statistics.median(totals[BASELINE])
    return [
        Measurement(
            case=case.name,
            shape=case.shape,
            contender=name,
            forward_ms=statistics.median(forwards[name]),
            total_ms=statistics.median(totals[name]),
            best_ms=min(totals[name]),
            ratio=loop / statistics.median(totals[name]),
            error=errors[name],
        )
        for name in runs
    ]

"""Checking and timing: nothing is timed whose result is wrong."""

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mambattn._errors import MambAttnError
from mambattn.bench.cases import SIZES, Case
from mambattn.bench.contender import Contender, Trial
from mambattn.bench.limits import Limits
from mambattn.bench.problems import AXES, definition, draw, sizes_of

__all__ = ["TOLERANCE", "Measurement", "WrongResultError", "check", "measure"]

TOLERANCE = {"float32": 2e-5, "bfloat16": 1e-2}
_STATUS, _START_ANEW = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_PART = {"b": 3, "t": 96}
_LONGEST_DENSE = 8192
_FORMS_AT_MOST = 2**32
"""Bytes of the states of all tokens above which what forms them is left out."""


class WrongResultError(MambAttnError):
    """What was to be timed does not compute what it should."""


@dataclass(frozen=True)
class Measurement:
    """The times of one contender on one case.

    Parameters
    ----------
    case : str
        Name of the case.
    contender : str
        What ran.
    forward_ms : float
        Median milliseconds of the forward alone, without gradients: of processor time, or of the GPU.
    total_ms : float or None
        Median milliseconds of forward and backward; None for a step of one token.
    wall_ms : float
        Median milliseconds by the clock, of forward and backward where there is one, Python and launches included.
    graph_ms : float or None
        The same as one CUDA graph, which leaves Python and launches out; None where there is none.
    ratios : dict of float
        How many times faster it is than each other contender, by ``total_ms`` or else ``forward_ms``.
    exponential_share : float or None
        Exponentials of the forward a second, in units of the measured limit; None but for scans.
    memory_share : float
        Bytes that the forward must move a second, in units of the measured limit.
    extra_mib : float or None
        Peak of the memory taken during forward and backward, the results included.
    error : float
        Largest error of an output or gradient against float64: of the largest value in float32, in the 2-norm else.
    """

    case: str
    contender: str
    forward_ms: float
    total_ms: float | None
    wall_ms: float
    graph_ms: float | None
    ratios: dict[str, float]
    exponential_share: float | None
    memory_share: float
    extra_mib: float | None
    error: float

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as a dictionary for JSON.

        Returns
        -------
        dict
            Field names and values.
        """
        return asdict(self)


def _has_backward(case: Case) -> bool:
    return not case.op.endswith("_step")


def _parts(case: Case) -> list[dict[str, int]]:
    """Say how much of which axes is compared: a few rows and tokens of all channels, and all tokens of a few channels.

    The second part is cut from a run at the full size, since other kernels may serve it than a short one.
    """
    parts = [_PART | ({"t": 2 * case["window"]} if case.op == "attention" else {})]
    if _has_backward(case) and not (case.op == "attention" and case["seq_len"] > _LONGEST_DENSE):
        parts.append({"b": 1} | {"ssd": {"h": 1, "p": 4}, "attention": {"h": 1}}.get(case.op, {"d": 4}))
    return parts


def _cut(x: Tensor, letters: str, part: Mapping[str, int]) -> Tensor:
    return x[tuple(slice(part.get(letter)) for letter in letters)].contiguous()


def check(case: Case, contender: Contender, device: torch.device) -> float:
    """Compare outputs and gradients with the definition in float64: on a few rows and tokens, then at the full length.

    Parameters
    ----------
    case : Case
        Where the inputs come from.
    contender : Contender
        What is checked.
    device : torch.device
        Where it runs.

    Returns
    -------
    float
        The largest error.

    Raises
    ------
    WrongResultError
        If it is above `TOLERANCE`.
    """
    backward = _has_backward(case)
    axes, inputs = AXES[case.op], draw(case, device)
    worst = 0.0
    for part in _parts(case):
        small = {name: _cut(x, axes[name], part) for name, x in inputs.items()}
        truth = Trial(Contender("definition", definition(case)), {n: x.double() for n, x in small.items()}, axes)
        outputs, gradients = Trial(contender, small if "t" in part else inputs, axes).results(backward=backward)
        wanted, wanted_gradients = truth.results(backward=backward)
        names = list(gradients)
        if "t" not in part and backward:
            # At the full size: the first output has the axes of the first input, and the gradient of what is cut along
            # all these axes is that of the part alone.
            outputs, wanted = (_cut(outputs[0], next(iter(axes.values())), part),), wanted[:1]
            names = [name for name in gradients if set(part) <= set(axes[name])]
            gradients = {name: _cut(gradients[name], axes[name], part) for name in names}
        pairs = [(f"output {i}", y, want) for i, (y, want) in enumerate(zip(outputs, wanted, strict=True))]
        pairs += [(f"the gradient of {name}", gradients[name], wanted_gradients[name]) for name in names]
        worst = max([worst, *(_error(case, *pair) for pair in pairs)])
    return worst


def _error(case: Case, name: str, x: Tensor, want: Tensor) -> float:
    """Give the error of an output or gradient, or refuse it."""
    difference = x.double() - want
    if case.dtype == "float32":
        error = (difference.abs().max() / want.abs().max()).item()
    else:
        error = (difference.norm() / want.norm()).item()
    limit = TOLERANCE[case.dtype]
    if not error <= limit:
        raise WrongResultError(f"{name} is off by {error:.1e}, more than {limit:.0e}")
    return error


class _Clock:
    """Times calls: processor time on the CPU, events on a GPU with its caches emptied in between."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._flush = torch.empty(1 << 28, dtype=torch.int8, device=device) if self._on_gpu else None

    def __call__(self, run: Callable[[], object]) -> tuple[float, float]:
        """Give milliseconds of device and of the clock."""
        if self._flush is None:
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)
        self._flush.zero_()
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        wall = time.perf_counter()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end), 1e3 * (time.perf_counter() - wall)

    def graph(self, run: Callable[[], object]) -> float | None:
        """Give milliseconds of a replayed graph, or None where there is none."""
        if not self._on_gpu:
            return None
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError:
            torch.cuda.synchronize()
            return None
        return statistics.median(self(graph.replay)[0] for _ in range(9))


def _give_back() -> None:
    """Let the C library return to the system what it keeps for later, which would hide what a call takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident(which: str) -> int:
    """Give bytes of this process in memory, now (VmRSS) or at most (VmHWM)."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def _peak_mib(run: Callable[[], object], device: torch.device) -> float | None:
    """Give the peak of the memory that a call takes; None where the system does not count it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not os.access(_START_ANEW, os.W_OK):
        return None
    gc.collect()
    _give_back()
    _START_ANEW.write_text("5", encoding="utf-8")
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 2**20


def _bytes_of_forward(case: Case, inputs: dict[str, Tensor]) -> int:
    output = prod(sizes_of(case, next(iter(AXES[case.op].values()))))
    element = torch.empty((), dtype=getattr(torch, case.dtype)).element_size()
    state = inputs["state"].nbytes if "state" in inputs else 0
    return sum(x.nbytes for x in inputs.values()) + output * element + state


def _can_run(case: Case, contender: Contender) -> bool:
    if "seq_len" not in SIZES[case.op]:
        return True
    if contender.max_seq_len is not None and case["seq_len"] > contender.max_seq_len:
        return False
    return not contender.forms_states or 4 * prod(case.sizes) <= _FORMS_AT_MOST


def measure(
    case: Case, contenders: Sequence[Contender], rounds: int, device: torch.device, limits: Limits
) -> list[Measurement]:
    """Check all contenders, then time them in turn, so that what disturbs the machine disturbs all of them.

    Each is timed after a run that is not, as in a training loop: the memory that the one before gave back is not paged
    in at this one's cost.

    Parameters
    ----------
    case : Case
        One of any op but "training_step".
    contenders : sequence of Contender
        What runs; those that would take too long or too much memory at this size are left out.
    rounds : int
        How often each runs; medians are reported.
    device : torch.device
        Where they run.
    limits : Limits
        Of the device.

    Returns
    -------
    list of Measurement
        One for each contender.

    Raises
    ------
    WrongResultError
        If one of them computes something else; its name is in the message.
    """
    running = [contender for contender in contenders if _can_run(case, contender)]
    errors = {}
    for contender in running:
        try:
            errors[contender.name] = check(case, contender, device)
        except WrongResultError as error:
            raise WrongResultError(f"{contender.name} at {case.name}: {error}; no time is reported") from error
    gc.collect()
    inputs, clock = draw(case, device), _Clock(device)
    trials = {contender.name: Trial(contender, inputs, AXES[case.op]) for contender in running}
    forwards: dict[str, list[float]] = {name: [] for name in trials}
    totals: dict[str, list[float]] = {name: [] for name in trials}
    walls: dict[str, list[float]] = {name: [] for name in trials}
    for _ in range(rounds):
        for name, trial in trials.items():
            whole = trial.both if _has_backward(case) else trial.forward
            whole()
            if _has_backward(case):
                forwards[name].append(clock(trial.forward)[0])
            total, wall = clock(whole)
            totals[name].append(total)
            walls[name].append(wall)
    times = {name: statistics.median(totals[name]) for name in trials}
    rows = []
    for name, trial in trials.items():
        forward = statistics.median(forwards[name] or totals[name])
        whole = trial.both if _has_backward(case) else trial.forward
        exponentials = prod(case.sizes) if case.op == "selective_scan" else 0
        share = 1e3 * exponentials / forward / limits.exponentials if exponentials and limits.exponentials else None
        rows.append(
            Measurement(
                case=case.name,
                contender=name,
                forward_ms=forward,
                total_ms=times[name] if _has_backward(case) else None,
                wall_ms=statistics.median(walls[name]),
                graph_ms=clock.graph(whole),
                ratios={other: times[other] / times[name] for other in times if other != name},
                exponential_share=share,
                memory_share=1e3 * _bytes_of_forward(case, inputs) / forward / limits.bytes,
                extra_mib=_peak_mib(whole, device),
                error=errors[name],
            )
        )
    return rows

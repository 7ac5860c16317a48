"""What the machine can do at most: exponentials and bytes a second, measured in the run that uses them."""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from mambattn.ops._native import library
from mambattn.ops._triton import serves
from mambattn.ops._triton.launch import launch

__all__ = ["Limits", "measure_limits"]


class _RateJob(ctypes.Structure):
    """The fields of csrc/rate.c, in the same order."""

    _fields_ = [(name, ctypes.c_int64) for name in ("items", "rounds", "next")]


@dataclass(frozen=True)
class Limits:
    """Measured ceilings.

    Parameters
    ----------
    exponentials : float or None
        Exponentials a second, in the arithmetic that the kernels use; None where there is no kernel to measure with.
    bytes : float
        Bytes a second, read and written, of a copy much larger than the caches.
    """

    exponentials: float | None
    bytes: float


def _seconds(run: Callable[[], object], device: torch.device, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _exponentials_of_cpu() -> float | None:
    if library.missing is not None:
        return None
    best = library.current()
    items, rounds, block = torch.get_num_threads(), 20_000, 64

    def run() -> None:
        best.run("mambattn_exp_rate", _RateJob(items, rounds, 0), items, 16)

    return items * rounds * block * best.lanes / _seconds(run, torch.device("cpu"))


def _exponentials_of_gpu(device: torch.device) -> float | None:
    if serves.missing() is not None:
        return None
    from mambattn.bench.exp_kernel import exponentiate

    programs, rounds, block = 4096, 4096, 512
    out = torch.empty(programs * block, device=device)

    def run() -> None:
        launch(exponentiate, programs, out, rounds, BLOCK=block, num_warps=4)

    return programs * rounds * block / _seconds(run, device)


def measure_limits(device: torch.device) -> Limits:
    """Measure the ceilings of a device, on as many threads as torch has.

    Parameters
    ----------
    device : torch.device
        The device.

    Returns
    -------
    Limits
        They vary with what else runs.
    """
    on_gpu = device.type == "cuda"
    x = torch.ones((1 << 30) // 4 if on_gpu else (1 << 27) // 4, device=device)
    y = torch.empty_like(x)
    seconds = _seconds(lambda: y.copy_(x), device)
    return Limits(_exponentials_of_gpu(device) if on_gpu else _exponentials_of_cpu(), 2 * 4 * x.numel() / seconds)

"""Time the maps and the rollout of a Mamba layer at d_inner 1536, d_state 16: python benchmarks/explain.py.

The mean map of 512 tokens against one matrix for each channel and state, timed on 16 channels and scaled by 96; the
same with gate, skip and convolution; one position of a rollout over 2048 tokens, with the layer run and taken apart.
Medians, on a GPU if there is one and on one thread of the CPU.
"""

import statistics
import time
from collections.abc import Callable

import torch

from mambattn.explain import attention_maps, rollout
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.trace import trace
from mambattn.stack import Stack


def median_ms(run: Callable[[], object], device: str, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def single(scan: Recurrence, n_channels: int) -> torch.Tensor:
    """Form a matrix for each channel and state."""
    total = scan.dt[0, :, :n_channels].double().cumsum(0)
    span = (total[:, None] - total[None]).clamp(min=0).float()
    terms = (scan.C[0, :, None, 0] * scan.B[0, None, :, 0])[:, :, None] * torch.exp(
        scan.A[:n_channels] * span[..., None]
    )
    return (terms * scan.dt[0, None, :, :n_channels, None]).sum(3)


@torch.no_grad()
def measure(device: str) -> None:
    torch.manual_seed(0)
    stack = Stack(768, "M", settings={"M": {"d_state": 16}}).to(device)
    short, long = (torch.randn(1, n, 768, device=device) for n in (512, 2048))
    (route,) = trace(stack, short).layers[0].routes
    assert isinstance(route.mixing, Recurrence)
    scan = route.mixing
    mean = median_ms(route.mean_scan, device)
    materialised = 96 * median_ms(lambda: single(scan, 16), device)
    print(
        f"{device}: mean map of 512 tokens {mean:.1f} ms; matrices of channels and states {materialised:.0f} ms, "
        f"{materialised / mean:.0f} times as long"
    )
    for what in ("scan", "block"):
        ms = median_ms(lambda what=what: attention_maps(stack, short, what=what), device)
        print(f"{device}: attention_maps, {what}, with the layer run and taken apart {ms:.1f} ms")
    ms = median_ms(lambda: rollout(stack, long, "paper", positions=[2047]), device)
    print(f"{device}: one position of a rollout over 2048 tokens {ms:.1f} ms a layer")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        route.mean_scan()
        print(f"cuda: the mean map takes {(torch.cuda.max_memory_allocated() - before) / 1e9:.2f} GB beside its inputs")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        measure("cuda")
    measure("cpu")

"""Time a step of a cell's population against its members one at a time: python benchmarks/recall_population.py.

On a CPU the members of the preset "quick" on one thread; on a GPU the 15 members of the preset "study". One at a time
is measured twice: as people write it, a module with torch's fused Adam and gradient clipping, and by the same engine
with one member (on a GPU its step is a CUDA graph too). Medians of rounds taken in turn, in one process; the data are
drawn beforehand, and the same.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from mambattn.recall import Study
from mambattn.recall.cell import CellTraining, make_network, training_batches
from mambattn.tasks import parse_task


def single_steps(study: Study, arch: str, device: torch.device) -> Callable[[], None]:
    """Give a training step of one member, written without any population."""
    task = parse_task(study.tasks[0])
    network = make_network(study, task, arch, 0).to(device)
    adam = torch.optim.Adam(network.parameters(), study.lrs[0], betas=study.betas, fused=True)
    block = training_batches(study, task, 0, 0, device)
    number = 0

    def step() -> None:
        nonlocal number
        tokens, queries, targets = (x[number % len(x)] for x in block)
        number += 1
        adam.zero_grad()
        F.cross_entropy(network(tokens, queries).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()

    return step


def median_ms(steps: dict[str, Callable[[], None]], device: torch.device, n: int, rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(n):
                step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(1e3 * (time.perf_counter() - start) / n)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(arguments.threads)
    study = Study.from_preset("quick" if device.type == "cpu" else "study")
    rows = []
    for arch in study.archs:
        many = CellTraining(study, study.tasks[0], arch, device)
        one = CellTraining(study.replace(seeds=(0,), lrs=study.lrs[:1]), study.tasks[0], arch, device)
        steps = {"population": many.step, "engine, one member": one.step, "module": single_steps(study, arch, device)}
        ms = median_ms(steps, device, 20, arguments.rounds)
        n = len(many.population)
        gain = {name: n * ms[name] / ms["population"] for name in ("engine, one member", "module")}
        rows.append({"arch": arch, "n_members": n, "ms": ms, "gain": gain})
        told = ", ".join(f"{name} {value:.2f} ms" for name, value in ms.items())
        print(f"{arch}: {told}; gain {gain['engine, one member']:.2f} and {gain['module']:.2f} times", flush=True)
    if arguments.json:
        where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {arguments.threads} thread(s)"
        with open(arguments.json, "w") as file:
            json.dump({"device": where, "torch": torch.__version__, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()

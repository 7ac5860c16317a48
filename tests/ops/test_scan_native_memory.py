"""Memory of the compiled scan beyond its inputs, in a process of its own, and a sequence of a million tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mambattn.ops._native import library

pytestmark = [
    pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}"),
    pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the kernel counts no peak of memory"),
]

MEASURE = """
import json, re, sys, time
from pathlib import Path
import torch
from mambattn.ops import selective_scan

torch.set_num_threads(1)

def resident(which):
    return 1024 * int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def train(batch, d_inner, seq_len, d_state):
    generator = torch.Generator().manual_seed(0)
    wide, narrow = (batch, seq_len, d_inner), (batch, seq_len, d_state)
    shapes = {"u": wide, "dt": wide, "B": narrow, "C": narrow, "D": wide[-1:], "z": wide, "dt_bias": wide[-1:]}
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    inputs["A"] = -torch.arange(1.0, d_state + 1).repeat(d_inner, 1)
    inputs["dt_bias"] -= 3
    dout = torch.randn(wide, generator=generator)
    for x in inputs.values():
        x.requires_grad_()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = resident("VmRSS"), time.perf_counter()
    y = selective_scan(**inputs, dt_softplus=True, backend="native")
    gradients = torch.autograd.grad(y, list(inputs.values()), dout)
    seconds, extra = time.perf_counter() - start, resident("VmHWM") - before
    return inputs, dout, y, dict(zip(inputs, gradients)), seconds, extra

train(1, 64, 64, 4)  # what is loaded once
inputs, dout, y, gradients, seconds, extra = train(*json.loads(sys.argv[1]))
results = sum(4 * x.numel() for x in (y, *gradients.values()))
print(json.dumps({"seconds": seconds, "MiB": extra / 2**20, "times_results": extra / results}))
"""

COMPARE = """
# A state fades within a few hundred tokens, so the ends of the sequence are those of 4096 tokens alone.
SEQUENCES = ("u", "dt", "B", "C", "z")
for piece, end in ((slice(0, 4096), slice(0, 64)), (slice(-4096, None), slice(-64, None))):
    alone = {n: x.detach()[:, piece] if n in SEQUENCES else x.detach() for n, x in inputs.items()}
    alone = {n: x.double().requires_grad_() for n, x in alone.items()}
    want_y = selective_scan(**alone, dt_softplus=True, backend="torch")
    wanted = torch.autograd.grad(want_y, [alone[n] for n in SEQUENCES], dout[:, piece].double())
    for n, got, want in zip(("y", *SEQUENCES), (y, *(gradients[n] for n in SEQUENCES)), (want_y, *wanted)):
        error = (got[:, end] - want[:, end]).norm() / want[:, end].norm()
        assert error < 3e-6, (piece, n, error)
with torch.no_grad():
    want = (dout * torch.nn.functional.silu(inputs["z"]) * inputs["u"]).sum((0, 1), dtype=torch.float64)
    error = (gradients["D"] - want).norm() / want.norm()
    assert error < 1e-5, error  # 31 250 chunks added one after the other in float32
"""


def measure(script: str, shape: tuple[int, int, int, int]) -> dict[str, float]:
    """Run a script in a new process, and give what it measured."""
    command = [sys.executable, "-c", script, json.dumps(shape)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_training_takes_little_more_than_its_results():
    """At the text shape the outputs and gradients are 48 MiB; states, sums of parts and scratch add less than a third."""
    assert measure(MEASURE, (1, 1536, 2048, 16))["times_results"] <= 1.3


def test_many_states_are_kept_thinly():
    """At d_state 128 the states alone are 128 times the input; those of 15 of 2048 steps are kept."""
    assert measure(MEASURE, (1, 512, 2048, 128))["times_results"] <= 1.9


@pytest.mark.slow
def test_a_million_tokens_train():
    """On one thread of a server of 2025 it takes 4 s and 1.2 GiB, of which 1.1 are the results."""
    measured = measure(MEASURE + COMPARE, (1, 64, 1_000_000, 16))
    assert measured["times_results"] <= 1.3
    assert measured["seconds"] < 120

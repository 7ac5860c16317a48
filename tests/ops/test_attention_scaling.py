"""Windowed and sparse attention grow linearly in seq_len: bytes kept, CPU time, and a process's peak memory."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from mambattn.ops import attention

REACHES = [
    {"causal": True, "window": 128},
    {"window": 128},
    {"causal": True, "window": 128, "n_global": 8},
    {"window": 128, "n_global": 8},
]


@pytest.fixture(scope="module")
def scaling():
    """Load benchmarks/attention_scaling.py."""
    path = Path(__file__).parents[2] / "benchmarks" / "attention_scaling.py"
    spec = importlib.util.spec_from_file_location("attention_scaling", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("reach", [{}, {"causal": True}, *REACHES])
def test_bytes_kept_for_the_backward_are_linear(reach):
    def kept(seq_len: int) -> int:
        storages = {}

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        q, k, v = (torch.zeros(1, seq_len, 2, 8, requires_grad=True) for _ in range(3))
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = attention(q, k, v, **reach)
        assert y.requires_grad
        return sum(storages.values())

    assert kept(8192) <= 4.4 * kept(2048)


def test_exponent_of_a_power_law(scaling):
    assert scaling.exponent([1, 10, 100], [3.0, 3.0 * 10**1.5, 3.0 * 10**3]) == pytest.approx(1.5)


@pytest.mark.slow
def test_time_and_peak_memory_are_linear(scaling, capsys):
    rows = [scaling.measure(reach, repeats=1 if reach.startswith("dense") else 3) for reach in scaling.REACHES]
    with capsys.disabled():
        Console(width=140).print(scaling.as_table(rows))
    dense, *linear = rows
    assert dense.time_exponent > 1.5, "the measurement tells a quadratic cost from a linear one"
    for row in linear:
        assert row.time_exponent <= 1.2, row
        assert row.memory_exponent <= 1.2, row

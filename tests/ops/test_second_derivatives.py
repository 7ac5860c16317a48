"""The compiled backends join autograd twice: a gradient of gradients goes through the definition."""

import importlib.util

import pytest
import torch

from mambattn.ops import causal_conv1d, selective_scan, ssd
from mambattn.ops._native import library

HAS_TRITON = importlib.util.find_spec("triton") is not None
DEVICE = {"native": "cpu", "triton": "cuda" if torch.cuda.is_available() else "cpu"}
SEQ_IDX = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])


def make():
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    keys = {"B": normal(2, 5, 1, 2), "C": normal(2, 5, 1, 2)}
    return {
        selective_scan: keys
        | {"u": normal(2, 5, 3), "dt": normal(2, 5, 3), "A": -normal(3, 2).exp(), "D": normal(3), "z": normal(2, 5, 3)},
        ssd: keys
        | {"x": normal(2, 5, 3, 2), "dt": normal(2, 5, 3), "A": -normal(3).exp(), "initial_state": normal(2, 3, 2, 2)},
        causal_conv1d: {"x": normal(2, 5, 3), "weight": normal(3, 4), "bias": normal(3)},
    }


def seconds(op, tensors, backend, **options):
    """Give the gradients of a penalty on the gradients of the output and the final state."""
    leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
    y, state = op(**leaves, return_final_state=True, backend=backend, **options)
    firsts = torch.autograd.grad(y.square().sum() + state.sum(), list(leaves.values()), create_graph=True)
    penalty = sum(first.square().sum() for first in firsts)
    return torch.autograd.grad(penalty, list(leaves.values()))


@pytest.mark.parametrize("backend", ["native", "triton"])
@pytest.mark.parametrize("op", [selective_scan, ssd, causal_conv1d])
@pytest.mark.parametrize("is_packed", [False, True])
def test_second_derivatives(op, backend, is_packed):
    if library.missing if backend == "native" else not HAS_TRITON:
        pytest.skip(f"no {backend}")
    options = {"activation": "silu"} if op is causal_conv1d else {"dt_softplus": True}
    tensors = make()[op]
    want = seconds(op, tensors, "torch", seq_idx=SEQ_IDX if is_packed else None, **options)
    given = {name: x.to(DEVICE[backend], torch.float32) for name, x in tensors.items()}
    seq_idx = SEQ_IDX.to(DEVICE[backend]) if is_packed else None
    for x, truth in zip(seconds(op, given, backend, seq_idx=seq_idx, **options), want, strict=True):
        assert x.dtype == torch.float32
        torch.testing.assert_close(x.double().cpu(), truth, rtol=1e-4, atol=1e-4)

"""Errors of the compiled scan against float64 in the 2-norm, with every uninitialised tensor full of NaN; equal runs."""

import pytest
import torch

from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2}


def relative(x, truth):
    return ((x - truth).norm() / truth.norm().clamp_min(1e-300)).item()


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("seq_len", [1, 2, 63, 257, 4096])
@pytest.mark.parametrize("widths", [(19, 5), (33, 16, 3), (1, 1)])
def test_errors_and_equal_runs(scan, isa, poisoned_memory, dtype, seq_len, widths):
    inputs = {name: x.to(dtype).double() for name, x in scan.make_inputs(2, seq_len, *widths, seed=seq_len).items()}
    options = {"seq_idx": scan.packed(2, seq_len)} if seq_len == 63 else {}
    truth = scan.run(inputs, "torch", torch.float64, **options)
    plain = scan.run(inputs, "torch", dtype, **options)
    ours, again = (scan.run(inputs, "native", dtype, **options) for _ in range(2))
    for name, want in truth.items():
        error, limit = relative(ours[name], want), max(2 * relative(plain[name], want), LIMITS[dtype])
        assert error <= limit, (name, error, limit)
        assert torch.equal(ours[name], again[name]), name

"""Inputs of the scan tests, and one run with all outputs and gradients by name, as the fixture `scan`."""

import importlib.util
from collections.abc import Collection
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mambattn.ops import selective_scan
from mambattn.ops._native import library

if importlib.util.find_spec("triton") is not None:
    # Three things that triton's interpreter lacks.
    from triton import language as tl
    from triton.runtime import interpreter

    _patch_tensor = interpreter._patch_lang_tensor
    _dot = interpreter.InterpreterBuilder.create_dot

    def _patch_tensor_and_index(tensor, scope):
        """Let a number bound a loop: NumPy 2.4 turns no array of one element into one any more."""
        _patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def _dot_of_numbers(self, a, b, d, *options):
        """Multiply bfloat16 matrices: the interpreter holds them as the integers of their bits, and multiplies those."""
        if a.dtype == tl.bfloat16:
            wide = (interpreter._convert_float(x.data, tl.bfloat16, tl.float32, None) for x in (a, b))
            a, b = (interpreter.TensorHandle(data.view(np.float32), tl.float32) for data in wide)
        return _dot(self, a, b, d, *options)

    interpreter._patch_lang_tensor = _patch_tensor_and_index
    interpreter.InterpreterBuilder.create_dot = _dot_of_numbers
    # It multiplies in float32 whatever the precision asked for, but knows only the names of some.
    object.__setattr__(
        interpreter.interpreter_builder.options,
        "allowed_dot_input_precisions",
        ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"),
    )


def make_inputs(
    batch: int, seq_len: int, d_inner: int, d_state: int, n_groups: int = 0, *, seed: int = 0
) -> dict[str, Tensor]:
    """Draw float64 inputs with every option, the step sizes positive; n_groups = 0 leaves out the axis of groups."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    groups = (n_groups,) if n_groups else ()
    return {
        "u": draw(batch, seq_len, d_inner),
        "dt": draw(batch, seq_len, d_inner).abs() / 2,
        "A": -torch.exp(0.5 * draw(d_inner, d_state)),
        "B": draw(batch, seq_len, *groups, d_state),
        "C": draw(batch, seq_len, *groups, d_state),
        "D": draw(d_inner),
        "z": draw(batch, seq_len, d_inner),
        "dt_bias": draw(d_inner).abs() / 2,
        "initial_state": draw(batch, d_inner, d_state),
    }


def packed(batch: int, seq_len: int) -> Tensor:
    """Number sequences that start at other places in each row."""
    return torch.stack([(torch.arange(seq_len) + 3 * row) // 7 for row in range(batch)])


def run(
    inputs: dict[str, Tensor],
    backend: str,
    dtype: torch.dtype,
    *,
    without: Collection[str] = (),
    dt_softplus: bool = True,
    reverse: bool = False,
    seq_idx: Tensor | None = None,
) -> dict[str, Tensor]:
    """Scan, send a fixed random gradient into y and the final state, and give all outputs and gradients in float64."""
    given = {name: x.to(dtype).requires_grad_() for name, x in inputs.items() if name not in without}
    y, final_state = selective_scan(
        **given, dt_softplus=dt_softplus, return_final_state=True, reverse=reverse, seq_idx=seq_idx, backend=backend
    )
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in (y, final_state)]
    gradients = torch.autograd.grad((y, final_state), list(given.values()), weights)
    results = {"y": y, "final_state": final_state} | {
        f"gradient of {name}": gradient for name, gradient in zip(given, gradients, strict=True)
    }
    return {name: x.detach().double() for name, x in results.items()}


def distance(x: Tensor, truth: Tensor) -> float:
    """Give the largest error, in units of the largest true value."""
    return ((x - truth).abs().max() / truth.abs().max().clamp_min(1e-300)).item()


@pytest.fixture(scope="session")
def scan() -> SimpleNamespace:
    """Give the helpers of this file; test files cannot import each other."""
    return SimpleNamespace(make_inputs=make_inputs, packed=packed, run=run, distance=distance)


@pytest.fixture(params=library.ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on each build of the C code that this processor can run."""
    loaded = library.load_isa(request.param)
    if loaded is None:
        pytest.skip(f"this processor or this build has no {request.param}")
    monkeypatch.setattr(library, "_loaded", loaded)
    return request.param


@pytest.fixture
def poisoned_memory():
    """Fill what torch.empty gives with NaN, so that a read of unwritten memory shows in some result."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)

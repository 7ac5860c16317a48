"""Half precision in the compiled code: the conversions themselves, and a scan of any mix of types."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from mambattn.ops import selective_scan
from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
FLAGS = {"baseline": [], "avx2": ["-mavx2", "-mfma", "-mf16c"], "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw"]}
CONVERT = """
#include "sequence.h"
void convert(int64_t from, const char *in, int64_t to, char *out, int64_t count) {
    const unsigned state = begin_flushing();
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t lanes = min64(LANES, count - i);
        store_as(to, out, i, load_as(from, in, i, lanes), lanes);
    }
    end_flushing(state);
}
"""
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def convert(isa, tmp_path):
    """Give a function that converts a vector by the loads and stores of csrc/sequence.h."""
    if COMPILER is None:
        pytest.skip("no C compiler")
    (tmp_path / "convert.c").write_text(CONVERT, encoding="utf-8")
    headers = Path(library.__file__).parent / "csrc"
    command = [COMPILER, "-std=gnu11", "-O2", "-fPIC", "-shared", *FLAGS[isa], f"-I{headers}", "convert.c"]
    subprocess.run([*command, "-o", "convert.so"], cwd=tmp_path, check=True, capture_output=True)
    function = ctypes.CDLL(str(tmp_path / "convert.so")).convert

    def run(x, dtype):
        out = torch.empty(x.shape, dtype=dtype)
        kinds = (ctypes.c_int64(library.TYPES.index(t)) for t in (x.dtype, dtype))
        addresses = (ctypes.c_void_p(t.data_ptr()) for t in (x, out))
        (kind, target), (source, sink) = kinds, addresses
        function(kind, source, target, sink, ctypes.c_int64(x.numel()))
        return out

    return run


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_is_converted_as_torch_does(convert, dtype):
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    wide = convert(every, torch.float32)
    torch.testing.assert_close(wide, every.float(), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(wide.signbit(), every.signbit())
    ordered = every[every.isfinite()].float().sort().values
    halfway = (ordered[1:] + ordered[:-1]) / 2
    beside = [halfway.nextafter(torch.full_like(halfway, limit)) for limit in (-torch.inf, torch.inf)]
    largest = torch.finfo(dtype).max
    beyond = torch.tensor([largest * (1 + torch.finfo(dtype).eps * share) for share in (0.1, 0.24, 0.25, 0.26, 1)])
    for x in (wide, halfway, *beside, beyond, -beyond):
        got = convert(x, dtype)
        torch.testing.assert_close(got, x.to(dtype), rtol=0, atol=0, equal_nan=True)
        assert torch.equal(got.signbit() | got.isnan(), x.signbit() | x.isnan())


NAMES = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")
MIXES = {  # what is halved
    "autocast": ("u", "dt", "B", "C", "z"),
    "all": NAMES,
    "input": ("u",),
    "steps and gate": ("dt", "z"),
    "weights": ("A", "D", "dt_bias", "initial_state"),
}


def run(inputs, dout, dfinal, **options):
    given = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    y, state = selective_scan(**given, **options, return_final_state=True, backend="native")
    gradients = torch.autograd.grad((y, state), list(given.values()), (dout.to(y), dfinal))
    return y.detach(), state.detach(), gradients


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("without", [(), ("D", "z", "dt_bias", "initial_state")])
@pytest.mark.parametrize("reverse", [False, True])
def test_types_are_widened_first_and_rounded_last(scan, isa, dtype, mix, without, reverse):
    """The scan of any mix is, to the bit, that of the same numbers in float32, each result rounded to its type."""
    inputs = {n: x.float() for n, x in scan.make_inputs(2, 70, 19, 5, 1).items() if n not in without}
    inputs |= {name: inputs[name].to(dtype) for name in MIXES[mix] if name in inputs}
    generator = torch.Generator().manual_seed(1)
    dout, dfinal = (torch.randn(shape, generator=generator) for shape in ((2, 70, 19), (2, 19, 5)))
    dout = dout.to(dtype)
    options = {"dt_softplus": True, "reverse": reverse, "seq_idx": scan.packed(2, 70)}
    y, state, gradients = run(inputs, dout, dfinal, **options)
    want_y, want_state, wanted = run({n: x.float() for n, x in inputs.items()}, dout, dfinal, **options)
    assert torch.equal(y, want_y.to(inputs["u"].dtype))
    assert state.dtype == torch.float32
    assert torch.equal(state, want_state)
    for (name, x), got, want in zip(inputs.items(), gradients, wanted, strict=True):
        assert got.dtype == x.dtype, name
        assert torch.equal(got, want.to(x.dtype)), name


@pytest.mark.parametrize("dtype", HALVES)
def test_the_smallest_numbers_the_infinite_and_nan(isa, dtype):
    """They come through load, state and store as with torch; a NaN stays in its channel and after its token."""
    smallest = torch.finfo(torch.float16).smallest_normal / 1024
    u = torch.tensor([1.0, smallest, -3 * smallest, 0.0, 1.0, -torch.inf, 2.0]).reshape(1, 7, 1).repeat(1, 1, 3)
    u[0, :5, 1], u[0, 2, 2] = smallest, torch.nan
    u = u.to(dtype)
    one = torch.ones_like(u)
    inputs = (u, one, torch.full((3, 1), -0.5), one[..., :1], one[..., :1], torch.zeros(3))
    y, want = (selective_scan(*inputs, backend=backend) for backend in ("native", "torch"))
    torch.testing.assert_close(y, want, equal_nan=True, rtol=2 * torch.finfo(dtype).eps, atol=smallest)
    assert y[0, :2, 2].isfinite().all()
    assert y[0, 2:, 2].isnan().all()

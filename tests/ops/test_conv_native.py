"""The compiled convolution: errors against float64, every build and option, odd widths, types, threads, torch's checks."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambattn._errors import BackendUnavailableError
from mambattn.ops import causal_conv1d
from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2}
NAMES = ("x", "weight", "bias", "initial_state")
OPTIONS = ("bias", "initial_state")


def make(batch, seq_len, d_inner, d_conv, seed=0):
    """Draw every tensor in float64."""
    draw = torch.Generator().manual_seed(seed)
    shapes = ((batch, seq_len, d_inner), (d_inner, d_conv), (d_inner,), (batch, d_conv - 1, d_inner))
    return {n: torch.randn(s, generator=draw, dtype=torch.float64) for n, s in zip(NAMES, shapes, strict=True)}


def packed(batch, seq_len):
    """Number sequences that start at other places in each row, some of one token, with numbers that come back."""
    return torch.stack([(torch.arange(seq_len) + 3 * row) % 13 // 6 for row in range(batch)])


def run(tensors, backend, dtype=None, **options):
    """Send a fixed random gradient into y and the final state; give all outputs and gradients by name."""
    given = {name: (x if dtype is None else x.to(dtype)).detach().requires_grad_() for name, x in tensors.items()}
    results = causal_conv1d(**given, return_final_state=True, backend=backend, **options)
    draw = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=draw, dtype=torch.float64).to(x) for x in results]
    gradients = torch.autograd.grad(results, list(given.values()), weights)
    outputs = dict(zip(("y", "final_state"), (x.detach() for x in results), strict=True))
    return outputs | {f"gradient of {name}": gradient for name, gradient in zip(given, gradients, strict=True)}


def relative(x, truth):
    return ((x.double() - truth).norm() / truth.norm().clamp_min(1e-300)).item()


def assert_close_to_float64(tensors, dtype=torch.float32, **options):
    tensors = {name: x.to(dtype).double() for name, x in tensors.items()}
    truth = run(tensors, "torch", **options)
    plain, ours, again = (run(tensors, backend, dtype, **options) for backend in ("torch", "native", "native"))
    assert ours.keys() == truth.keys()
    for name, want in truth.items():
        error, limit = relative(ours[name], want), max(2 * relative(plain[name], want), LIMITS[dtype])
        assert error <= limit, (name, error, limit)
        assert torch.equal(ours[name], again[name]), name


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("seq_len", [1, 2, 63, 257, 4096])
@pytest.mark.parametrize("widths", [(19, 4), (150, 4), (1, 4), (33, 7), (16, 2), (5, 1)])
def test_errors_and_equal_runs(isa, poisoned_memory, dtype, seq_len, widths):
    assert_close_to_float64(make(2, seq_len, *widths, seed=seq_len), dtype, activation="silu")


@pytest.mark.parametrize("d_conv", [1, 3, 4])
@pytest.mark.parametrize("seq_len", [2, 5, 140])
@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
def test_every_option(isa, poisoned_memory, d_conv, seq_len, without):
    tensors = {name: x for name, x in make(3, seq_len, 21, d_conv).items() if name not in without}
    for activation, seq_idx in itertools.product((None, "silu"), (None, packed(3, seq_len))):
        assert_close_to_float64(tensors, activation=activation, seq_idx=seq_idx)


def test_strides_do_not_matter():
    dense = {name: x.float() for name, x in make(3, 37, 20, 4).items()}

    def slice_of_wider(x):
        return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]

    def time_first(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    def last_axis_first(x):
        return x.movedim(-1, 0).contiguous().movedim(0, -1)

    want = run(dense, "native", activation="silu")
    for change in (slice_of_wider, time_first, last_axis_first):
        changed = {name: change(x) if x.ndim > 1 else x for name, x in dense.items()}
        got = run(changed, "native", activation="silu")
        for name, value in want.items():
            assert torch.equal(got[name], value), (change.__name__, name)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 20),
    seq_len=st.integers(1, 150),
    d_inner=st.integers(1, 300),
    d_conv=st.integers(1, 5),
    threads=st.integers(2, 5),
)
def test_threads_do_not_change_a_bit(batch, seq_len, d_inner, d_conv, threads):
    tensors = {name: x.float() for name, x in make(batch, seq_len, d_inner, d_conv).items()}
    alone = run(tensors, "native", activation="silu")
    torch.set_num_threads(threads)
    try:
        together = run(tensors, "native", activation="silu")
    finally:
        torch.set_num_threads(1)
    for name, value in alone.items():
        assert torch.equal(together[name], value), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halved", [NAMES, ("x",), ("weight", "bias"), ("initial_state",)])
@pytest.mark.parametrize("d_conv", [3, 4])
def test_types_are_widened_first_and_rounded_last(isa, dtype, halved, d_conv):
    """Any mix of types gives, to the bit, what float32 gives of the same numbers, each result rounded to its type."""
    tensors = {name: x.float() for name, x in make(2, 70, 19, d_conv).items()}
    tensors |= {name: tensors[name].to(dtype) for name in halved}
    weight = torch.randn(tensors["x"].shape, generator=torch.Generator().manual_seed(2)).to(dtype)

    def gradients(given):
        given = {name: x.detach().requires_grad_() for name, x in given.items()}
        y = causal_conv1d(**given, activation="silu", backend="native")
        return y, *torch.autograd.grad(y, list(given.values()), weight.to(y))

    got, want = gradients(tensors), gradients({name: x.float() for name, x in tensors.items()})
    types = (tensors["x"].dtype, *(x.dtype for x in tensors.values()))
    for number, wide, kind in zip(got, want, types, strict=True):
        assert number.dtype == kind
        assert torch.equal(number, wide.to(kind))


@pytest.mark.parametrize("without", [(), OPTIONS])
@pytest.mark.parametrize("is_packed", [False, True])
def test_opcheck(without, is_packed):
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 6, 4).items()}
    given = (*(None if name in without else tensors[name] for name in NAMES), packed(2, 70) if is_packed else None)
    torch.library.opcheck(torch.ops.mambattn.causal_conv1d_forward.default, (*given, True))
    detached = (x if x is None else x.detach() for x in (torch.ones(2, 70, 6), *given))
    torch.library.opcheck(torch.ops.mambattn.causal_conv1d_backward.default, (*detached, True))


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 6, 4).items()}

    def loss(**given):
        y, state = causal_conv1d(**given, activation="silu", return_final_state=True, seq_idx=packed(2, 70))
        return y.square().sum() + state.sin().sum()

    want = loss(**tensors)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(**tensors)
    torch.testing.assert_close(got, want)
    leaves = list(tensors.values())
    torch.testing.assert_close(torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves))


def test_the_inputs_alone_are_kept():
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 6, 4).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        causal_conv1d(**tensors, activation="silu", backend="native")
    assert set(kept) == {x.data_ptr() for x in tensors.values()}


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_the_final_state_has_memory_of_its_own(backend):
    x, weight = torch.ones(1, 70, 6), torch.ones(6, 4)
    _, state = causal_conv1d(x, weight, return_final_state=True, backend=backend)
    assert state.untyped_storage().nbytes() == 3 * 6 * 4
    x.zero_()
    assert torch.equal(state, torch.ones(1, 3, 6))


def test_serves_float32_on_the_cpu_alone(caplog):
    tensors = make(2, 5, 6, 4)
    with pytest.raises(BackendUnavailableError, match=r"computes in float32, however the inputs need torch.float64"):
        causal_conv1d(**tensors, backend="native")
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        causal_conv1d(**tensors)
        causal_conv1d(**{name: x.float() for name, x in tensors.items()})
    assert [message.split()[3] for message in caplog.messages] == ["torch", "native"]


def test_empty_batch():
    tensors = {name: x.float().requires_grad_() for name, x in make(0, 9, 6, 4).items()}
    y, state = causal_conv1d(**tensors, return_final_state=True, backend="native")
    assert (y.shape, state.shape) == ((0, 9, 6), (0, 3, 6))
    for gradient, x in zip(torch.autograd.grad(y.sum(), list(tensors.values())), tensors.values(), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))

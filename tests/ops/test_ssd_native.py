"""The compiled ssd: errors against float64, every build and option, odd widths, types, threads, torch's own checks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambattn._errors import BackendUnavailableError
from mambattn.ops import ssd
from mambattn.ops._native import library
from mambattn.ops.ssd_scan import native

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2}
NAMES = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")
OPTIONS = ("D", "z", "dt_bias", "initial_state")
SHAPES = [(4, 2, 3, 5), (3, 1, 64, 16), (6, 3, 21, 19), (1, 1, 1, 1), (40, 2, 2, 9), (2, 1, 130, 3)]


def make(batch, seq_len, n_heads, n_groups, d_head, d_state, seed=0):
    """Draw every tensor in float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    return {
        "x": normal(batch, seq_len, n_heads, d_head),
        "dt": normal(batch, seq_len, n_heads) - 1,
        "A": -normal(n_heads).exp(),
        "B": normal(batch, seq_len, n_groups, d_state),
        "C": normal(batch, seq_len, n_groups, d_state),
        "D": normal(n_heads, d_head),
        "z": normal(batch, seq_len, n_heads, d_head),
        "dt_bias": normal(n_heads),
        "initial_state": normal(batch, n_heads, d_head, d_state),
    }


def packed(batch, seq_len):
    """Number sequences that start at other places in each row, with numbers that come back."""
    return torch.stack([(torch.arange(seq_len) + 3 * row) // 17 % 2 for row in range(batch)])


def run(tensors, backend, dtype=None, *, dt_softplus=True, **options):
    """Send a fixed random gradient into y and the final state; give all outputs and gradients by name."""
    given = {name: (x if dtype is None else x.to(dtype)).detach().requires_grad_() for name, x in tensors.items()}
    results = ssd(**given, dt_softplus=dt_softplus, return_final_state=True, backend=backend, **options)
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
@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("shape", SHAPES)
def test_errors_and_equal_runs(isa, poisoned_memory, dtype, seq_len, shape):
    options = {"seq_idx": packed(2, seq_len)} if seq_len == 63 else {}
    assert_close_to_float64(make(2, seq_len, *shape, seed=seq_len), dtype, **options)


@pytest.mark.parametrize("dtype", LIMITS)
def test_errors_over_4096_tokens(isa, poisoned_memory, dtype):
    assert_close_to_float64(make(1, 4096, 3, 1, 20, 9), dtype)


@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("dt_softplus", [False, True])
def test_every_option(isa, poisoned_memory, without, is_packed, dt_softplus):
    tensors = {name: x for name, x in make(3, 70, 4, 2, 19, 5).items() if name not in without}
    tensors |= {} if dt_softplus else {"dt": tensors["dt"].abs()}
    assert_close_to_float64(tensors, dt_softplus=dt_softplus, seq_idx=packed(3, 70) if is_packed else None)


def test_a_skip_of_one_number_a_head_and_any_chunk_size(isa):
    tensors = make(2, 40, 4, 2, 19, 5)
    tensors["D"] = tensors["D"][:, 0]
    assert_close_to_float64(tensors, chunk_size=7)


@pytest.mark.parametrize("rates", [(-1e-4, -1.0, -60.0, -2000.0), (-1e-6, -1e-6, 0.0, 0.3), (-500.0,) * 4])
def test_decay_of_any_strength(isa, rates):
    """The state is kept divided by its decay: it must be brought up to date before that leaves the range of float32."""
    tensors = make(2, 257, 4, 1, 17, 6) | {"A": torch.tensor(rates, dtype=torch.float64)}
    tensors["dt"] -= 2
    assert_close_to_float64(tensors)


def test_a_decay_beyond_the_range_of_its_type_forgets_everything(isa):
    x, B = torch.ones(1, 5, 1, 1), torch.full((1, 5, 1, 1), 1e-20)
    leaves = [t.requires_grad_() for t in (x, torch.full((1, 5, 1), 1e38), torch.tensor([-16.0]), B)]
    y = ssd(*leaves, B, backend="native")
    torch.testing.assert_close(y, torch.full_like(y, 1e-2))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(y.sum(), leaves))


def test_a_state_that_does_not_decay_is_kept_to_the_bit(isa):
    one, A = torch.ones(1, 200, 1, 1), torch.zeros(1)
    y, state = ssd(one, one[..., 0], A, one, one, return_final_state=True, backend="native")
    assert torch.equal(y.flatten(), torch.arange(1.0, 201.0))
    assert state.item() == 200


def test_strides_do_not_matter():
    dense = {name: x.float() for name, x in make(3, 37, 4, 2, 20, 6).items()}

    def slice_of_wider(x):
        return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]

    def time_first(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    def last_axis_first(x):
        return x.movedim(-1, 0).contiguous().movedim(0, -1)

    want = run(dense, "native")
    for change in (slice_of_wider, time_first, last_axis_first):
        got = run({name: change(x) if x.ndim > 1 else x for name, x in dense.items()}, "native")
        for name, value in want.items():
            assert torch.equal(got[name], value), (change.__name__, name)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 20),
    seq_len=st.integers(1, 90),
    heads=st.integers(1, 9),
    n_groups=st.integers(1, 3),
    d_head=st.integers(1, 40),
    d_state=st.integers(1, 20),
    threads=st.integers(2, 5),
)
def test_threads_do_not_change_a_bit(batch, seq_len, heads, n_groups, d_head, d_state, threads):
    tensors = {n: x.float() for n, x in make(batch, seq_len, heads * n_groups, n_groups, d_head, d_state).items()}
    alone = run(tensors, "native")
    torch.set_num_threads(threads)
    try:
        together = run(tensors, "native")
    finally:
        torch.set_num_threads(1)
    for name, value in alone.items():
        assert torch.equal(together[name], value), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "halved", [NAMES, ("x", "dt", "B", "C", "z"), ("x",), ("dt", "z"), ("A", "D", "initial_state")]
)
@pytest.mark.parametrize("without", [(), OPTIONS])
def test_types_are_widened_first_and_rounded_last(isa, dtype, halved, without):
    """Any mix of types gives, to the bit, what float32 gives of the same numbers, each result rounded to its type."""
    tensors = {name: x.float() for name, x in make(2, 70, 4, 2, 19, 5).items() if name not in without}
    tensors |= {name: tensors[name].to(dtype) for name in halved if name in tensors}
    weight = torch.randn(tensors["x"].shape, generator=torch.Generator().manual_seed(2)).to(dtype)

    def gradients(given):
        given = {name: x.detach().requires_grad_() for name, x in given.items()}
        y, state = ssd(**given, dt_softplus=True, return_final_state=True, backend="native")
        return y, state, *torch.autograd.grad((y, state), list(given.values()), (weight.to(y), torch.ones_like(state)))

    got, want = gradients(tensors), gradients({name: x.float() for name, x in tensors.items()})
    types = (tensors["x"].dtype, torch.float32, *(x.dtype for x in tensors.values()))
    for number, wide, kind in zip(got, want, types, strict=True):
        assert number.dtype == kind
        assert torch.equal(number, wide.to(kind))


@pytest.mark.parametrize("without", [(), OPTIONS])
@pytest.mark.parametrize("is_packed", [False, True])
def test_opcheck(without, is_packed):
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 4, 2, 3, 5).items()}
    seq_idx = packed(2, 70) if is_packed else None
    given = tuple(None if name in without else tensors[name] for name in NAMES)
    torch.library.opcheck(torch.ops.mambattn.ssd_forward.default, (*given, seq_idx, True, True, True))
    y, final_state, checkpoints = torch.ops.mambattn.ssd_forward(*given, seq_idx, True, True, True)
    detached = (x if x is None else x.detach() for x in (torch.ones_like(y), final_state, checkpoints, *given))
    torch.library.opcheck(torch.ops.mambattn.ssd_backward.default, (*detached, seq_idx, True))


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 4, 2, 3, 5).items()}

    def loss(**given):
        y, state = ssd(**given, dt_softplus=True, return_final_state=True)
        return y.square().sum() + state.sum()

    want = loss(**tensors)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(**tensors)
    torch.testing.assert_close(got, want)
    leaves = list(tensors.values())
    torch.testing.assert_close(torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves))


def test_nothing_is_kept_that_nobody_asked_for(monkeypatch):
    wanted = []
    forward = native._forward
    monkeypatch.setattr(native, "_forward", lambda *arguments: wanted.append(arguments[-2:]) or forward(*arguments))
    tensors = {name: x.float().requires_grad_() for name, x in make(2, 70, 4, 2, 3, 5).items()}
    ssd(**tensors)
    with torch.no_grad():
        ssd(**tensors, return_final_state=True)
    ssd(**{name: x.detach() for name, x in tensors.items()})
    assert wanted == [(False, True), (True, False), (False, False)]


def test_serves_float32_on_the_cpu_alone(caplog):
    tensors = make(2, 5, 4, 2, 3, 5)
    with pytest.raises(BackendUnavailableError, match=r"computes in float32, however the inputs need torch.float64"):
        ssd(**tensors, backend="native")
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        ssd(**tensors)
        ssd(**{name: x.float() for name, x in tensors.items()})
    assert [message.split()[3] for message in caplog.messages] == ["torch", "native"]


def test_empty_batch():
    tensors = {name: x.float().requires_grad_() for name, x in make(0, 9, 4, 2, 3, 5).items()}
    y, state = ssd(**tensors, return_final_state=True, backend="native")
    assert (y.shape, state.shape) == ((0, 9, 4, 3), (0, 4, 3, 5))
    gradients = torch.autograd.grad(y.sum() + state.sum(), list(tensors.values()))
    for gradient, x in zip(gradients, tensors.values(), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))

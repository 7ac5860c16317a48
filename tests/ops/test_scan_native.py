"""The compiled scan: errors by the twice rule, every build, odd shapes and strides, threads, forks, torch's own checks."""

import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import deterministic

from mambattn._errors import BackendUnavailableError
from mambattn.ops import selective_scan
from mambattn.ops._native import library
from mambattn.ops.scan import native

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

OPTIONS = ("D", "z", "dt_bias", "initial_state")
AUTOCAST = ("u", "dt", "B", "C", "z")
EPS = torch.finfo(torch.float32).eps


def assert_twice_rule(scan, inputs, **options):
    """The error against float64 is at most twice that of the torch backend in float32, and four roundings."""
    inputs = {name: x.float().double() for name, x in inputs.items()}
    truth = scan.run(inputs, "reference", torch.float64, **options)
    plain = scan.run(inputs, "torch", torch.float32, **options)
    ours = scan.run(inputs, "native", torch.float32, **options)
    assert ours.keys() == truth.keys()
    for name in truth:
        error, plain_error = scan.distance(ours[name], truth[name]), scan.distance(plain[name], truth[name])
        assert error <= 2 * plain_error + 4 * EPS, (name, error, plain_error)


@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
def test_twice_rule_without_each_option(scan, isa, seq_len, without):
    assert_twice_rule(scan, scan.make_inputs(2, seq_len, 19, 5), without=without)


@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("n_groups", [0, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
def test_twice_rule_with_each_option(scan, isa, seq_len, n_groups, reverse, is_packed):
    seq_idx = scan.packed(2, seq_len) if is_packed else None
    inputs = scan.make_inputs(2, seq_len, 21, 5, n_groups, seed=seq_len)
    assert_twice_rule(scan, inputs, reverse=reverse, seq_idx=seq_idx, dt_softplus=not reverse)


@pytest.mark.parametrize(
    "shape", [(3, 40, 300, 9), (1, 5, 16, 16), (33, 3, 4, 1), (1, 70, 260, 24, 2), (2, 34, 1, 3), (40, 2, 16, 128)]
)
def test_twice_rule_at_odd_widths(scan, isa, shape):
    assert_twice_rule(scan, scan.make_inputs(*shape))


def test_long_memory_keeps_its_digits(scan, isa):
    """With hardly any decay over 2000 steps an error of each factor exp(dt A) would add up."""
    inputs = scan.make_inputs(1, 2000, 40, 4)
    inputs["dt"] *= 1e-3
    assert_twice_rule(scan, inputs, without=("dt_bias", "z"), dt_softplus=False)


def test_extreme_steps(isa):
    """A state that is wiped out in one step, one that is kept to the bit, and step sizes where softplus is linear or 0."""
    u, one = torch.ones(1, 3, 1), torch.ones(1, 3, 1)
    for rate, want in ((-1e30, [1.0, 1.0, 1.0]), (0.0, [1.0, 2.0, 3.0])):
        y = selective_scan(u, one, torch.full((1, 1), rate), one, one, backend="native")
        assert y.flatten().tolist() == want
    dt = torch.tensor([-80.0, 0.0, 100.0]).reshape(1, 3, 1)
    y = selective_scan(u, dt, torch.full((1, 1), -1e9), one, one, dt_softplus=True, backend="native")
    torch.testing.assert_close(y.double(), torch.logaddexp(dt.double(), torch.zeros(())), rtol=3e-7, atol=0)


def test_growing_states_become_infinite_like_those_of_torch(isa):
    one = torch.ones(1, 2, 1)
    for rate in (50.0, 87.0, 88.5, 100.0):
        inputs = (one, one, torch.full((1, 1), rate), one, one)
        state = torch.ones(1, 1, 1)
        y, want = (selective_scan(*inputs, initial_state=state, backend=backend) for backend in ("native", "torch"))
        torch.testing.assert_close(y, want, rtol=2e-5, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
def test_strides_do_not_matter(scan, reverse):
    dense = {name: x.float() for name, x in scan.make_inputs(3, 37, 20, 6, 2).items()}

    def slice_of_wider(x):
        return torch.cat([x, torch.full_like(x, torch.nan)], -1)[..., : x.shape[-1]]

    def time_first(x):
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    def last_axis_first(x):
        return x.movedim(-1, 0).contiguous().movedim(0, -1)

    want = scan.run(dense, "native", torch.float32, reverse=reverse)
    for change in (slice_of_wider, time_first, last_axis_first):
        inputs = {name: change(x) if x.ndim > 1 else x for name, x in dense.items()}
        got = scan.run(inputs, "native", torch.float32, reverse=reverse)
        for name, value in want.items():
            assert torch.equal(got[name], value), (change.__name__, name)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 20),
    seq_len=st.integers(1, 40),
    d_group=st.integers(1, 40),
    n_groups=st.integers(1, 3),
    d_state=st.integers(1, 20),
    threads=st.integers(2, 5),
)
def test_threads_do_not_change_a_bit(scan, batch, seq_len, d_group, n_groups, d_state, threads):
    inputs = scan.make_inputs(batch, seq_len, d_group * n_groups, d_state, n_groups)
    alone = scan.run(inputs, "native", torch.float32)
    torch.set_num_threads(threads)
    try:
        together = scan.run(inputs, "native", torch.float32)
    finally:
        torch.set_num_threads(1)
    for name, value in alone.items():
        assert torch.equal(together[name], value), name


@pytest.mark.parametrize("without", [(), OPTIONS])
def test_nothing_unwritten_is_read(scan, isa, without):
    """With every torch.empty full of NaN, a read of unwritten memory shows in some result."""
    inputs = scan.make_inputs(2, 70, 19, 5, 1)
    want = scan.run(inputs, "native", torch.float32, without=without)
    was_filling = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(3).isnan().all()
        got = scan.run(inputs, "native", torch.float32, without=without)
    finally:
        deterministic.fill_uninitialized_memory = was_filling
        torch.use_deterministic_algorithms(False)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def op_arguments(scan, without, halved):
    inputs = {name: x.float() for name, x in scan.make_inputs(2, 35, 6, 3, 2).items()}
    inputs |= {name: inputs[name].bfloat16() for name in halved}
    inputs = {name: x.requires_grad_() for name, x in inputs.items()}
    order = ("u", "dt", "A", "B", "C", "D", "z", "dt_bias", "initial_state")
    return tuple(None if name in without else inputs[name] for name in order)


@pytest.mark.parametrize("without", [(), OPTIONS])
@pytest.mark.parametrize("halved", [(), AUTOCAST])
@pytest.mark.parametrize("is_packed", [False, True])
def test_opcheck(scan, without, halved, is_packed):
    halved = tuple(name for name in halved if name not in without)
    seq_idx = scan.packed(2, 35) if is_packed else None
    arguments = (*op_arguments(scan, without, halved), seq_idx, True, False, True, True)
    torch.library.opcheck(torch.ops.mambattn.selective_scan_forward.default, arguments)
    y, final_state, checkpoints = torch.ops.mambattn.selective_scan_forward(*arguments)
    detached = tuple(x if x is None else x.detach() for x in arguments[:9])
    backward = (torch.ones_like(y), final_state.detach(), checkpoints.detach(), *detached, seq_idx, True, False)
    torch.library.opcheck(torch.ops.mambattn.selective_scan_backward.default, backward)


@pytest.mark.parametrize("halved", [(), AUTOCAST])
def test_compiles_to_one_graph(scan, halved):
    torch._dynamo.reset()
    inputs = {name: x.float() for name, x in scan.make_inputs(2, 35, 6, 3).items()}
    inputs |= {name: inputs[name].bfloat16() for name in halved}

    def loss(u, dt, A, B, C):
        y, state = selective_scan(u, dt, A, B, C, dt_softplus=True, return_final_state=True)
        return y.square().sum() + state.sum()

    given = [inputs[name].requires_grad_() for name in ("u", "dt", "A", "B", "C")]
    want = loss(*given)
    gradients = torch.autograd.grad(want, given)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(*given)
    torch.testing.assert_close(got, want)
    for gradient, other in zip(torch.autograd.grad(got, given), gradients, strict=True):
        torch.testing.assert_close(gradient, other)


def test_no_states_are_kept_without_gradients(scan, monkeypatch):
    kept = []
    forward = native._forward
    monkeypatch.setattr(native, "_forward", lambda *arguments: kept.append(arguments[-1]) or forward(*arguments))
    inputs = {name: x.float().requires_grad_() for name, x in scan.make_inputs(2, 70, 6, 3).items()}
    selective_scan(**inputs)
    with torch.no_grad():
        selective_scan(**inputs)
    selective_scan(**{name: x.detach() for name, x in inputs.items()})
    assert kept == [True, False, False]


def _scan_in_child(queue, inputs):
    torch.set_num_threads(2)
    queue.put(selective_scan(**inputs, backend="native").sum().item())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_forked_children_can_scan(scan):
    """The helping threads of the parent do not exist in its children: they must not be waited for."""
    inputs = {name: x.float() for name, x in scan.make_inputs(8, 20, 40, 3).items()}
    torch.set_num_threads(2)
    try:
        want = selective_scan(**inputs, backend="native").sum().item()
    finally:
        torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_scan_in_child, args=(queue, inputs))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert queue.get() == want


def test_serves_float32_on_the_cpu_alone(scan, caplog):
    inputs = scan.make_inputs(2, 5, 6, 3)
    with pytest.raises(BackendUnavailableError, match=r"computes in float32, however the inputs need torch.float64"):
        selective_scan(**inputs, backend="native")
    meta = {name: x.float().to("meta") for name, x in inputs.items()}
    with pytest.raises(BackendUnavailableError, match=r"serves CPU tensors, however the device is meta"):
        selective_scan(**meta, backend="native")
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        selective_scan(**{name: x.float() for name, x in inputs.items()})
    assert "selective_scan: auto runs native for torch.float32 on cpu" in caplog.text


def test_empty_batch():
    u = torch.zeros(0, 4, 3, requires_grad=True)
    B = torch.zeros(0, 4, 2)
    y, state = selective_scan(u, u, -torch.ones(3, 2), B, B, return_final_state=True)
    assert y.shape == (0, 4, 3)
    assert state.shape == (0, 3, 2)
    (gradient,) = torch.autograd.grad(y.sum(), u)
    assert gradient.shape == u.shape

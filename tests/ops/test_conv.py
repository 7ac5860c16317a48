"""`causal_conv1d`: shifted products against the loop over tokens and against the library's grouped convolution."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mambattn._errors import ConfigError, ShapeError
from mambattn.ops import causal_conv1d, causal_conv1d_step


def make(seq_len, *, d_inner=5, d_conv=4, batch=2, seed=0):
    """Draw inputs, taps, bias and state in float64."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (batch, seq_len, d_inner),
        "weight": (d_inner, d_conv),
        "bias": (d_inner,),
        "initial_state": (batch, d_conv - 1, d_inner),
    }
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes.items()}


def packed(seq_len, batch=2):
    draw = torch.Generator().manual_seed(1)
    return (torch.rand(batch, seq_len, generator=draw) < 0.2).cumsum(1) % 2


def run(tensors, backend, **options):
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    y, state = causal_conv1d(**leaves, return_final_state=True, backend=backend, **options)
    loss = (y * torch.cos(torch.arange(y.numel()).reshape(y.shape))).sum() + state.cos().sum()
    return (y.detach(), state.detach()), dict(zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True))


@pytest.mark.parametrize("seq_len", [1, 2, 3, 63, 257])
@pytest.mark.parametrize("d_conv", [1, 2, 4])
@pytest.mark.parametrize("left_out", [(), ("bias",), ("initial_state",), ("bias", "initial_state")])
def test_shifted_products_equal_the_loop(seq_len, d_conv, left_out):
    tensors = {name: tensor for name, tensor in make(seq_len, d_conv=d_conv).items() if name not in left_out}
    for activation, seq_idx in itertools.product((None, "silu"), (None, packed(seq_len))):
        options = {"activation": activation, "seq_idx": seq_idx}
        outputs, gradients = run(tensors, "reference", **options)
        shifted_outputs, shifted_gradients = run(tensors, "torch", **options)
        torch.testing.assert_close(shifted_outputs, outputs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(shifted_gradients, gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_equals_the_grouped_convolution_of_torch(backend):
    t = make(40)
    del t["initial_state"]
    want = F.conv1d(t["x"].mT, t["weight"][:, None], t["bias"], padding=3, groups=5)[..., :40].mT
    torch.testing.assert_close(causal_conv1d(**t, backend=backend), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        causal_conv1d(**t, activation="silu", backend=backend), F.silu(want), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_final_state_is_the_last_inputs_of_the_last_sequence(backend):
    t = make(6)
    initial_state = t.pop("initial_state")
    options = {"return_final_state": True, "backend": backend}
    assert torch.equal(causal_conv1d(**t, **options)[1], t["x"][:, 3:])
    two = t | {"x": t["x"][:, :2]}
    assert torch.equal(causal_conv1d(**two, **options)[1], F.pad(two["x"], (0, 0, 1, 0)))
    carried = causal_conv1d(**two, initial_state=initial_state, **options)[1]
    assert torch.equal(carried, torch.cat([initial_state[:, 2:], two["x"]], dim=1))
    seq_idx = torch.tensor([[0, 0, 0, 1, 1, 0]]).expand(2, -1)
    last = causal_conv1d(**t, initial_state=initial_state, seq_idx=seq_idx, **options)[1]
    assert torch.equal(last, F.pad(t["x"][:, 5:], (0, 0, 2, 0)))


def test_a_packed_sequence_equals_its_parts():
    t = make(30, batch=1)
    initial_state = t.pop("initial_state")
    bounds = [0, 2, 3, 20, 30]
    seq_idx = torch.repeat_interleave(torch.tensor([4, 1, 4, 0]), torch.tensor(bounds).diff())[None]
    got = causal_conv1d(**t, initial_state=initial_state, seq_idx=seq_idx)
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        part = t | {"x": t["x"][:, start:stop]}
        want = causal_conv1d(**part, initial_state=initial_state if index == 0 else None, backend="reference")
        torch.testing.assert_close(got[:, start:stop], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_gradcheck(activation, is_packed):
    t = {name: tensor.requires_grad_() for name, tensor in make(6, d_inner=2, d_conv=3).items()}
    seq_idx = torch.tensor([[0, 0, 1, 1, 1, 0]]).expand(2, -1) if is_packed else None

    def call(*tensors):
        named = dict(zip(t, tensors, strict=True))
        return causal_conv1d(**named, activation=activation, seq_idx=seq_idx, return_final_state=True)

    assert torch.autograd.gradcheck(call, tuple(t.values()))
    assert torch.autograd.gradgradcheck(call, tuple(t.values()), fast_mode=True)
    loss = sum(output.sin().sum() for output in call(*t.values()))
    plain = torch.autograd.grad(loss, tuple(t.values()), retain_graph=True)
    with_graph = torch.autograd.grad(loss, tuple(t.values()), create_graph=True)
    torch.testing.assert_close(with_graph, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_is_at_most_twice_that_of_torch_in_the_same_type(dtype):
    rounded = {name: tensor.to(dtype) for name, tensor in make(257).items() if name != "initial_state"}
    wide = {name: tensor.double() for name, tensor in rounded.items()}
    (truth, _), true_gradients = run(wide, "reference", activation="silu")
    (got, _), gradients = run(rounded, "torch", activation="silu")
    leaves = {name: tensor.requires_grad_() for name, tensor in rounded.items()}
    plain = F.conv1d(leaves["x"].mT, leaves["weight"][:, None], leaves["bias"], padding=3, groups=5)[..., :257].mT
    plain = F.silu(plain)
    assert got.dtype == dtype
    assert (got - truth).abs().max() <= 2 * (plain - truth).abs().max()
    weight = torch.cos(torch.arange(plain.numel()).reshape(plain.shape))
    loss = (plain * weight).sum() + leaves["x"][:, -3:].cos().sum()
    for (name, leaf), by_torch in zip(leaves.items(), torch.autograd.grad(loss, leaves.values()), strict=True):
        true = true_gradients[name]
        floor = torch.finfo(dtype).eps * true.abs().max()
        assert leaf.dtype == gradients[name].dtype == dtype
        assert (gradients[name] - true).abs().max() <= 2 * (by_torch - true).abs().max() + floor, name


def test_non_contiguous_inputs():
    t = make(20)
    strided = {name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor for name, tensor in t.items()}
    assert not strided["x"].is_contiguous()
    torch.testing.assert_close(run(strided, "torch"), run(t, "torch"), rtol=1e-12, atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seq_len=st.integers(2, 30), d_conv=st.integers(1, 5), data=st.data())
def test_splitting_and_carrying_the_state_changes_nothing(seq_len, d_conv, data):
    cut = data.draw(st.integers(1, seq_len - 1))
    t = make(seq_len, d_conv=d_conv)
    x, state = t.pop("x"), t.pop("initial_state")
    whole, whole_state = causal_conv1d(x, **t, initial_state=state, activation="silu", return_final_state=True)
    options = {"activation": "silu", "return_final_state": True}
    first, state = causal_conv1d(x[:, :cut], **t, initial_state=state, **options)
    second, state = causal_conv1d(x[:, cut:], **t, initial_state=state, **options)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    assert torch.equal(state, whole_state)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seq_len=st.integers(1, 20), d_conv=st.integers(1, 5), activation=st.sampled_from([None, "silu"]))
def test_a_loop_of_steps_equals_the_sequence(seq_len, d_conv, activation):
    t = make(seq_len, d_conv=d_conv)
    want, want_state = causal_conv1d(**t, activation=activation, return_final_state=True)
    state, first_state = t["initial_state"], t["initial_state"].clone()
    for i in range(seq_len):
        y_t, state = causal_conv1d_step(t["x"][:, i], t["weight"], t["bias"], state=state, activation=activation)
        torch.testing.assert_close(y_t, want[:, i], rtol=1e-12, atol=1e-12)
    assert torch.equal(state, want_state)
    assert torch.equal(t["initial_state"], first_state)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seq_len=st.integers(2, 30), data=st.data())
def test_no_token_reads_a_later_one_and_none_too_far_back(seq_len, data):
    cut = data.draw(st.integers(1, seq_len - 1))
    t = make(seq_len)
    x = t.pop("x")
    changed = x.clone()
    changed[:, cut] += 1
    differs = (causal_conv1d(x, **t) != causal_conv1d(changed, **t)).any(-1).any(0)
    assert differs.nonzero().flatten().tolist() == list(range(cut, min(cut + 4, seq_len)))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"x": torch.zeros(2, 9)},
            ShapeError,
            r"`x` must have the shape \(batch, seq_len, d_inner\), however x.shape=\(2, 9\)",
        ),
        ({"weight": torch.zeros(5, 1, 4)}, ShapeError, r"`weight` must have the shape \(d_inner=5, d_conv\)"),
        ({"weight": torch.zeros(5, 0)}, ShapeError, r"`weight` must have the shape \(d_inner=5, d_conv\)"),
        ({"bias": torch.zeros(4)}, ShapeError, r"`bias` must have the shape \(d_inner=5\)"),
        (
            {"initial_state": torch.zeros(2, 5, 3)},
            ShapeError,
            r"`initial_state` must have the shape \(batch=2, d_conv - 1=3, d_inner=5\)",
        ),
        (
            {"seq_idx": torch.zeros(2, 8, dtype=torch.int32)},
            ShapeError,
            r"`seq_idx` must have the shape \(batch=2, seq_len=9\)",
        ),
        ({"activation": "relu"}, ConfigError, "`activation` must be None or \"silu\", however activation='relu'"),
    ],
)
def test_errors_say_what_must_hold(change, error, words):
    with pytest.raises(error, match=words):
        causal_conv1d(**(make(9) | change))


def test_step_errors():
    t = make(1)
    with pytest.raises(ShapeError, match=r"`state` must have the shape \(batch=2, d_conv - 1=3, d_inner=5\)"):
        causal_conv1d_step(t["x"][:, 0], t["weight"], state=torch.zeros(2, 4, 5))
    with pytest.raises(ConfigError, match="`activation` must be None"):
        causal_conv1d_step(t["x"][:, 0], t["weight"], state=t["initial_state"], activation="gelu")

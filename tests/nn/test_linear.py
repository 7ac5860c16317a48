"""The linear map through oneDNN against torch's own: values, every kind of derivative, and when it steps aside."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambattn.nn import GatedMLP, Linear, linear, maps

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
SHAPES = [(1792, 128, 260), (130, 257, 259), (16, 512, 1024)]


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch):
    monkeypatch.setattr(maps, "_is_faster_here", torch.backends.mkldnn.is_available)


def make(rows, d_in, d_out, dtype=torch.float64):
    """Draw x, W, b and a gradient."""
    draw = torch.Generator().manual_seed(3)
    shapes = ((rows, d_in), (d_out, d_in), (d_out,), (rows, d_out))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]


def run(function, tensors):
    """Give the output and all gradients in float64."""
    *leaves, gradient = tensors
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    y = function(*leaves)
    return [x.double() for x in (y.detach(), *torch.autograd.grad(y, leaves, gradient))]


def takes_onednn(x, weight):
    return maps._suits(x, weight)


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
def test_errors_are_at_most_twice_those_of_torch(shape):
    tensors = make(*shape, dtype=torch.float32)
    assert takes_onednn(*tensors[:2])
    truth = run(F.linear, [x.double() for x in tensors])
    got, plain = run(linear, tensors), run(F.linear, tensors)
    for name, want, mine, torchs in zip(("y", "dx", "dW", "db"), truth, got, plain, strict=True):
        assert (mine - want).norm() <= max(2 * (torchs - want).norm(), 1e-6 * want.norm()), name


@needs_onednn
def test_two_runs_are_equal_to_the_bit_and_strides_do_not_matter():
    x, weight, bias, gradient = make(1792, 64, 256, torch.float32)
    want = run(linear, [x, weight, bias, gradient])
    wide = torch.randn(128, 14, 100)
    wide[..., 10:74] = x.unflatten(0, (128, 14))
    strided = run(
        lambda x, *rest: linear(x, *rest).flatten(0, 1), [wide[..., 10:74], weight.T.clone().T, bias, gradient]
    )
    strided[1] = strided[1].flatten(0, 1)
    for again in (run(linear, [x, weight, bias, gradient]), strided):
        for got, expected in zip(again, want, strict=True):
            assert torch.equal(got, expected)


@needs_onednn
def test_no_layout_is_slow():
    """A slice or an expanded tensor as oneDNN's second matrix takes a second, not a millisecond."""
    x, weight, bias, gradient = make(1792, 64, 256, torch.float32)
    wide = [torch.cat([tensor, tensor], dim=1)[:, 3:][:, : tensor.shape[1]] for tensor in (x, weight, gradient)]
    start = time.process_time()
    run(linear, [wide[0], wide[1], bias, wide[2]])
    run(linear, [x, weight, bias, torch.ones(()).expand(gradient.shape)])
    assert time.process_time() - start < 0.3


@needs_onednn
@pytest.mark.parametrize("with_bias", [False, True])
def test_second_derivatives(with_bias):
    tensors = make(300, 150, 140, torch.float32)
    grads = []
    for function in (linear, F.linear):
        x, weight, bias, gradient = (tensor.detach().requires_grad_() for tensor in tensors)
        y = function(x, weight, bias if with_bias else None)
        dx, dw = torch.autograd.grad(y, (x, weight), gradient, create_graph=True)
        grads.append(torch.autograd.grad(dx.square().sum() + dw.square().sum(), (x, weight, gradient)))
    for got, want in zip(*grads, strict=True):
        assert (got - want).norm() <= 1e-5 * want.norm()


@needs_onednn
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own, in its jvp
def test_forward_derivatives_and_batches():
    x, weight, bias, _ = make(300, 150, 140, torch.float32)
    primals, tangents = (x, weight, bias), (x.flip(0), weight.flip(0), bias.flip(0))
    got, want = (torch.func.jvp(function, primals, tangents) for function in (linear, F.linear))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-3)
    weights = torch.stack([weight, weight.flip(0)])
    got = torch.vmap(linear, (None, 0, None))(x, weights, bias)
    want = torch.stack([F.linear(x, one, bias) for one in weights])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_it_steps_aside():
    x, weight, bias, _ = make(1792, 64, 256, torch.float32)
    assert not takes_onednn(x.double(), weight.double())
    assert not takes_onednn(x[:100], weight)
    assert not takes_onednn(x.repeat(40, 1), weight[:8])
    assert not takes_onednn(x.to("meta"), weight.to("meta"))
    assert torch.equal(
        linear(x.double(), weight.double(), bias.double()), F.linear(x.double(), weight.double(), bias.double())
    )
    assert torch.equal(linear(x[:100], weight, bias), F.linear(x[:100], weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight, bias).dtype == torch.bfloat16
    assert linear(torch.ones(4096), torch.ones(4096, 4096)).eq(4096).all()


@needs_onednn
def test_compiled_as_one_graph():
    tensors = make(300, 150, 140, torch.float32)
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    for got, want in zip(run(compiled, tensors), run(linear, tensors), strict=True):
        assert (got - want).norm() <= 1e-5 * want.norm()


def test_the_module_is_torchs_in_all_but_speed():
    torch.manual_seed(0)
    mine = Linear(3, 5)
    torch.manual_seed(0)
    torchs = nn.Linear(3, 5)
    assert isinstance(mine, nn.Linear)
    assert repr(mine) == repr(torchs)
    torchs.load_state_dict(mine.state_dict())
    x = torch.randn(7, 3)
    assert torch.equal(mine(x), torchs(x))
    assert isinstance(GatedMLP(4, 8).in_proj, Linear)

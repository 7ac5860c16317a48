"""The compiled step of the convolution against the definition: builds, options, types, strides, threads, torch's checks."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import causal_conv1d_step
from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

EPS = torch.finfo(torch.float32).eps


def token(batch, d_inner, d_conv):
    draw = torch.Generator().manual_seed(0)
    shapes = {"x_t": (batch, d_inner), "weight": (d_inner, d_conv), "bias": (d_inner,)}
    shapes["state"] = (batch, d_conv - 1, d_inner)
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 19, 4), (64, 130, 4), (3, 16, 2), (5, 40, 9), (1, 1536, 4)])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_twice_rule(isa, poisoned_memory, shape, activation, has_bias):
    inputs = token(*shape) if has_bias else token(*shape) | {"bias": None}
    double = {name: None if x is None else x.double() for name, x in inputs.items()}
    want, _ = causal_conv1d_step(**double, activation=activation, backend="reference")
    plain, state = causal_conv1d_step(**inputs, activation=activation, backend="torch")
    ours, our_state = causal_conv1d_step(**inputs, activation=activation, backend="native")
    allowed = 2 * (plain - want).abs().max() + 4 * EPS * want.abs().max()
    assert (ours - want).abs().max() <= allowed
    assert torch.equal(our_state, state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halved", [("x_t", "weight", "bias", "state"), ("x_t",), ("state",), ("weight",)])
def test_half_precision_is_widened_first_and_rounded_last(isa, dtype, halved):
    inputs = token(2, 19, 4)
    inputs |= {name: inputs[name].to(dtype) for name in halved}
    y, state = causal_conv1d_step(**inputs, activation="silu", backend="native")
    want, _ = causal_conv1d_step(**{n: x.float() for n, x in inputs.items()}, activation="silu", backend="native")
    _, want_state = causal_conv1d_step(**inputs, backend="torch")
    assert (y.dtype, state.dtype) == (inputs["x_t"].dtype, inputs["state"].dtype)
    assert torch.equal(y, want.to(y.dtype))
    assert torch.equal(state, want_state)


def test_the_state_passed_in_is_left_alone_and_strides_do_not_matter():
    inputs = token(3, 20, 4)
    state = inputs["state"].clone()
    want = causal_conv1d_step(**inputs, backend="native")
    assert torch.equal(inputs["state"], state)
    strided = {name: torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0] for name, x in inputs.items()}
    wider = {name: torch.cat([x, x], -1)[..., : x.shape[-1]] for name, x in inputs.items()}
    for other in (strided, wider):
        assert all(map(torch.equal, causal_conv1d_step(**other, backend="native"), want))


def test_threads_do_not_change_a_bit():
    inputs = token(200, 300, 4)
    alone = causal_conv1d_step(**inputs, backend="native")
    torch.set_num_threads(3)
    try:
        together = causal_conv1d_step(**inputs, backend="native")
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, alone, together))


def test_auto_is_native_unless_a_gradient_is_wanted(caplog):
    inputs = token(2, 6, 4)
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        causal_conv1d_step(**inputs)
        causal_conv1d_step(**inputs | {"weight": inputs["weight"].requires_grad_()})
        with torch.no_grad():
            causal_conv1d_step(**inputs)
        causal_conv1d_step(**{name: x.detach().double() for name, x in inputs.items()})
    assert [message.split()[3] for message in caplog.messages] == ["native", "torch", "native", "torch"]
    with pytest.raises(BackendUnavailableError, match=r"computes no gradients.*call it under torch.no_grad"):
        causal_conv1d_step(**inputs, backend="native")


@pytest.mark.parametrize("d_conv", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(d_conv, dtype):
    inputs = token(2, 6, d_conv)
    arguments = (inputs["x_t"].to(dtype), inputs["weight"], inputs["bias"], inputs["state"], True)
    torch.library.opcheck(torch.ops.mambattn.causal_conv1d_step.default, arguments)


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    inputs = token(2, 6, 4)

    def two_steps(x_t, state, **others):
        y_t, state = causal_conv1d_step(x_t, state=state, **others, activation="silu")
        return causal_conv1d_step(y_t, state=state, **others)

    got = torch.compile(two_steps, fullgraph=True, backend="aot_eager")(**inputs)
    assert all(map(torch.equal, got, two_steps(**inputs)))


def test_empty_batch():
    inputs = token(1, 6, 4)
    inputs |= {name: inputs[name][:0] for name in ("x_t", "state")}
    y, state = causal_conv1d_step(**inputs, backend="native")
    assert (y.shape, state.shape) == ((0, 6), (0, 3, 6))

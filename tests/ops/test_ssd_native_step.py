"""The compiled step of ssd against the definition: every build, options, types, strides, threads, torch's checks."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import ssd_step
from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

NAMES = ("x_t", "dt_t", "A", "B_t", "C_t", "D", "z", "dt_bias", "state")
SEQUENCES = ("x_t", "dt_t", "B_t", "C_t", "z")
OPTIONS = ("D", "z", "dt_bias")
EPS = torch.finfo(torch.float32).eps


def token(batch, n_heads, n_groups, d_head, d_state):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=draw)

    return {
        "x_t": normal(batch, n_heads, d_head),
        "dt_t": normal(batch, n_heads).abs() / 2,
        "A": -normal(n_heads).exp(),
        "B_t": normal(batch, n_groups, d_state),
        "C_t": normal(batch, n_groups, d_state),
        "D": normal(n_heads, d_head),
        "z": normal(batch, n_heads, d_head),
        "dt_bias": normal(n_heads).abs() / 2,
        "state": normal(batch, n_heads, d_head, d_state),
    }


def distance(x, truth):
    return ((x.double() - truth).abs().max() / truth.abs().max()).item()


SHAPES = [(1, 1, 1, 1, 1), (2, 4, 2, 19, 5), (3, 24, 1, 64, 64), (1, 6, 3, 16, 130), (5, 3, 1, 33, 24)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dt_softplus", [False, True])
@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
def test_twice_rule(isa, poisoned_memory, shape, dt_softplus, without):
    inputs = {name: x for name, x in token(*shape).items() if name not in without}
    truth = ssd_step(**{n: x.double() for n, x in inputs.items()}, dt_softplus=dt_softplus, backend="reference")
    plain, ours = (ssd_step(**inputs, dt_softplus=dt_softplus, backend=backend) for backend in ("torch", "native"))
    for got, other, want in zip(ours, plain, truth, strict=True):
        assert got.dtype == other.dtype
        assert distance(got, want) <= 2 * distance(other, want) + 4 * EPS


def test_a_skip_of_one_number_a_head(isa):
    inputs = token(2, 4, 2, 19, 5)
    inputs["D"] = inputs["D"][:, 0]
    for got, want in zip(ssd_step(**inputs, backend="native"), ssd_step(**inputs, backend="torch"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halved", [SEQUENCES, ("x_t",), ("dt_t", "z"), NAMES])
def test_half_precision_is_widened_first_and_rounded_last(isa, dtype, halved):
    inputs = token(2, 4, 2, 19, 5)
    inputs |= {name: inputs[name].to(dtype) for name in halved}
    y, state = ssd_step(**inputs, dt_softplus=True, backend="native")
    wide = {name: x.float() for name, x in inputs.items()}
    want, want_state = ssd_step(**wide, dt_softplus=True, backend="native")
    assert y.dtype == inputs["x_t"].dtype
    assert torch.equal(y, want.to(y.dtype))
    assert state.dtype == torch.float32
    assert torch.equal(state, want_state)


def test_the_state_passed_in_is_left_alone_and_strides_do_not_matter():
    inputs = token(3, 4, 2, 20, 6)
    state = inputs["state"].clone()
    want = ssd_step(**inputs, backend="native")
    assert torch.equal(inputs["state"], state)
    strided = {name: torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0] for name, x in inputs.items()}
    wider = {name: torch.cat([x, x], -1)[..., : x.shape[-1]] for name, x in inputs.items()}
    for other in (strided, wider):
        assert all(map(torch.equal, ssd_step(**other, backend="native"), want))


def test_threads_do_not_change_a_bit():
    inputs = token(17, 6, 3, 40, 64)
    alone = ssd_step(**inputs, backend="native")
    torch.set_num_threads(3)
    try:
        together = ssd_step(**inputs, backend="native")
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, alone, together))


def test_auto_is_native_unless_a_gradient_is_wanted(caplog):
    inputs = token(2, 4, 2, 3, 5)
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        ssd_step(**inputs)
        ssd_step(**inputs | {"state": inputs["state"].requires_grad_()})
        with torch.no_grad():
            ssd_step(**inputs)
        ssd_step(**{name: x.detach().double() for name, x in inputs.items()})
    assert [message.split()[3] for message in caplog.messages] == ["native", "torch", "native", "torch"]
    with pytest.raises(BackendUnavailableError, match=r"computes no gradients.*call it under torch.no_grad"):
        ssd_step(**inputs, backend="native")


@pytest.mark.parametrize("without", [(), OPTIONS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(without, dtype):
    inputs = token(2, 4, 2, 3, 5)
    inputs |= {name: inputs[name].to(dtype) for name in SEQUENCES}
    arguments = (*(None if name in without else inputs[name] for name in NAMES), True)
    torch.library.opcheck(torch.ops.mambattn.ssd_step.default, arguments)


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    inputs = token(2, 4, 2, 3, 5)

    def two_steps(state, **others):
        y, state = ssd_step(**others, state=state, dt_softplus=True)
        return y + ssd_step(**others, state=state, dt_softplus=True)[0]

    got = torch.compile(two_steps, fullgraph=True, backend="aot_eager")(**inputs)
    assert torch.equal(got, two_steps(**inputs))


def test_empty_batch():
    inputs = {n: x if n in ("A", "D", "dt_bias") else x[:0] for n, x in token(1, 4, 2, 3, 5).items()}
    y, state = ssd_step(**inputs, backend="native")
    assert (y.shape, state.shape) == ((0, 4, 3), (0, 4, 3, 5))

"""The compiled step of one token against the definition: every build, options, types, strides, threads, torch's checks."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import selective_scan_step
from mambattn.ops._native import library

pytestmark = pytest.mark.skipif(library.missing is not None, reason=f"native: {library.missing}")

OPTIONS = ("D", "z", "dt_bias")
EPS = torch.finfo(torch.float32).eps


def token(scan, batch, d_inner, d_state, n_groups=0):
    inputs = {name: x.float() for name, x in scan.make_inputs(batch, 1, d_inner, d_state, n_groups).items()}
    inputs |= {name: inputs[name][:, 0] for name in ("u", "dt", "B", "C", "z")}
    names = {"u": "u_t", "dt": "dt_t", "B": "B_t", "C": "C_t", "initial_state": "state"}
    return {names.get(name, name): x for name, x in inputs.items()}


def assert_twice_rule(scan, inputs, **options):
    double = {name: x.double() for name, x in inputs.items()}
    truth = selective_scan_step(**double, **options, backend="reference")
    plain = selective_scan_step(**inputs, **options, backend="torch")
    ours = selective_scan_step(**inputs, **options, backend="native")
    for got, other, want in zip(ours, plain, truth, strict=True):
        assert got.dtype == other.dtype
        assert scan.distance(got, want) <= 2 * scan.distance(other, want) + 4 * EPS


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 19, 5), (3, 24, 16, 2), (2, 21, 37, 3), (1, 64, 128), (5, 6, 64)])
@pytest.mark.parametrize("dt_softplus", [False, True])
@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
def test_twice_rule(scan, isa, shape, dt_softplus, without):
    inputs = {name: x for name, x in token(scan, *shape).items() if name not in without}
    assert_twice_rule(scan, inputs, dt_softplus=dt_softplus)


SEQUENCES = ("u_t", "dt_t", "B_t", "C_t", "z")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("halved", [SEQUENCES, ("u_t",), ("dt_t", "z"), (*SEQUENCES, "A", "D", "dt_bias", "state")])
def test_half_precision_is_widened_first_and_rounded_last(scan, isa, dtype, halved):
    inputs = token(scan, 2, 19, 5)
    inputs |= {name: inputs[name].to(dtype) for name in halved}
    y, state = selective_scan_step(**inputs, dt_softplus=True, backend="native")
    wide = {name: x.float() for name, x in inputs.items()}
    want, want_state = selective_scan_step(**wide, dt_softplus=True, backend="native")
    assert torch.equal(y, want.to(dtype if "u_t" in halved else torch.float32))
    assert state.dtype == torch.float32
    assert torch.equal(state, want_state)


def test_the_state_passed_in_is_left_alone_and_strides_do_not_matter(scan):
    inputs = token(scan, 3, 20, 6, 2)
    state = inputs["state"].clone()
    want = selective_scan_step(**inputs, backend="native")
    assert torch.equal(inputs["state"], state)
    strided = {name: torch.stack([x, torch.full_like(x, torch.nan)], -1)[..., 0] for name, x in inputs.items()}
    wider = {name: torch.cat([x, x], -1)[..., : x.shape[-1]] for name, x in inputs.items()}
    for other in (strided, wider):
        got = selective_scan_step(**other, backend="native")
        assert all(map(torch.equal, got, want))


def test_threads_do_not_change_a_bit(scan):
    inputs = token(scan, 37, 144, 64, 3)
    alone = selective_scan_step(**inputs, backend="native")
    torch.set_num_threads(3)
    try:
        together = selective_scan_step(**inputs, backend="native")
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, alone, together))


def test_auto_is_native_unless_a_gradient_is_wanted(scan, caplog):
    inputs = token(scan, 2, 6, 3)
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        selective_scan_step(**inputs)
        selective_scan_step(**inputs | {"state": inputs["state"].requires_grad_()})
        with torch.no_grad():
            selective_scan_step(**inputs)
    assert [message.split()[3] for message in caplog.messages] == ["native", "torch", "native"]
    with pytest.raises(BackendUnavailableError, match=r"computes no gradients.*call it under torch.no_grad"):
        selective_scan_step(**inputs, backend="native")


@pytest.mark.parametrize("without", [(), OPTIONS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(scan, without, dtype):
    inputs = token(scan, 2, 6, 3, 2)
    inputs |= {name: inputs[name].to(dtype) for name in SEQUENCES}
    order = ("u_t", "dt_t", "A", "B_t", "C_t", "D", "z", "dt_bias", "state")
    arguments = (*(None if name in without else inputs[name] for name in order), True)
    torch.library.opcheck(torch.ops.mambattn.selective_scan_step.default, arguments)


def test_compiles_to_one_graph(scan):
    torch._dynamo.reset()
    inputs = token(scan, 2, 6, 3)

    def two_steps(state, **others):
        y, state = selective_scan_step(**others, state=state, dt_softplus=True)
        return y + selective_scan_step(**others, state=state, dt_softplus=True)[0]

    got = torch.compile(two_steps, fullgraph=True, backend="aot_eager")(**inputs)
    assert torch.equal(got, two_steps(**inputs))


def test_empty_batch(scan):
    y, state = selective_scan_step(
        **{n: x if n in ("A", "D", "dt_bias") else x[:0] for n, x in token(scan, 1, 6, 3).items()}
    )
    assert (y.shape, state.shape) == ((0, 6), (0, 6, 3))

"""The selective scan: hand-worked values, and the torch backend against the definition in float64."""

import math

import pytest
import torch

from mambattn._errors import BackendUnavailableError, ConfigError, MambAttnError, ShapeError
from mambattn.ops import list_backends, selective_scan, selective_scan_step

OPTIONS = ("D", "z", "dt_bias", "initial_state")
BACKENDS = [  # those of the CPU: triton has tests of its own
    status.backend
    for status in list_backends()
    if status.op == "selective_scan" and status.available and status.backend != "triton"
]


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1)


@pytest.mark.parametrize("backend", BACKENDS)
class TestByHand:
    """One channel, one state, three steps: every number worked out on paper."""

    def test_decay_of_one_half(self, backend):
        # a = exp(ln(1/2) dt) = 1/2, 1/4, 1/2 and dt B u = 1, 2·1·2, 1·2·3
        A = torch.tensor([[-math.log(2)]])
        y, state = selective_scan(
            column(1, 2, 3),
            column(1, 2, 1),
            A,
            column(1, 1, 2),
            column(1, 1, 10),
            return_final_state=True,
            backend=backend,
        )
        torch.testing.assert_close(y.flatten(), torch.tensor([1.0, 4.25, 81.25]))
        torch.testing.assert_close(state.flatten(), torch.tensor([8.125]))

    def test_reverse_starts_at_the_last_token(self, backend):
        A = torch.tensor([[-math.log(2)]])
        one = column(1, 1, 1)
        y, state = selective_scan(
            *(column(1, 2, 3), one, A, one, one),
            initial_state=torch.full((1, 1, 1), 8.0),
            reverse=True,
            return_final_state=True,
            backend=backend,
        )
        torch.testing.assert_close(y.flatten(), torch.tensor([3.75, 5.5, 7.0]))
        assert state.item() == pytest.approx(3.75)

    def test_reset_between_sequences(self, backend):
        one, zero = column(1, 1, 1), torch.zeros(1, 1)
        y = selective_scan(
            *(column(1, 2, 3), one, zero, one, one),
            initial_state=torch.full((1, 1, 1), 100.0),
            seq_idx=torch.tensor([[5, 5, 2]]),
            backend=backend,
        )
        assert y.flatten().tolist() == [101.0, 103.0, 3.0]

    def test_skip_gate_bias_and_softplus(self, backend):
        # dt = softplus(0 + ln(e - 1)) = 1, silu(z) of 0 is 0 and of a large z is z
        one = column(1, 1, 1)
        y = selective_scan(
            *(column(1, 2, 3), column(0, 0, 0), torch.zeros(1, 1), one, one, torch.tensor([10.0])),
            z=column(0, 100, 100),
            dt_bias=torch.tensor([math.log(math.e - 1)]),
            dt_softplus=True,
            backend=backend,
        )
        torch.testing.assert_close(y.flatten(), torch.tensor([0.0, 2300.0, 3600.0]))

    def test_groups_own_their_channels(self, backend):
        B = torch.tensor([1.0, 5.0]).reshape(1, 1, 2, 1)
        u = torch.ones(1, 1, 4)
        y = selective_scan(u, u, torch.zeros(4, 1), B, torch.ones(1, 1, 2, 1), backend=backend)
        assert y.flatten().tolist() == [1.0, 1.0, 5.0, 5.0]


@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("without", [(), *((option,) for option in OPTIONS), OPTIONS])
def test_torch_equals_the_definition_without_each_option(scan, seq_len, without):
    inputs = scan.make_inputs(2, seq_len, 6, 3)
    compare(scan, inputs, without=without)


@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("n_groups", [0, 1, 3])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("is_packed", [False, True])
def test_torch_equals_the_definition_with_each_option(scan, seq_len, n_groups, reverse, is_packed):
    inputs = scan.make_inputs(2, seq_len, 6, 3, n_groups, seed=seq_len)
    compare(
        scan,
        inputs,
        reverse=reverse,
        seq_idx=scan.packed(2, seq_len) if is_packed else None,
        dt_softplus=not reverse,
    )


def compare(scan, inputs, **options):
    truth = scan.run(inputs, "reference", torch.float64, **options)
    results = scan.run(inputs, "torch", torch.float64, **options)
    assert results.keys() == truth.keys()
    for name in truth:
        limit = 1e-10 if name.startswith("gradient") else 1e-12
        assert scan.distance(results[name], truth[name]) <= limit, name


def test_torch_cuts_large_batches_and_keeps_every_row(scan):
    """More rows than one block holds, the last block smaller than the others."""
    inputs = scan.make_inputs(7, 20, 160, 70)
    compare(scan, inputs)


def test_gradcheck(scan):
    inputs = {name: x.requires_grad_() for name, x in scan.make_inputs(1, 3, 2, 2).items()}
    u, dt, A, B, C, D, z, dt_bias, state = inputs.values()

    def run(u, dt, A, B, C, D, z, dt_bias, state):
        return selective_scan(
            *(u, dt, A, B, C, D),
            z=z,
            dt_bias=dt_bias,
            dt_softplus=True,
            initial_state=state,
            return_final_state=True,
            backend="torch",
        )

    assert torch.autograd.gradcheck(run, (u, dt, A, B, C, D, z, dt_bias, state), fast_mode=False)


@pytest.mark.parametrize("is_packed", [False, True])
def test_second_derivatives(scan, is_packed):
    inputs = {name: x.requires_grad_() for name, x in scan.make_inputs(1, 3, 2, 2).items()}
    names, tensors = tuple(inputs), tuple(inputs.values())
    packing = {"seq_idx": torch.tensor([[0, 0, 1]])} if is_packed else {}

    def run(*tensors, backend="torch"):
        return selective_scan(
            **dict(zip(names, tensors, strict=True)),
            **packing,
            dt_softplus=True,
            return_final_state=True,
            backend=backend,
        )

    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)
    # A loss that is linear in y: the gradient that comes in is a constant, and its graph must be there all the same.
    ours, wanted = (
        torch.autograd.grad(gradient.square().sum(), inputs["u"])[0]
        for backend in ("torch", "reference")
        for gradient in torch.autograd.grad(run(*tensors, backend=backend)[0].sum(), inputs["A"], create_graph=True)
    )
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_half_precision_is_computed_in_float32(scan):
    inputs = {name: x.bfloat16() for name, x in scan.make_inputs(2, 9, 5, 3).items()}
    y, state = selective_scan(**inputs, return_final_state=True, backend="torch")
    wide, _ = selective_scan(
        **{name: x.float() for name, x in inputs.items()}, return_final_state=True, backend="torch"
    )
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    assert torch.equal(y, wide.bfloat16())


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_step_leaves_its_state_alone(scan, backend):
    inputs = scan.make_inputs(2, 1, 6, 3, 2)
    state = inputs["initial_state"]
    before = state.clone()
    token = {name: inputs[name][:, 0] for name in ("u", "dt", "B", "C", "z")}
    y, new_state = selective_scan_step(
        *(token["u"], token["dt"], inputs["A"], token["B"], token["C"], inputs["D"]),
        state=state,
        z=token["z"],
        dt_bias=inputs["dt_bias"],
        dt_softplus=True,
        backend=backend,
    )
    want, want_state = selective_scan(**inputs, dt_softplus=True, return_final_state=True, backend="reference")
    assert torch.equal(state, before)
    torch.testing.assert_close(y, want[:, 0], rtol=0, atol=1e-14)
    torch.testing.assert_close(new_state, want_state, rtol=0, atol=1e-14)


WRONG = [
    ("u", lambda x: x[0], r"`u` must have the shape \(batch, seq_len, d_inner\), however u.shape=\(5, 6\)"),
    ("u", lambda x: x[:, :0], r"`u` must have the shape .* u.shape=\(2, 0, 6\)"),
    ("dt", lambda x: x[:, :4], r"`dt` must have the shape .*seq_len=5.* dt.shape=\(2, 4, 6\)"),
    ("A", lambda x: x.T, r"`A` must have the shape \(d_inner=6, d_state=3\), however A.shape=\(3, 6\)"),
    ("A", lambda x: x.long(), r"`A` must have a floating-point type, however A.dtype=torch.int64"),
    ("B", lambda x: x[..., :2], r"`C` must have the shape .*d_state=2"),
    ("C", lambda x: x[:1], r"`C` must have the shape .*batch=2.* C.shape=\(1, 5, 1, 3\)"),
    ("D", lambda x: x[:5], r"`D` must have the shape \(d_inner=6\), however D.shape=\(5,\)"),
    ("z", lambda x: x[..., 0], r"`z` must have the shape .* z.shape=\(2, 5\)"),
    ("dt_bias", lambda x: x[None], r"`dt_bias` must have the shape \(d_inner=6\)"),
    ("initial_state", lambda x: x.mT, r"`initial_state` must have the shape .* initial_state.shape=\(2, 3, 6\)"),
    ("u", lambda x: x.to("meta"), r"must be on the device of `u`"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_wrong_inputs_are_named(scan, name, change, message):
    inputs = scan.make_inputs(2, 5, 6, 3)
    inputs[name] = change(inputs[name])
    with pytest.raises(ShapeError, match=message):
        selective_scan(**inputs)


def test_wrong_groups_and_numbers_of_sequences(scan):
    inputs = scan.make_inputs(2, 5, 6, 3)
    four = scan.make_inputs(2, 5, 6, 3, 4)
    with pytest.raises(ShapeError, match=r"divisible by the groups .* d_inner=6, n_groups=4"):
        selective_scan(**inputs | {"B": four["B"], "C": four["C"]})
    with pytest.raises(ShapeError, match=r"`seq_idx` must hold whole numbers"):
        selective_scan(**inputs, seq_idx=torch.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"`seq_idx` must have the shape"):
        selective_scan(**inputs, seq_idx=torch.zeros(5, dtype=torch.int64))


def test_backends_that_cannot_serve(scan):
    inputs = scan.make_inputs(2, 5, 6, 3)
    with pytest.raises(ConfigError, match=r"`backend` must be 'auto' or one of .* however backend='fast'"):
        selective_scan(**inputs, backend="fast")
    with pytest.raises(
        BackendUnavailableError, match=r"`backend`='triton' cannot run selective_scan: .* Use 'auto', which takes"
    ):
        selective_scan(**inputs, backend="triton")
    assert issubclass(BackendUnavailableError, MambAttnError)


def test_auto_says_what_it_runs(scan, caplog):
    inputs = scan.make_inputs(2, 5, 6, 3)
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        selective_scan(**inputs)
    assert "selective_scan: auto runs torch for torch.float64 on cpu" in caplog.text


def test_list_backends_names_every_backend_and_reason():
    rows = [status for status in list_backends() if status.op == "selective_scan"]
    assert [status.backend for status in rows] == ["reference", "torch", "native", "triton"]
    assert all(status.reason for status in rows)
    assert str(rows[1]) == f"selective_scan / torch: available, {rows[1].reason}"

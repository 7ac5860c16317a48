"""`ssd`: the chunked form against the loop over tokens, in values, gradients, types and errors."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mambattn._errors import BackendUnavailableError, ConfigError, ShapeError
from mambattn.ops import selective_scan, ssd, ssd_step

LENGTHS = (1, 2, 63, 257)


def make(seq_len: int, *, n_heads=4, n_groups=2, d_head=3, d_state=5, batch=2, seed=0) -> dict[str, Tensor]:
    """Draw every tensor that the op takes, in float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    return {
        "x": normal(batch, seq_len, n_heads, d_head),
        "dt": normal(batch, seq_len, n_heads),
        "A": -normal(n_heads).exp(),
        "B": normal(batch, seq_len, n_groups, d_state),
        "C": normal(batch, seq_len, n_groups, d_state),
        "D": normal(n_heads, d_head),
        "z": normal(batch, seq_len, n_heads, d_head),
        "dt_bias": normal(n_heads),
        "initial_state": normal(batch, n_heads, d_head, d_state),
    }


def packed(seq_len: int, batch: int = 2) -> Tensor:
    """Number sequences of uneven length, with numbers that come back, so that only a change can mark a boundary."""
    draw = torch.Generator().manual_seed(1)
    return (torch.rand(batch, seq_len, generator=draw) < 0.1).cumsum(1) % 2


def run(tensors: dict[str, Tensor], backend: str, **options):
    """Give outputs and final state, and the gradient of every tensor under a fixed random functional of both."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    y, final_state = ssd(**leaves, dt_softplus=True, return_final_state=True, backend=backend, **options)
    weight = torch.cos(torch.arange(y.numel()).reshape(y.shape))
    loss = (y * weight).sum() + final_state.cos().sum()
    return (y.detach(), final_state.detach()), dict(
        zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True)
    )


@pytest.mark.parametrize("seq_len", LENGTHS)
@pytest.mark.parametrize(
    "left_out", [(), ("D",), ("z",), ("dt_bias",), ("initial_state",), ("D", "z", "dt_bias", "initial_state")]
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_chunks_equal_the_loop(seq_len, left_out, is_packed):
    tensors = {name: tensor for name, tensor in make(seq_len).items() if name not in left_out}
    options = {"seq_idx": packed(seq_len)} if is_packed else {}
    outputs, gradients = run(tensors, "reference", **options)
    for chunk_size in (16, 64):
        chunked_outputs, chunked_gradients = run(tensors, "torch", chunk_size=chunk_size, **options)
        for want, got in zip(outputs, chunked_outputs, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        for name, want in gradients.items():
            torch.testing.assert_close(
                chunked_gradients[name], want, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize(("n_heads", "n_groups"), [(1, 1), (6, 1), (6, 6)])
def test_chunks_equal_the_loop_for_any_grouping(n_heads, n_groups):
    tensors = make(70, n_heads=n_heads, n_groups=n_groups) | {"D": torch.rand(n_heads, dtype=torch.float64)}
    outputs, gradients = run(tensors, "reference")
    chunked_outputs, chunked_gradients = run(tensors, "torch", chunk_size=32)
    torch.testing.assert_close(chunked_outputs, outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(chunked_gradients, gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_equals_a_selective_scan_with_one_rate_per_head(backend):
    t = make(70)
    batch, seq_len, _, d_head = t["x"].shape
    d_state = t["B"].shape[-1]

    def widen(per_head: Tensor) -> Tensor:
        return per_head.repeat_interleave(d_head, dim=-1)

    def flat(tensor: Tensor) -> Tensor:
        return tensor.reshape(batch, seq_len, -1)

    want, want_state = selective_scan(
        flat(t["x"]), widen(t["dt"]), widen(t["A"])[:, None].expand(-1, d_state), t["B"], t["C"], t["D"].flatten(),
        z=flat(t["z"]), dt_bias=widen(t["dt_bias"]), dt_softplus=True, initial_state=t["initial_state"].flatten(1, 2),
        return_final_state=True, backend="reference",
    )  # fmt: skip
    got, state = ssd(**t, dt_softplus=True, return_final_state=True, backend=backend)
    torch.testing.assert_close(flat(got), want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.flatten(1, 2), want_state, rtol=1e-12, atol=1e-12)


def test_a_packed_sequence_equals_its_parts():
    t = make(90, batch=1)
    initial_state = t.pop("initial_state")
    shared = {"A", "D", "dt_bias"}
    bounds = [0, 10, 64, 65, 90]
    seq_idx = torch.repeat_interleave(torch.tensor([7, 3, 7, 0]), torch.tensor(bounds).diff())[None]
    got, state = ssd(
        **t, dt_softplus=True, initial_state=initial_state, seq_idx=seq_idx, return_final_state=True, chunk_size=32
    )
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        part = {name: tensor if name in shared else tensor[:, start:stop] for name, tensor in t.items()}
        first = initial_state if index == 0 else None
        want, want_state = ssd(
            **part, dt_softplus=True, initial_state=first, return_final_state=True, backend="reference"
        )
        torch.testing.assert_close(got[:, start:stop], want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, want_state, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("is_packed", [False, True])
def test_gradcheck(is_packed):
    t = {
        name: tensor.requires_grad_()
        for name, tensor in make(7, n_heads=2, n_groups=1, d_head=2, d_state=2, batch=1).items()
    }
    seq_idx = torch.tensor([[0, 0, 0, 1, 1, 0, 0]]) if is_packed else None

    def call(*tensors):
        named = dict(zip(t, tensors, strict=True))
        return ssd(**named, dt_softplus=True, return_final_state=True, seq_idx=seq_idx, chunk_size=3)

    assert torch.autograd.gradcheck(call, tuple(t.values()))


def assert_twice_differentiable(call, tensors):
    """Asking for the graph of the gradient does not change it, and the graph is right."""
    tensors = tuple(tensors)
    loss = sum(output.sin().sum() for output in call(*tensors))
    plain = torch.autograd.grad(loss, tensors, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, tensors, create_graph=True), plain, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


@pytest.mark.parametrize("is_packed", [False, True])
def test_second_derivatives(is_packed):
    """Those of the definition: a backward that works on buffers would leave its share out in silence."""
    t = {
        name: tensor.requires_grad_()
        for name, tensor in make(4, n_heads=2, n_groups=1, d_head=1, d_state=2, batch=1).items()
    }
    seq_idx = torch.tensor([[0, 0, 1, 1]]) if is_packed else None

    def call(*tensors):
        named = dict(zip(t, tensors, strict=True))
        return ssd(**named, dt_softplus=True, return_final_state=True, seq_idx=seq_idx, chunk_size=3)

    assert_twice_differentiable(call, t.values())


def test_second_derivatives_of_a_tensor_given_twice():
    t = make(4, n_heads=2, n_groups=1, d_head=1, d_state=2, batch=1)
    B = t["B"].requires_grad_()
    assert_twice_differentiable(lambda B: (ssd(t["x"], t["dt"], t["A"], B, B, dt_softplus=True),), [B])


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_large_step_sizes_lose_no_digit(backend):
    """The step size is softplus as it is, beyond 20 too, where torch's own lets go of 2e-9."""
    dt = torch.tensor([19.0, 20.5, 23.0], dtype=torch.float64).reshape(1, 3, 1)
    one = torch.ones(1, 3, 1, 1, dtype=torch.float64)
    y = ssd(one, dt, torch.zeros(1, dtype=torch.float64), one, one, dt_softplus=True, backend=backend)
    torch.testing.assert_close(
        y.flatten(), (dt.flatten() + torch.log1p((-dt.flatten()).exp())).cumsum(0), rtol=1e-15, atol=0
    )


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_decay_beyond_the_range_of_its_type_forgets_everything(backend):
    x, B = torch.ones(1, 5, 1, 1), torch.full((1, 5, 1, 1), 1e-20)
    leaves = [t.requires_grad_() for t in (x, torch.full((1, 5, 1), 1e38), torch.tensor([-16.0]), B)]
    y = ssd(*leaves, B, backend=backend)
    torch.testing.assert_close(y, torch.full_like(y, 1e-2))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(y.sum(), leaves))


def test_strong_decay_keeps_every_gradient_exact():
    """Sums of logarithms far beyond the range of exp neither overflow nor cancel, in float32 either."""
    t = make(257) | {"A": -torch.tensor([1e-4, 1.0, 60.0, 2000.0], dtype=torch.float64)}
    _, truth = run(t, "reference")
    narrow = {name: tensor.float() for name, tensor in t.items()}
    _, loop = run(narrow, "reference")
    _, chunked = run(narrow, "torch")
    for name, want in truth.items():
        # Four units of rounding beside the twice rule: the loop's own error is near 0 where one head's sum dominates.
        allowed = 2 * (loop[name] - want).abs().max() + 4 * 2**-23 * want.abs().max()
        assert (chunked[name] - want).abs().max() <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_is_at_most_twice_that_of_the_loop_in_the_same_type(dtype):
    rounded = {name: tensor.to(dtype) for name, tensor in make(257, d_state=16).items()}
    (truth, true_state), _ = run({name: tensor.double() for name, tensor in rounded.items()}, "reference")
    (loop, loop_state), _ = run(rounded, "reference")
    (chunked, state), _ = run(rounded, "torch")
    assert chunked.dtype == dtype
    assert state.dtype == torch.float32
    assert (chunked - truth).abs().max() <= 2 * (loop - truth).abs().max()
    assert (state - true_state).abs().max() <= 2 * (loop_state - true_state).abs().max()


def test_autocast_leaves_the_recurrence_in_float32():
    narrow = {name: tensor.float() for name, tensor in make(100).items()}
    want = run(narrow, "torch")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(narrow, "torch")
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_non_contiguous_inputs():
    t = make(40)
    strided = {name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor for name, tensor in t.items()}
    assert not strided["x"].is_contiguous()
    torch.testing.assert_close(run(strided, "torch"), run(t, "torch"), rtol=1e-12, atol=1e-12)


def test_training_keeps_the_inputs_alone():
    t = {name: tensor.requires_grad_() for name, tensor in make(128).items() if name not in ("D", "z", "dt_bias")}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda tensor: tensor
    ):
        ssd(**t)
    assert set(kept) == {tensor.data_ptr() for tensor in t.values()}


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seq_len=st.integers(2, 90), data=st.data())
def test_splitting_and_carrying_the_state_changes_nothing(seq_len, data):
    cut, chunk_size = data.draw(st.integers(1, seq_len - 1)), data.draw(st.integers(1, 40))
    t = make(seq_len)
    shared = {name: t[name] for name in ("A", "D", "dt_bias")}
    along = {name: t[name] for name in ("x", "dt", "B", "C", "z")}
    options = {"dt_softplus": True, "return_final_state": True, "chunk_size": chunk_size}
    whole, whole_state = ssd(**t, **options)
    first, state = ssd(
        **{n: v[:, :cut] for n, v in along.items()}, **shared, initial_state=t["initial_state"], **options
    )
    second, state = ssd(**{n: v[:, cut:] for n, v in along.items()}, **shared, initial_state=state, **options)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, whole_state, rtol=1e-12, atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(seq_len=st.integers(2, 90), data=st.data())
def test_no_token_reads_a_later_one(seq_len, data):
    cut = data.draw(st.integers(1, seq_len - 1))
    t, other = make(seq_len), make(seq_len, seed=5)
    mixed = dict(t)
    for name in ("x", "dt", "B", "C", "z"):
        mixed[name] = torch.cat([t[name][:, :cut], other[name][:, cut:]], dim=1)
    options = {"dt_softplus": True, "chunk_size": 16}
    assert torch.equal(ssd(**t, **options)[:, :cut], ssd(**mixed, **options)[:, :cut])


@settings(deadline=None, derandomize=True, max_examples=15)
@given(seq_len=st.integers(1, 40), has_gate=st.booleans())
def test_a_loop_of_steps_equals_the_sequence(seq_len, has_gate):
    t = make(seq_len)
    if not has_gate:
        t["z"] = None
    want, want_state = ssd(**t, dt_softplus=True, return_final_state=True)
    state, first_state = t["initial_state"], t["initial_state"].clone()
    for i in range(seq_len):
        y_t, state = ssd_step(
            t["x"][:, i], t["dt"][:, i], t["A"], t["B"][:, i], t["C"][:, i], t["D"],
            state=state, z=None if t["z"] is None else t["z"][:, i], dt_bias=t["dt_bias"], dt_softplus=True,
        )  # fmt: skip
        torch.testing.assert_close(y_t, want[:, i], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, want_state, rtol=1e-12, atol=1e-12)
    assert torch.equal(t["initial_state"], first_state)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(factor=st.floats(-10, 10), seq_len=st.integers(1, 80))
def test_linear_in_x(factor, seq_len):
    t, other = make(seq_len), make(seq_len, seed=9)["x"]
    del t["z"], t["initial_state"]
    x = t.pop("x")
    separate = ssd(x, **t, dt_softplus=True) + factor * ssd(other, **t, dt_softplus=True)
    torch.testing.assert_close(ssd(x + factor * other, **t, dt_softplus=True), separate, rtol=1e-10, atol=1e-10)


def test_without_decay_it_is_a_cumulative_sum():
    x = torch.rand(2, 100, 3, 4, dtype=torch.float64)
    one = torch.ones(2, 100, 1, 1, dtype=torch.float64)
    y = ssd(x, torch.ones(2, 100, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), one, one)
    torch.testing.assert_close(y, x.cumsum(1))


def test_no_rows():
    t = make(9, batch=0)
    y, state = ssd(**t, return_final_state=True)
    assert y.shape == (0, 9, 4, 3)
    assert state.shape == (0, 4, 3, 5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"x": torch.zeros(2, 9, 12)},
            ShapeError,
            r"`x` must have the shape \(batch, seq_len, n_heads, d_head\), however x.shape=\(2, 9, 12\)",
        ),
        ({"x": torch.zeros(2, 0, 4, 3)}, ShapeError, r"`x` must have the shape .* however x.shape=\(2, 0, 4, 3\)"),
        ({"dt": torch.zeros(2, 9, 3)}, ShapeError, r"`dt` must have the shape \(batch=2, seq_len=9, n_heads=4\)"),
        ({"A": torch.zeros(4, 5)}, ShapeError, r"`A` must have the shape \(n_heads=4\)"),
        (
            {"B": torch.zeros(2, 9, 3, 5), "C": torch.zeros(2, 9, 3, 5)},
            ShapeError,
            "`n_groups` must divide `n_heads`, however n_heads=4, n_groups=3",
        ),
        (
            {"C": torch.zeros(2, 9, 2, 6)},
            ShapeError,
            r"`C` must have the shape \(batch=2, seq_len=9, n_groups=2, d_state=5\)",
        ),
        ({"D": torch.zeros(12)}, ShapeError, r"`D` must have the shape \(n_heads=4\)"),
        ({"D": torch.zeros(3, 4)}, ShapeError, r"`D` must have the shape \(n_heads=4, d_head=3\)"),
        ({"z": torch.zeros(2, 9, 12)}, ShapeError, "`z` must have the shape"),
        ({"dt_bias": torch.zeros(1)}, ShapeError, r"`dt_bias` must have the shape \(n_heads=4\)"),
        (
            {"initial_state": torch.zeros(2, 4, 5, 3)},
            ShapeError,
            r"`initial_state` must have the shape \(batch=2, n_heads=4, d_head=3, d_state=5\)",
        ),
        ({"seq_idx": torch.zeros(2, 9)}, ShapeError, "`seq_idx` must hold whole numbers"),
        ({"seq_idx": torch.zeros(9, dtype=torch.int64)}, ShapeError, "`seq_idx` must have the shape"),
        (
            {"x": torch.zeros(2, 9, 4, 3, dtype=torch.int64)},
            ShapeError,
            r"`x` must have a floating-point type, however x.dtype=torch.int64",
        ),
        ({"A": torch.zeros(4, device="meta")}, ShapeError, r"`A` must be on the device of `x`, however A.device=meta"),
        ({"chunk_size": 0}, ConfigError, "`chunk_size` must be an integer of at least 1, however chunk_size=0"),
        ({"chunk_size": 2.5}, ConfigError, "`chunk_size` must be an integer of at least 1, however chunk_size=2.5"),
        ({"backend": "cuda"}, ConfigError, "`backend` must be"),
        ({"backend": "triton"}, BackendUnavailableError, "triton"),
    ],
)
def test_errors_say_what_must_hold(change, error, words):
    with pytest.raises(error, match=words):
        ssd(**(make(9) | change))


def test_step_errors():
    t = make(1)
    token = {name: t[name][:, 0] for name in ("x", "dt", "B", "C")}
    arguments = (token["x"], token["dt"], t["A"], token["B"], token["C"])
    with pytest.raises(ShapeError, match=r"`state` must have the shape \(batch=2, n_heads=4, d_head=3, d_state=5\)"):
        ssd_step(*arguments, state=torch.zeros(2, 4, 3))
    with pytest.raises(ShapeError, match=r"`dt_t` must have the shape \(batch=2, n_heads=4\)"):
        ssd_step(token["x"], token["x"], *arguments[2:], state=t["initial_state"])

"""The GPU kernels of `ssd` against the definition: on a GPU where there is one, else in triton's interpreter."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import ssd

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def make(seq_len, *, n_heads=2, n_groups=1, d_head=3, d_state=5, batch=2, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    tensors = {
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
    return {name: tensor.to(DEVICE, dtype) for name, tensor in tensors.items()}


def packed(seq_len, batch=2):
    """Number sequences of uneven length, with numbers that come back, so that only a change can mark a boundary."""
    draw = torch.Generator().manual_seed(1)
    return ((torch.rand(batch, seq_len, generator=draw) < 0.1).cumsum(1) % 2).to(DEVICE)


def run(tensors, backend, **options):
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    options = {"dt_softplus": True} | options
    y, state = ssd(**leaves, return_final_state=True, backend=backend, **options)
    weights = [
        torch.cos(torch.arange(out.numel(), device=DEVICE)).reshape(out.shape).to(out.dtype) for out in (y, state)
    ]
    gradients = torch.autograd.grad((y, state), list(leaves.values()), weights)
    return {"y": y.detach(), "state": state.detach()} | dict(zip(leaves, gradients, strict=True))


def error(got, want):
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


def assert_close(tensors, limit=LIMITS[torch.float32], **options):
    """Allow an error of ``limit``, or twice that of the torch backend, relative to the 2-norm of the truth."""
    got, plain = (run(tensors, backend, **options) for backend in ("triton", "torch"))
    truth = run({name: tensor.double() for name, tensor in tensors.items()}, "reference", **options)
    for name, want in truth.items():
        assert error(got[name], want) <= max(limit, 2 * error(plain[name], want)), name
        assert got[name].dtype == (torch.float32 if name == "state" else tensors["x" if name == "y" else name].dtype)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("is_packed", [False, True])
def test_equals_the_definition(seq_len, is_packed):
    assert_close(make(seq_len), seq_idx=packed(seq_len) if is_packed else None)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("left_out", [("D",), ("z",), ("dt_bias",), ("initial_state",), ("D", "z", "initial_state")])
def test_options_may_be_left_out(left_out):
    assert_close({name: tensor for name, tensor in make(70).items() if name not in left_out}, dt_softplus=True)


def test_step_sizes_as_they_are():
    t = make(70)
    assert_close(t | {"dt": t["dt"].abs() / 2, "dt_bias": t["dt_bias"].abs() / 2}, dt_softplus=False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    "sizes",
    [
        {"n_heads": 1, "d_head": 1, "d_state": 1},
        {"n_heads": 3, "d_head": 17, "d_state": 33},
        {"n_heads": 4, "n_groups": 2},
        {"n_groups": 2, "d_head": 80, "batch": 1},
        {"d_state": 150, "batch": 1},
    ],
)
def test_any_size_and_grouping(sizes):
    assert_close(make(40, **sizes))


def test_a_skip_for_each_head():
    t = make(40)
    assert_close(t | {"D": t["A"].clone()})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seq_len", [1, 2, 33, 200])
def test_half_precision(dtype, seq_len):
    assert_close(make(seq_len, d_state=16, dtype=dtype), LIMITS[dtype])


def test_types_may_be_mixed():
    t = make(70)
    half = {"x": t["x"].bfloat16(), "B": t["B"].bfloat16(), "C": t["C"].bfloat16(), "dt_bias": t["dt_bias"].half()}
    assert_close(t | half, LIMITS[torch.bfloat16])
    assert_close(t | {"x": t["x"].bfloat16()}, LIMITS[torch.bfloat16])


def test_strong_decay_keeps_every_gradient_exact():
    t = make(100, batch=1, n_heads=4)
    assert_close(t | {"A": -torch.tensor([1e-4, 1.0, 100.0, 2000.0], device=DEVICE)})


def test_segments_of_a_sequence_equal_the_whole(monkeypatch):
    """One row and few heads are cut in time; how far depends on the device alone."""
    from mambattn.ops.ssd_scan import triton_call

    t = make(300, batch=1)
    cut = run(t, "triton")
    monkeypatch.setattr(triton_call, "processors", lambda device: 1)
    whole = run(t, "triton")
    for name, want in whole.items():
        torch.testing.assert_close(cut[name], want, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_views_are_read_in_place_and_runs_are_equal():
    t = make(70)
    wide = {name: torch.cat([x, x.flip(-1)], dim=2 if x.ndim > 2 else 0) for name, x in t.items()}
    views = t | {name: wide[name].narrow(2, 0, t[name].shape[2]) for name in ("x", "dt", "B", "C", "z")}
    leaves = {name: tensor.requires_grad_() for name, tensor in views.items()}

    def gradients(tensors):
        y = ssd(**tensors, dt_softplus=True, backend="triton")
        return y, *torch.autograd.grad(y.sum(), list(tensors.values()))

    whole = gradients({name: tensor.detach().contiguous().requires_grad_() for name, tensor in leaves.items()})
    # The interpreter's matrix products depend on where their operands lie.
    tolerance = 0 if DEVICE == "cuda" else 1e-5
    for _ in range(2):
        torch.testing.assert_close(gradients(leaves), whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("without", [(), ("D", "z", "dt_bias", "initial_state")])
def test_opcheck(without):
    t = {name: tensor.requires_grad_() for name, tensor in make(5).items()}
    tensors = tuple(None if name in without else x for name, x in t.items())
    arguments = (*tensors, packed(5), True, not without)
    torch.library.opcheck(torch.ops.mambattn.ssd_triton_forward.default, arguments)
    y, final_state = torch.ops.mambattn.ssd_triton_forward(*arguments)
    detached = tuple(x if x is None else x.detach() for x in tensors)
    backward = (y.detach(), None if without else final_state.detach(), *detached, *arguments[-3:-1])
    torch.library.opcheck(torch.ops.mambattn.ssd_triton_backward.default, backward)


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    t = {name: tensor.requires_grad_() for name, tensor in make(5).items()}

    def loss(t):
        y, state = ssd(**t, dt_softplus=True, return_final_state=True, backend="triton")
        return y.square().sum() + state.sum()

    want = torch.autograd.grad(loss(t), list(t.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(t)
    torch.testing.assert_close(torch.autograd.grad(compiled, list(t.values())), want)


def test_no_rows():
    y, state = ssd(**make(9, batch=0), return_final_state=True, backend="triton")
    assert y.shape == (0, 9, 2, 3)
    assert state.shape == (0, 2, 3, 5)


def test_too_many_states_are_refused():
    with pytest.raises(BackendUnavailableError, match="d_state up to 256, however d_state=257"):
        ssd(**make(2, d_state=257), backend="triton")


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 8])
def test_long_sequences_on_the_gpu(dtype, batch):
    assert_close(make(4096, batch=batch, d_head=64, d_state=128, dtype=dtype), LIMITS[dtype])

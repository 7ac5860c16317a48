"""The GPU kernels of `causal_conv1d` against the definition: on a GPU where there is one, else in triton's interpreter."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import causal_conv1d

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def make(seq_len, *, d_inner=5, d_conv=4, batch=2, dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    shapes = {
        "x": (batch, seq_len, d_inner),
        "weight": (d_inner, d_conv),
        "bias": (d_inner,),
        "initial_state": (batch, d_conv - 1, d_inner),
    }
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).to(DEVICE, dtype)
        for name, shape in shapes.items()
    }


def packed(seq_len, batch=2):
    draw = torch.Generator().manual_seed(1)
    return ((torch.rand(batch, seq_len, generator=draw) < 0.2).cumsum(1) % 2).to(DEVICE)


def run(tensors, backend, **options):
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    y, state = causal_conv1d(**leaves, return_final_state=True, backend=backend, **options)
    weight = torch.cos(torch.arange(y.numel(), device=DEVICE).reshape(y.shape)).to(y.dtype)
    grads = torch.autograd.grad((y, state), list(leaves.values()), (weight, torch.ones_like(state)))
    return {"y": y.detach(), "state": state.detach()} | dict(zip(leaves, grads, strict=True))


def error(got, want):
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


def assert_close(tensors, limit=LIMITS[torch.float32], **options):
    """Allow an error of ``limit``, or twice that of the torch backend, relative to the 2-norm of the truth."""
    got, plain = (run(tensors, backend, **options) for backend in ("triton", "torch"))
    truth = run({name: tensor.double() for name, tensor in tensors.items()}, "reference", **options)
    for name, want in truth.items():
        assert error(got[name], want) <= max(limit, 2 * error(plain[name], want)), name
        assert got[name].dtype == tensors["x" if name in ("y", "state") else name].dtype
    return got


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("seq_len", [1, 2, 63])
@pytest.mark.parametrize("left_out", [(), ("bias",), ("initial_state",)])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_equals_the_definition(seq_len, left_out, is_packed, activation):
    tensors = {name: tensor for name, tensor in make(seq_len).items() if name not in left_out}
    assert_close(tensors, activation=activation, seq_idx=packed(seq_len) if is_packed else None)


@pytest.mark.usefixtures("poisoned_memory")
def test_blocks_of_time():
    assert_close(make(257, batch=1), activation="silu", seq_idx=packed(257, batch=1))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(("d_inner", "d_conv"), [(1, 1), (65, 2), (130, 3), (3, 8)])
def test_any_width_and_number_of_taps(d_inner, d_conv):
    assert_close(make(90, d_inner=d_inner, d_conv=d_conv), activation="silu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    assert_close(make(150, batch=1, dtype=dtype), LIMITS[dtype], activation="silu")


def test_types_may_be_mixed():
    tensors = make(70)
    tensors |= {"x": tensors["x"].bfloat16(), "bias": tensors["bias"].half()}
    assert_close(tensors, LIMITS[torch.bfloat16], activation="silu")


def test_views_are_read_in_place_and_runs_are_equal():
    t = make(40, d_inner=12)
    inner = {name: t[name][..., 3:8] for name in ("x", "initial_state")} | {
        "weight": t["weight"][3:8], "bias": t["bias"][3:8]
    }  # fmt: skip
    first, again = (run(inner, "triton", activation="silu") for _ in range(2))
    whole = run({name: tensor.contiguous() for name, tensor in inner.items()}, "triton", activation="silu")
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor, whole[name])


def test_an_expanded_gradient():
    t = {name: tensor.requires_grad_() for name, tensor in make(30).items()}
    got, want = (
        torch.autograd.grad(causal_conv1d(**t, backend=backend).sum(), list(t.values()))
        for backend in ("triton", "reference")
    )
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("without", [(), ("bias", "initial_state")])
def test_opcheck(without):
    t = {name: tensor.requires_grad_() for name, tensor in make(9, d_inner=3).items()}
    tensors = tuple(None if name in without else x for name, x in t.items())
    options = (packed(9).cumsum(1, dtype=torch.int32), not without)
    torch.library.opcheck(torch.ops.mambattn.causal_conv1d_triton_forward.default, (*tensors, *options))
    backward = tuple(x if x is None else x.detach() for x in (t["x"], *tensors))
    torch.library.opcheck(torch.ops.mambattn.causal_conv1d_triton_backward.default, (*backward, *options))


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    t = {name: tensor.requires_grad_() for name, tensor in make(9).items()}

    def loss(t):
        y, state = causal_conv1d(**t, activation="silu", return_final_state=True, backend="triton")
        return y.square().sum() + state.sum()

    want = torch.autograd.grad(loss(t), list(t.values()))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(t)
    torch.testing.assert_close(torch.autograd.grad(compiled, list(t.values())), want)


def test_no_rows():
    y, state = causal_conv1d(**make(9, batch=0), return_final_state=True, backend="triton")
    assert y.shape == (0, 9, 5)
    assert state.shape == (0, 3, 5)


def test_too_many_taps_are_refused():
    with pytest.raises(BackendUnavailableError, match="d_conv up to 8, however d_conv=9"):
        causal_conv1d(**make(9, d_conv=9), backend="triton")


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_sequences_on_the_gpu(dtype):
    assert_close(make(4096, d_inner=257, dtype=dtype), LIMITS[dtype], activation="silu")

"""The one-token GPU kernels against the definitions: on a GPU where there is one, else in triton's interpreter."""

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import causal_conv1d_step, selective_scan_step, ssd_step

pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make(*, batch=3, n_heads=4, n_groups=2, d_head=5, d_state=7, d_conv=4):
    """Draw the arguments of each step in float64, by the name of its op."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(DEVICE)

    d_inner = n_heads * d_head
    keys = {name: normal(batch, n_groups, d_state) for name in ("B_t", "C_t")}
    return {
        selective_scan_step: keys
        | {
            "u_t": normal(batch, d_inner),
            "dt_t": normal(batch, d_inner),
            "A": -normal(d_inner, d_state).exp(),
            "D": normal(d_inner),
            "z": normal(batch, d_inner),
            "dt_bias": normal(d_inner),
            "state": normal(batch, d_inner, d_state),
        },
        ssd_step: keys
        | {
            "x_t": normal(batch, n_heads, d_head),
            "dt_t": normal(batch, n_heads),
            "A": -normal(n_heads).exp(),
            "D": normal(n_heads),
            "z": normal(batch, n_heads, d_head),
            "dt_bias": normal(n_heads),
            "state": normal(batch, n_heads, d_head, d_state),
        },
        causal_conv1d_step: {
            "x_t": normal(batch, d_inner),
            "weight": normal(d_inner, d_conv),
            "bias": normal(d_inner),
            "state": normal(batch, d_conv - 1, d_inner),
        },
    }


STEPS = [selective_scan_step, ssd_step, causal_conv1d_step]
OPTIONS = {
    selective_scan_step: {"dt_softplus": True},
    ssd_step: {"dt_softplus": True},
    causal_conv1d_step: {"activation": "silu"},
}


def assert_close(step, tensors, limit, **options):
    got = step(**tensors, **options, backend="triton")
    want = step(**{name: tensor.double() for name, tensor in tensors.items()}, **options, backend="reference")
    for x, truth in zip(got, want, strict=True):
        assert (x.double() - truth).norm() <= limit * truth.norm()
    return got


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sizes", [{}, {"n_groups": 1, "d_head": 1, "d_state": 1, "d_conv": 1}, {"d_head": 70}])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_equals_the_definition(step, sizes, dtype, limit):
    tensors = {name: tensor.to(dtype) for name, tensor in make(**sizes)[step].items()}
    before = tensors["state"].clone()
    y, state = assert_close(step, tensors, limit, **OPTIONS[step])
    assert y.dtype == dtype
    assert state.dtype == (dtype if step is causal_conv1d_step else torch.float32)
    assert torch.equal(tensors["state"], before)


@pytest.mark.parametrize("step", STEPS)
def test_options_may_be_left_out(step):
    tensors = {name: tensor.float() for name, tensor in make()[step].items()}
    assert_close(step, {k: x for k, x in tensors.items() if k not in ("D", "z", "dt_bias", "bias")}, 1e-6)


def test_a_skip_for_each_channel():
    tensors = {name: tensor.float() for name, tensor in make()[ssd_step].items()}
    assert_close(ssd_step, tensors | {"D": tensors["z"][0]}, 1e-6)


@pytest.mark.parametrize("step", STEPS)
def test_views_are_read_in_place(step):
    tensors = {name: tensor.float() for name, tensor in make()[step].items()}
    strided = {name: torch.stack([x, x], -1)[..., 0] if x.ndim > 1 else x for name, x in tensors.items()}
    for x, y in zip(step(**strided, backend="triton"), step(**tensors, backend="triton"), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("step", STEPS)
def test_no_rows(step):
    tensors = {name: tensor.float() for name, tensor in make(batch=0)[step].items()}
    y, state = step(**tensors, backend="triton")
    assert y.shape[0] == state.shape[0] == 0


@pytest.mark.parametrize("step", STEPS)
def test_gradients_are_refused(step):
    tensors = {name: tensor.float().requires_grad_() for name, tensor in make()[step].items()}
    with pytest.raises(BackendUnavailableError, match="it computes no gradients"):
        step(**tensors, backend="triton")


@pytest.mark.parametrize("step", STEPS)
def test_compiles_to_one_graph(step):
    torch._dynamo.reset()
    tensors = {name: tensor.float() for name, tensor in make(batch=1, d_head=1)[step].items()}
    want = step(**tensors, backend="triton")
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(**tensors, backend="triton")
    torch.testing.assert_close(compiled, want)


def test_opcheck():
    arguments = [x.float() for x in (torch.ones(2, 3), torch.ones(3, 2), torch.ones(3), torch.ones(2, 1, 3))]
    torch.library.opcheck(
        torch.ops.mambattn.causal_conv1d_step_triton.default, (*(x.to(DEVICE) for x in arguments), True)
    )

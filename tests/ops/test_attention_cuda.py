"""Windowed attention on a GPU: the flash kernel against the definition in float64, and what it leaves to the blocks."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from mambattn.ops import attention
from mambattn.ops.attend import attention_mask
from mambattn.ops.attend.varlen import attend_varlen, varlen_serves

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
on_gpu = pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])


def make(device, seq_len, *, n_heads=4, n_kv_heads=2, d_head=64, batch=2, dtype=torch.bfloat16):
    """Draw queries, keys and values."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((batch, seq_len, heads, d_head) for heads in (n_heads, n_kv_heads, n_kv_heads))
    return [torch.randn(shape, generator=draw).to(device, dtype) for shape in shapes]


def run(tensors, attend=attention, **options):
    """Give the output and the gradients of q, k and v under a fixed functional of it, in float64."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    y = attend(*leaves, **options)
    weight = torch.cos(torch.arange(y.numel(), device=y.device, dtype=torch.float64).reshape(y.shape))
    return [x.double() for x in (y.detach(), *torch.autograd.grad((y * weight).sum(), leaves))]


def masked_kernel(q, k, v, *, causal, window):
    """Call torch's kernel with the whole mask."""
    k, v = (tensor.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for tensor in (k, v))
    mask = attention_mask(q.shape[1], causal=causal, window=window, device=q.device)
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), mask).transpose(1, 2)


def compare(tensors, **options):
    """Hold the errors against float64 under twice those of torch's masked kernel in the same type."""
    truth = run([x.double() for x in tensors], backend="reference", **options)
    results, plain = run(tensors, **options), run(tensors, masked_kernel, **options)
    for name, want, got, other in zip(("y", "dq", "dk", "dv"), truth, results, plain, strict=True):
        # Of a window of one, the gradients of q and k are 0.
        allowed = max(2 * (other - want).norm(), 1e-3 * (1 + want.norm()))
        assert (got - want).norm() <= allowed, name


@on_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seq_len", [2, 63, 257, 1000])
def test_the_window_kernel_equals_the_definition(device, seq_len, causal, dtype):
    for window, n_kv_heads in itertools.product((1, 20, 64, 256), (1, 4)):
        if window < seq_len:
            tensors = make(device, seq_len, n_kv_heads=n_kv_heads, dtype=dtype)
            assert varlen_serves(tensors[0], 0, 0.0)
            compare(tensors, causal=causal, window=window)


@on_gpu
@pytest.mark.parametrize("d_head", [8, 40, 128, 256])
def test_other_widths(device, d_head):
    compare(make(device, 300, d_head=d_head), causal=True, window=50)


@on_gpu
def test_strided_inputs(device):
    packed = torch.randn(2, 300, 8, 64, device=device, dtype=torch.bfloat16)
    views = list(packed.split([4, 2, 2], dim=2))
    columns = [x.mT.contiguous().mT for x in views]
    want = run([x.contiguous() for x in views], causal=True, window=70)
    for tensors in (views, columns):
        for got, expected in zip(run(tensors, causal=True, window=70), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-2)


@on_gpu
def test_what_the_kernel_does_not_know_goes_to_the_blocks(device):
    q, k, v = make(device, 300)
    odd, single = (q[..., :20], k[..., :20], v[..., :20]), (q.float(), k.float(), v.float())
    assert not varlen_serves(odd[0], 0, 0.0)
    assert not varlen_serves(single[0], 0, 0.0)
    assert not varlen_serves(q, 3, 0.0)
    assert not varlen_serves(q, 0, 0.1)
    assert not varlen_serves(q[:0], 0, 0.0)
    compare(odd, causal=True, window=50)
    compare(single, causal=False, window=50)
    want = attention(q.double(), k.double(), v.double(), window=50, n_global=3, backend="reference")
    torch.testing.assert_close(attention(q, k, v, window=50, n_global=3).double(), want, rtol=2e-2, atol=2e-2)
    assert attention(q, k, v, window=50, dropout_p=0.1).isfinite().all()


@on_gpu
def test_compiled_as_one_graph(device):
    tensors = make(device, 300)
    compiled = torch.compile(attention, fullgraph=True)
    for got, want in zip(
        run(tensors, compiled, causal=True, window=70), run(tensors, causal=True, window=70), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


@on_gpu
def test_more_tokens_than_a_dense_mask_could_hold(device):
    tensors = make(device, 100_000, batch=1, n_heads=2, n_kv_heads=1)
    y, *gradients = run(tensors, causal=True, window=100)
    assert all(gradient.isfinite().all() for gradient in gradients)
    tail = attention(*(x[:, -500:].double() for x in tensors), causal=True, window=100, backend="reference")
    torch.testing.assert_close(y[:, -400:], tail[:, 100:], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("n_kv_heads", [2, 4])
def test_the_call_fits_this_torch(n_kv_heads):
    """On tensors without memory, for machines without a GPU."""
    leaves = [tensor.requires_grad_() for tensor in make("meta", 90, n_kv_heads=n_kv_heads)]
    for attend in (attend_varlen, torch.compile(attend_varlen, fullgraph=True, backend="eager")):
        y = attend(*leaves, True, 9, 0.3)
        assert y.shape == leaves[0].shape
        for gradient, leaf in zip(torch.autograd.grad(y.sum(), leaves), leaves, strict=True):
            assert gradient.shape == leaf.shape


def test_tensors_on_the_cpu_go_to_the_blocks():
    assert not varlen_serves(make("cpu", 90)[0], 0, 0.0)

"""torch.vmap over the ops: each member's numbers and gradients are those of a call of its own."""

import pytest
import torch

from mambattn._errors import ConfigError
from mambattn.ops import (
    attention,
    causal_conv1d,
    causal_conv1d_step,
    list_backends,
    selective_scan,
    selective_scan_step,
    ssd,
    ssd_step,
)

MEMBERS, BATCH, LENGTH = 3, 2, 7


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(MEMBERS, *shape, dtype=torch.float64)


def scan_inputs() -> tuple[torch.Tensor, ...]:
    u, dt, z = (draw(BATCH, LENGTH, 6) for _ in range(3))
    return u, dt, -draw(6, 4).exp(), draw(BATCH, LENGTH, 2, 4), draw(BATCH, LENGTH, 2, 4), draw(6), z, draw(6)


def run_scan(u, dt, A, B, C, D, z, bias, **options):
    return selective_scan(u, dt, A, B, C, D, z=z, dt_bias=bias, dt_softplus=True, return_final_state=True, **options)


def ssd_inputs() -> tuple[torch.Tensor, ...]:
    x, z = draw(BATCH, LENGTH, 4, 3), draw(BATCH, LENGTH, 4, 3)
    return x, draw(BATCH, LENGTH, 4), -draw(4).exp(), draw(BATCH, LENGTH, 2, 5), draw(BATCH, LENGTH, 2, 5), draw(4), z


def run_ssd(x, dt, A, B, C, D, z, **options):
    return ssd(x, dt, A, B, C, D, z=z, dt_softplus=True, return_final_state=True, **options)


def conv_inputs() -> tuple[torch.Tensor, ...]:
    return draw(BATCH, LENGTH, 6), draw(6, 3), draw(6)


def run_conv(x, weight, bias, **options):
    return causal_conv1d(x, weight, bias, activation="silu", return_final_state=True, **options)


def attention_inputs() -> tuple[torch.Tensor, ...]:
    return draw(BATCH, LENGTH, 4, 3), draw(BATCH, LENGTH, 2, 3), draw(BATCH, LENGTH, 2, 3)


def run_attention(q, k, v, **options):
    return attention(q, k, v, causal=True, window=3, **options)


OPS = {
    "selective_scan": (run_scan, scan_inputs),
    "ssd": (run_ssd, ssd_inputs),
    "causal_conv1d": (run_conv, conv_inputs),
    "attention": (run_attention, attention_inputs),
}
CASES = [
    (b.op, b.backend) for b in list_backends() if b.op in OPS and b.available and b.backend in ("reference", "torch")
]
NATIVE = [(b.op, b.backend) for b in list_backends() if b.op in OPS and b.available and b.backend == "native"]


def check(op: str, backend: str, dtype: torch.dtype, tolerance: float) -> None:
    run, inputs = OPS[op]
    torch.manual_seed(0)
    given = [x.to(dtype).requires_grad_() for x in inputs()]

    def outputs(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = run(*tensors, backend=backend)
        return found if isinstance(found, tuple) else (found,)

    together = torch.vmap(outputs)(*given)
    alone = [torch.stack(x) for x in zip(*(outputs(*x) for x in zip(*given, strict=True)), strict=True)]
    weights = [torch.randn_like(x) for x in alone]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    grads = [
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(found, weights, strict=True)), given)
        for found in (together, alone)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("op", "backend"), CASES)
def test_members_are_calls_of_their_own(op: str, backend: str) -> None:
    check(op, backend, torch.float64, 1e-12)


@pytest.mark.parametrize(("op", "backend"), NATIVE)
def test_members_on_native_kernels(op: str, backend: str) -> None:
    check(op, backend, torch.float32, 2e-5)


def test_weights_that_members_share() -> None:
    torch.manual_seed(1)
    u, dt, A, B, C, D, z, bias = scan_inputs()
    shared = (A[0].requires_grad_(), D[0], bias[0])
    dims = (0, 0, None, 0, 0, None, 0, None)
    y, _ = torch.vmap(run_scan, in_dims=dims)(u, dt, shared[0], B, C, shared[1], z, shared[2])
    alone = torch.stack([run_scan(u[m], dt[m], shared[0], B[m], C[m], shared[1], z[m], shared[2])[0] for m in range(3)])
    torch.testing.assert_close(y, alone, rtol=1e-12, atol=1e-12)
    (a,), (b,) = (torch.autograd.grad(x.square().sum(), shared[0]) for x in (y, alone))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_member_axis_in_the_middle_and_nested_vmap() -> None:
    torch.manual_seed(2)
    x, weight = torch.randn(BATCH, MEMBERS, LENGTH, 6), torch.randn(6, 5, 3)

    def conv(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return causal_conv1d(x, weight)

    rows = torch.vmap(torch.vmap(conv, in_dims=(1, None)), in_dims=(None, 1))(x, weight)
    assert rows.shape == (5, MEMBERS, BATCH, LENGTH, 6)
    torch.testing.assert_close(rows[3, 2], causal_conv1d(x[:, 2], weight[:, 3]))


def test_packed_sequences_are_shared_and_not_mapped_over() -> None:
    torch.manual_seed(3)
    x, weight, _ = conv_inputs()
    seq_idx = torch.tensor([[0, 0, 1, 1, 1, 2, 2]] * BATCH)
    found = torch.vmap(lambda x, w: causal_conv1d(x, w, seq_idx=seq_idx))(x, weight)
    torch.testing.assert_close(found[1], causal_conv1d(x[1], weight[1], seq_idx=seq_idx))
    with pytest.raises(ConfigError, match=r"all members of causal_conv1d must share `seq_idx`"):
        torch.vmap(lambda x, w, s: causal_conv1d(x, w, seq_idx=s))(x, weight, seq_idx.expand(MEMBERS, -1, -1))


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_steps(backend: str) -> None:
    torch.manual_seed(4)
    u, dt, A, B, C, D, z, _ = scan_inputs()
    state, past = draw(BATCH, 6, 4), draw(BATCH, 2, 6)
    x, dt2, A2, B2, C2, D2, z2 = ssd_inputs()
    state2 = draw(BATCH, 4, 3, 5)

    def steps(u, dt, A, B, C, D, z, state, past, w, x, dt2, A2, B2, C2, D2, z2, state2):
        first = selective_scan_step(u, dt, A, B, C, D, state=state, z=z, dt_softplus=True, backend=backend)
        second = causal_conv1d_step(u, w, state=past, backend=backend)
        return *first, *second, *ssd_step(x, dt2, A2, B2, C2, D2, state=state2, z=z2, backend=backend)

    given = (u[:, :, 0], dt[:, :, 0], A, B[:, :, 0], C[:, :, 0], D, z[:, :, 0], state, past, draw(6, 3))
    given += (x[:, :, 0], dt2[:, :, 0], A2, B2[:, :, 0], C2[:, :, 0], D2, z2[:, :, 0], state2)
    with torch.no_grad():
        together = torch.vmap(steps)(*given)
        for m in range(MEMBERS):
            for a, b in zip(together, steps(*(g[m] for g in given)), strict=True):
                torch.testing.assert_close(a[m], b, rtol=1e-12, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("op", OPS)
def test_members_on_a_gpu(op: str) -> None:
    run, inputs = OPS[op]
    torch.manual_seed(5)
    given = [x.float().cuda() for x in inputs()]

    def first(*tensors: torch.Tensor) -> torch.Tensor:
        found = run(*tensors)
        return found[0] if isinstance(found, tuple) else found

    together = torch.vmap(first)(*given)
    alone = torch.stack([first(*x) for x in zip(*given, strict=True)])
    torch.testing.assert_close(together, alone, rtol=2e-5, atol=2e-5)

"""The C code of attention: against the definition, on every build; its dropout; and what auto leaves to torch."""

import itertools

import pytest
import torch

from mambattn._errors import BackendUnavailableError
from mambattn.ops import attention, list_backends
from mambattn.ops._dispatch import Request
from mambattn.ops.attend import native

pytestmark = pytest.mark.skipif(
    not next(row.available for row in list_backends() if (row.op, row.backend) == ("attention", "native")),
    reason="the package was built without a C compiler",
)
NAMES = ("y", "dq", "dk", "dv")


def make(seq_len, *, n_heads=4, n_kv_heads=2, d_head=8, batch=3, dtype=torch.float32):
    """Draw queries, keys, values and a gradient."""
    draw = torch.Generator().manual_seed(seq_len)
    heads = (n_heads, n_kv_heads, n_kv_heads, n_heads)
    return [torch.randn(batch, seq_len, n, d_head, generator=draw).to(dtype) for n in heads]


def run(tensors, attend=attention, **options):
    """Give the output and the gradients of q, k and v."""
    *leaves, gradient = tensors
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    y = attend(*leaves, **options)
    return [y.detach(), *torch.autograd.grad(y, leaves, gradient)]


def hold(tensors, floor, **options):
    """Hold the errors against float64 under twice those of torch in the same type."""
    truth = run([x.double() for x in tensors], backend="reference", **options)
    results = run(tensors, backend="native", **options)
    others = run(tensors, backend="torch", **options)
    for name, want, got, other in zip(NAMES, truth, results, others, strict=True):
        assert got.dtype == tensors[0].dtype
        allowed = max(2 * (other.double() - want).norm(), floor * (want.norm() + 1))
        assert (got.double() - want).norm() <= allowed, (name, options)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seq_len", [1, 2, 14, 63, 130])
def test_it_equals_the_definition(isa, seq_len, causal, poisoned_memory):
    for window, n_kv_heads, d_head in itertools.product((None, 1, 5, 64), (1, 4), (3, 8, 20)):
        tensors = make(seq_len, n_kv_heads=n_kv_heads, d_head=d_head)
        hold(tensors, 3e-6, causal=causal, window=window, scale=0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(isa, dtype):
    hold(make(30, d_head=11, dtype=dtype), 1e-3, causal=True)


def test_large_logits_neither_overflow_nor_vanish(isa):
    q, k, v, gradient = make(20)
    hold([40 * q, 40 * k, v, gradient], 3e-6)


def test_strides_do_not_matter():
    *packed, gradient = make(14, n_kv_heads=4)
    q, k, v = torch.cat(packed, dim=2).split(4, dim=2)
    columns = [x.mT.contiguous().mT for x in packed]
    want = run([*packed, gradient], backend="native")
    for tensors in ([q, k, v, gradient], [*columns, gradient.mT.contiguous().mT], [*packed, gradient]):
        for got, expected in zip(run(tensors, backend="native"), want, strict=True):
            assert torch.equal(got, expected)
    sums = [run([*packed, torch.ones(()).expand(gradient.shape)], backend=name) for name in ("native", "torch")]
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-5)


def test_the_number_of_threads_does_not_show():
    tensors = make(33)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(5)
            results.append(run(tensors, backend="native", dropout_p=0.3))
    finally:
        torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_no_rows():
    assert [x.shape[0] for x in run(make(5, batch=0), backend="native")] == [0, 0, 0, 0]


@pytest.mark.parametrize("seq_len", [14, 40])
def test_dropout_drops_the_share_asked_for_at_random(isa, seq_len):
    """With equal logits and the identity as values, the output shows the weights."""
    torch.manual_seed(0)
    batch, n_heads, p = 40, 8, 0.2
    same = torch.zeros(batch, seq_len, n_heads, seq_len)
    values = torch.eye(seq_len)[None, :, None].expand(batch, -1, n_heads, -1)
    first, second = (attention(same, same, values, dropout_p=p, backend="native") * seq_len for _ in range(2))
    kept = first != 0
    torch.testing.assert_close(first[kept], torch.full_like(first[kept], 1 / (1 - p)))
    n = kept.numel()
    assert abs(kept.double().mean() - (1 - p)) < 4 * (p * (1 - p) / n) ** 0.5
    centred = kept.double() - (1 - p)
    pairs = [(centred, (second != 0).double() - (1 - p))]
    for axis, size in enumerate(centred.shape):
        pairs.append((centred.narrow(axis, 1, size - 1), centred.narrow(axis, 0, size - 1)))
    for a, b in pairs:
        assert abs((a * b).mean()) < 4 * p * (1 - p) / a.numel() ** 0.5


def test_dropout_follows_the_seed_of_torch():
    tensors = make(14)
    torch.manual_seed(3)
    first, second = (run(tensors, backend="native", dropout_p=0.5) for _ in range(2))
    torch.manual_seed(3)
    again = run(tensors, backend="native", dropout_p=0.5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0])
    before = torch.get_rng_state()
    attention(*tensors[:3], backend="native")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("left", "right"), [(20, 20), (20, 0), (4, 4), (4, 0)])
def test_the_backward_drops_the_same_weights(isa, left, right):
    tensors, seed = make(21), torch.tensor(1234567890123456789)
    fixed = {"seed": seed, "left": left, "right": right, "scale": 0.4, "dropout_p": 0.3}
    results = [run(tensors, attend, **fixed) for attend in (native._forward, native._defined)]
    for name, got, want in zip(NAMES, *results, strict=True):
        assert (got - want).norm() <= 3e-6 * want.norm(), name


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_second_derivatives(dropout_p):
    tensors, seed = make(9), torch.tensor(7)
    found = []
    for attend in (native._forward, native._defined):
        q, k, v, gradient = (x.detach().requires_grad_() for x in tensors)
        y = attend(q, k, v, seed, 8, 0, 0.4, dropout_p)
        firsts = torch.autograd.grad(y, (q, k, v), gradient, create_graph=True)
        found.append(torch.autograd.grad(sum(x.square().sum() for x in firsts), (q, k, v, gradient)))
    for got, want in zip(*found, strict=True):
        assert (got - want).norm() <= 1e-5 * want.norm()


def test_torch_knows_the_ops():
    *inputs, gradient = make(6)
    seed = torch.tensor(5)
    leaves = [x.requires_grad_() for x in inputs]
    torch.library.opcheck(native._forward, (*leaves, seed, 5, 5, 0.3, 0.2))
    torch.library.opcheck(native._backward, (gradient, *(x.detach() for x in inputs), seed, 5, 0, 0.3, 0.0))
    compiled = torch.compile(lambda q, k, v: attention(q, k, v, backend="native"), fullgraph=True, backend="aot_eager")
    for got, want in zip(run([*inputs, gradient], compiled), run([*inputs, gradient], backend="native"), strict=True):
        assert torch.equal(got, want)
    drops = torch.compile(lambda q: attention(q, q, q, dropout_p=0.5), fullgraph=True, backend="aot_eager")
    assert not torch.equal(drops(inputs[0]), drops(inputs[0]))


def test_what_it_cannot_serve_it_refuses():
    q, k, v, _ = make(10)
    with pytest.raises(BackendUnavailableError, match="it has no global tokens, however n_global=2"):
        attention(q, k, v, window=3, n_global=2, backend="native")
    with pytest.raises(BackendUnavailableError, match=r"computes in float32, however the inputs need torch.float64"):
        attention(q.double(), k.double(), v.double(), backend="native")
    longer = torch.zeros(1, 1025, 1, 4)
    with pytest.raises(BackendUnavailableError, match="it serves up to 1024 tokens, however seq_len=1025"):
        attention(longer, longer, longer, backend="native")


def test_auto_takes_it_where_it_is_faster(caplog):
    def is_suited(batch, seq_len, n_heads, d_head, window, dropout_p):
        q = torch.empty(batch, seq_len, n_heads, d_head, device="meta")
        return native.suits(Request((q, q, q), (False, window, 0, 0.5, dropout_p)))

    assert is_suited(128, 14, 8, 8, None, 0.0)
    assert is_suited(1, 14, 8, 8, None, 0.2)
    assert is_suited(2, 1000, 4, 64, None, 0.2)
    assert not is_suited(1, 4, 8, 8, None, 0.2)
    assert not is_suited(1, 14, 8, 8, None, 0.0)
    assert not is_suited(64, 20, 8, 64, None, 0.0)
    assert not is_suited(64, 256, 4, 16, None, 0.0)
    assert not is_suited(4, 1000, 4, 64, 64, 0.2)
    with caplog.at_level("DEBUG", logger="mambattn.ops"):
        for rows in (1, 100):
            attention(*make(14, batch=rows)[:3])
    assert [record.args[1] for record in caplog.records] == ["torch", "native"]

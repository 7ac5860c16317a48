"""`attention`: blocks of the library kernel against the dense matrix, in every combination of reach."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mambattn._errors import ConfigError, ShapeError
from mambattn.ops import attention, attention_init_state, attention_step
from mambattn.ops.attend import attention_mask, attention_weights

REACHES = [(None, 0), *itertools.product((1, 3, 64, 70, 257, 500), (0, 1, 5, 70, 300))]


def make(seq_len, *, n_heads=4, n_kv_heads=2, d_head=8, batch=2, seed=0, dtype=torch.float64):
    """Draw queries, keys and values."""
    draw = torch.Generator().manual_seed(seed)
    shapes = ((batch, seq_len, heads, d_head) for heads in (n_heads, n_kv_heads, n_kv_heads))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]


def run(tensors, **options):
    """Give the output and the gradients of q, k and v under a fixed functional of it."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    y = attention(*leaves, **options)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape))
    return y.detach(), torch.autograd.grad((y * weight).sum(), leaves)


def test_the_mask_says_who_sees_whom():
    """The definition, spelt out pair by pair."""
    for causal, window, n_global in itertools.product((False, True), (1, 2, 5, 9), (0, 1, 3)):
        mask = attention_mask(7, causal=causal, window=window, n_global=n_global)
        for i, j in itertools.product(range(7), range(7)):
            seen = abs(i - j) < window or i < n_global or j < n_global
            assert mask[i, j] == (seen and (j <= i or not causal))


def test_the_weights_are_a_softmax_over_what_is_seen():
    q, k, _ = make(9, n_kv_heads=1)
    weights = attention_weights(q, k, causal=True, window=3, n_global=1, scale=0.7)
    for i in range(9):
        seen = [j for j in range(i + 1) if i - j < 3 or j == 0]
        logits = torch.stack([0.7 * (q[:, i] * k[:, j]).sum(-1) for j in seen], dim=-1)
        want = torch.zeros(2, 4, 9, dtype=torch.float64)
        want[..., seen] = logits.softmax(-1)
        torch.testing.assert_close(weights[:, :, i], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seq_len", [1, 2, 63, 64, 65, 257, 300])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_equal_the_dense_matrix(seq_len, causal):
    for (window, n_global), n_kv_heads in itertools.product(REACHES, (1, 2, 4)):
        tensors = make(seq_len, n_kv_heads=n_kv_heads)
        options = {"causal": causal, "window": window, "n_global": n_global}
        torch.testing.assert_close(
            attention(*tensors, **options), attention(*tensors, **options, backend="reference"), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("seq_len", [1, 2, 63, 257])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "n_global"), [(None, 0), (1, 0), (20, 0), (20, 3), (64, 70), (100, 1), (400, 5)])
def test_gradients_equal_those_of_the_dense_matrix(seq_len, causal, window, n_global):
    tensors = make(seq_len)
    options = {"causal": causal, "window": window, "n_global": n_global, "scale": 0.6}
    want, want_gradients = run(tensors, **options, backend="reference")
    got, gradients = run(tensors, **options)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, want_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"window": 2, "n_global": 1}, {"window": 2, "causal": True}])
def test_gradcheck(options):
    tensors = [tensor.requires_grad_() for tensor in make(5, n_heads=2, n_kv_heads=1, d_head=2, batch=1)]
    assert torch.autograd.gradcheck(lambda *qkv: attention(*qkv, **options), tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "n_global"), [(None, 0), (50, 0), (50, 4)])
def test_error_is_at_most_twice_that_of_a_masked_kernel_in_the_same_type(dtype, causal, window, n_global):
    options = {"causal": causal, "window": window, "n_global": n_global}
    rounded = make(257, n_kv_heads=4, dtype=dtype)
    truth, true_gradients = run([tensor.double() for tensor in rounded], **options, backend="reference")
    got, gradients = run(rounded, **options)

    leaves = [tensor.requires_grad_() for tensor in rounded]
    mask = attention_mask(257, **options)
    plain = F.scaled_dot_product_attention(*(leaf.transpose(1, 2) for leaf in leaves), mask).transpose(1, 2)
    weight = torch.cos(torch.arange(plain.numel(), dtype=torch.float64).reshape(plain.shape))
    plain_gradients = torch.autograd.grad((plain * weight).sum(), leaves)
    assert got.dtype == dtype
    for name, true, mine, torchs in zip(
        ("y", "q", "k", "v"), (truth, *true_gradients), (got, *gradients), (plain, *plain_gradients), strict=True
    ):
        assert (mine - true).abs().max() <= 2 * (torchs - true).abs().max(), name


def test_non_contiguous_inputs():
    tensors = make(150)
    strided = [tensor.mT.contiguous().mT for tensor in tensors]
    assert not strided[0].is_contiguous()
    for options in ({"causal": True}, {"causal": True, "window": 20}, {"window": 20, "n_global": 2}):
        torch.testing.assert_close(run(strided, **options), run(tensors, **options), rtol=1e-12, atol=1e-12)


def test_mixed_types_are_computed_in_the_widest():
    q, k, v = make(90)
    for options in ({}, {"causal": True, "window": 20}):
        want = attention(q.float().double(), k, v, **options)
        got = attention(q.float(), k, v, **options)
        assert got.dtype == torch.float32
        assert torch.equal(got, want.float())
    state = attention_init_state(2, 2, 8, dtype=torch.float32)
    y_t, state = attention_step(q[:, 0], k[:, 0], v[:, 0], state=state)
    assert (y_t.dtype, state.k.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(y_t, v[:, 0].float().double().repeat_interleave(2, dim=1))


def test_no_rows():
    for options in ({}, {"window": 8, "causal": True}, {"window": 8, "n_global": 2}):
        assert attention(*make(200, batch=0), **options).shape == (0, 200, 4, 8)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("options", [{}, {"causal": True, "window": 40}, {"window": 40, "n_global": 3}])
def test_dropout_acts_on_the_weights_and_keeps_their_mean(backend, options):
    """With equal logits and values of one, a token that sees n others has mean 1 and variance p / ((1 − p) n)."""
    torch.manual_seed(0)
    q = torch.zeros(1, 150, 64, 4, dtype=torch.float64)
    y = attention(q, q, torch.ones_like(q), dropout_p=0.25, backend=backend, **options)[..., 0]
    n_seen = attention_mask(150, **options).sum(1)
    assert abs(y.mean().item() - 1) < 0.01
    measured, expected = y.var(dim=(0, 2)), 0.25 / 0.75 / n_seen
    assert (measured / expected).mean().sub(1).abs() < 0.1


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seq_len=st.integers(2, 220),
    window=st.one_of(st.none(), st.integers(1, 240)),
    n_global=st.integers(0, 30),
    data=st.data(),
)
def test_no_causal_token_reads_a_later_one(seq_len, window, n_global, data):
    cut = data.draw(st.integers(1, seq_len - 1))
    options = {"causal": True, "window": window, "n_global": 0 if window is None else n_global}
    tensors, others = make(seq_len), make(seq_len, seed=7)
    mixed = [torch.cat([one[:, :cut], other[:, cut:]], dim=1) for one, other in zip(tensors, others, strict=True)]
    want, got = attention(*tensors, **options)[:, :cut], attention(*mixed, **options)[:, :cut]
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    seq_len=st.integers(1, 50),
    window=st.one_of(st.none(), st.integers(1, 60)),
    n_global=st.integers(0, 12),
    n_kv_heads=st.sampled_from([1, 2, 4]),
)
def test_a_loop_of_steps_equals_the_sequence(seq_len, window, n_global, n_kv_heads):
    n_global = 0 if window is None else n_global
    q, k, v = make(seq_len, n_kv_heads=n_kv_heads)
    want = attention(q, k, v, causal=True, window=window, n_global=n_global, scale=0.5)
    state = attention_init_state(2, n_kv_heads, 8, window=window, n_global=n_global, dtype=torch.float64)
    for t in range(seq_len):
        before = state.k.clone(), state.v.clone(), state.n_seen
        y_t, following = attention_step(
            q[:, t], k[:, t], v[:, t], state=state, window=window, n_global=n_global, scale=0.5
        )
        torch.testing.assert_close(y_t, want[:, t], rtol=1e-12, atol=1e-12)
        assert torch.equal(state.k, before[0])
        assert torch.equal(state.v, before[1])
        assert state.n_seen == before[2]
        state = following
    assert state.k.shape[1] == (seq_len if window is None else window + n_global)


def test_gradients_flow_through_steps():
    q, k, v = (tensor.requires_grad_() for tensor in make(7))
    state, rows = attention_init_state(2, 2, 8, window=3, n_global=1, dtype=torch.float64), []
    for t in range(7):
        y_t, state = attention_step(q[:, t], k[:, t], v[:, t], state=state, window=3, n_global=1)
        rows.append(y_t)
    by_steps = torch.autograd.grad(torch.stack(rows, 1).sin().sum(), (q, k, v))
    y = attention(q, k, v, causal=True, window=3, n_global=1)
    torch.testing.assert_close(by_steps, torch.autograd.grad(y.sin().sum(), (q, k, v)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"q": torch.zeros(2, 9, 32)},
            ShapeError,
            r"`q` must have the shape \(batch, seq_len, n_heads, d_head\), however q.shape=\(2, 9, 32\)",
        ),
        ({"q": torch.zeros(2, 0, 4, 8)}, ShapeError, "`q` must have the shape"),
        (
            {"k": torch.zeros(2, 8, 2, 8)},
            ShapeError,
            r"`k` must have the shape \(batch=2, seq_len=9, n_kv_heads, d_head=8\)",
        ),
        (
            {"v": torch.zeros(2, 9, 4, 8)},
            ShapeError,
            r"`v` must have the shape \(batch=2, seq_len=9, n_kv_heads=2, d_head=8\)",
        ),
        (
            {"k": torch.zeros(2, 9, 3, 8), "v": torch.zeros(2, 9, 3, 8)},
            ShapeError,
            "`n_kv_heads` must divide `n_heads`, however n_heads=4, n_kv_heads=3. Use n_kv_heads=1, 2 or 4",
        ),
        ({"q": torch.zeros(2, 9, 4, 8, dtype=torch.int64)}, ShapeError, "`q` must have a floating-point type"),
        ({"window": 0}, ConfigError, "`window` must be an integer of at least 1, however window=0. Use 1 for the"),
        ({"window": 2.5}, ConfigError, "`window` must be an integer of at least 1, however window=2.5"),
        (
            {"n_global": -1, "window": 4},
            ConfigError,
            "`n_global` must be an integer of at least 0, however n_global=-1",
        ),
        ({"n_global": 1.5, "window": 4}, ConfigError, "`n_global` must be an integer of at least 0, however n_gl"),
        ({"n_global": 2}, ConfigError, "`n_global` must be 0 without a window"),
        ({"dropout_p": 1.0}, ConfigError, "`dropout_p` must be at least 0 and below 1, however dropout_p=1.0"),
        ({"backend": "flash"}, ConfigError, "`backend` must be"),
    ],
)
def test_errors_say_what_must_hold(change, error, words):
    with pytest.raises(error, match=words):
        attention(**(dict(zip("qkv", make(9), strict=True)) | change))


def test_step_errors():
    q, k, v = (tensor[:, 0] for tensor in make(1))
    state = attention_init_state(2, 2, 8, window=4, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"`state` must hold keys and values of the shape \(2, 5, 2, 8\) for window=5"):
        attention_step(q, k, v, state=state, window=5)
    with pytest.raises(ShapeError, match=r"`k_t` must have the shape \(batch=2, n_kv_heads, d_head=8\)"):
        attention_step(q, k[..., :4], v, state=state, window=4)
    with pytest.raises(ShapeError, match="`n_kv_heads` must divide"):
        attention_step(q[:, :3], k, v, state=state, window=4)
    with pytest.raises(ConfigError, match="`n_global` must be 0 without a window"):
        attention_init_state(2, 2, 8, n_global=1)

"""The three views of every mixer agree, with perturbed parameters, in float64 to 1e-9."""

import copy

import pytest
import torch

from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2, state_tensors
from mambattn.mixers._ssm import segment_sums

D_MODEL = 16

MIXERS = {
    "mamba": lambda: Mamba(D_MODEL),
    "mamba-wide-state": lambda: Mamba(D_MODEL, d_state=5, d_conv=2, expand=3, dt_rank=3, bias=True, conv_bias=False),
    "mamba-one-tap": lambda: Mamba(D_MODEL, d_state=4, d_conv=1, expand=1),
    "mamba-norms": lambda: Mamba(D_MODEL, d_state=6, norm_dt_bc=True, dt_min=0.01, dt_max=1.0),
    "mamba-reference": lambda: Mamba(D_MODEL, d_state=4, backend="reference"),
    "mamba-bidirectional": lambda: Mamba(D_MODEL, d_state=4, bidirectional=True, bias=True),
    "mamba-bidirectional-norms": lambda: Mamba(D_MODEL, d_state=4, bidirectional=True, norm_dt_bc=True),
    "mamba2": lambda: Mamba2(D_MODEL),
    "mamba2-groups": lambda: Mamba2(D_MODEL, d_state=6, d_head=4, n_groups=2, chunk_size=8, bias=True),
    "mamba2-group-a-head": lambda: Mamba2(D_MODEL, d_state=3, d_head=8, n_groups=4, d_conv=2, conv_bias=False),
    "mamba2-fast-decay": lambda: Mamba2(D_MODEL, d_state=4, d_head=16, dt_min=0.5, dt_max=2.0, chunk_size=16),
    "mamba2-one-tap": lambda: Mamba2(D_MODEL, d_state=4, d_conv=1, backend="reference"),
    "attention": lambda: Attention(D_MODEL),
    "attention-causal": lambda: Attention(D_MODEL, n_heads=4, causal=True, bias=False),
    "attention-grouped": lambda: Attention(D_MODEL, n_heads=8, n_kv_heads=2, causal=True),
    "attention-one-kv": lambda: Attention(D_MODEL, n_heads=4, n_kv_heads=1, positions="rotary"),
    "attention-rotary": lambda: Attention(D_MODEL, n_heads=4, causal=True, positions="rotary"),
    "local": lambda: Attention(D_MODEL, n_heads=2, window=4),
    "local-causal": lambda: Attention(D_MODEL, n_heads=4, n_kv_heads=2, window=5, causal=True, positions="rotary"),
    "local-self-only": lambda: Attention(D_MODEL, n_heads=2, window=1, causal=True),
    "dual": lambda: GlobalLocalAttention(D_MODEL, 4, 3),
    "dual-causal": lambda: GlobalLocalAttention(D_MODEL, 4, 3, causal=True, n_kv_heads=2, positions="rotary"),
    "sparse": lambda: GlobalLocalAttention(D_MODEL, 4, 3, form="sparse", n_global=2),
    "sparse-causal": lambda: GlobalLocalAttention(D_MODEL, 4, 3, form="sparse", n_global=2, causal=True),
    "sparse-causal-rotary": lambda: GlobalLocalAttention(
        D_MODEL, 2, 6, form="sparse", n_global=3, causal=True, positions="rotary"
    ),
    "mlp": lambda: MLP(D_MODEL, expand=3, bias=True),
}


def make(name):
    """A mixer in float64 with noise on every parameter, strong enough that its output counts."""
    torch.manual_seed(len(name))
    mixer = MIXERS[name]().double().eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in mixer.parameters():
            scale = 0.4 if parameter.ndim == 2 else 0.2
            parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return mixer


def tokens(seq_len, batch=2):
    generator = torch.Generator().manual_seed(seq_len)
    return torch.randn(batch, seq_len, D_MODEL, generator=generator, dtype=torch.float64)


def largest_difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("name", MIXERS)
def test_the_output_counts(name):
    x = tokens(40)
    assert make(name)(x).norm() >= 0.3 * x.norm()


@pytest.mark.parametrize("seq_len", [1, 2, 13, 70])
@pytest.mark.parametrize("name", MIXERS)
def test_attention_view_reconstructs_forward(name, seq_len):
    mixer, x = make(name), tokens(seq_len)
    view = mixer.attention_view(x)
    assert view.matrix.shape == (2, mixer.n_maps, seq_len, seq_len)
    assert view.values.shape[:3] == (2, seq_len, mixer.n_maps)
    assert view.matrix.dtype == torch.float64
    assert largest_difference(view.reconstruct(), mixer(x)) < 1e-9


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 2, 13, 70])
@pytest.mark.parametrize("name", [name for name in MIXERS if MIXERS[name]().causal])
def test_steps_give_forward_and_leave_their_state_alone(name, seq_len):
    mixer, x = make(name), tokens(seq_len)
    y, state = mixer(x), mixer.init_state(2)
    for t in range(seq_len):
        before = copy.deepcopy(state)
        y_t, next_state = mixer.step(x[:, t], state)
        assert largest_difference(y_t, y[:, t]) < 1e-9
        assert all(map(torch.equal, state_tensors(before), state_tensors(state)))
        state = next_state


@pytest.mark.parametrize("name", MIXERS)
def test_the_read_out_is_affine(name):
    """With the routing held, the output is affine in the mixed values."""
    mixer, x = make(name), tokens(9)
    view = mixer.attention_view(x)
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, *view.values.shape, generator=generator, dtype=torch.float64)
    combined = view.output(0.3 * a + 0.7 * b)
    assert largest_difference(combined, 0.3 * view.output(a) + 0.7 * view.output(b)) < 1e-10


@pytest.mark.parametrize("name", MIXERS)
def test_causality(name):
    """Changing a token changes what comes after, and what comes before only where the mixer is not causal."""
    mixer, x = make(name), tokens(20)
    changed = x.clone()
    changed[:, 11] += 1.0
    difference = (mixer(x) - mixer(changed)).abs().amax(dim=(0, 2))
    assert difference[11] > 1e-6
    assert (difference[:11].max() < 1e-12) == mixer.causal
    matrix = mixer.attention_view(x).matrix
    assert (matrix.triu(1).abs().max() == 0) == mixer.causal


@pytest.mark.parametrize("name", MIXERS)
def test_rows_do_not_see_each_other(name):
    mixer, x = make(name), tokens(9, batch=3)
    assert largest_difference(mixer(x)[1:2], mixer(x[1:2])) < 1e-12


@pytest.mark.parametrize("name", MIXERS)
def test_every_parameter_gets_a_gradient(name):
    mixer, x = make(name), tokens(13).requires_grad_()
    weight = tokens(13, batch=2).roll(1, dims=2)
    (mixer(x) * weight).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    for parameter_name, parameter in mixer.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ["mamba", "mamba-bidirectional", "mamba2-groups", "sparse", "dual-causal"])
def test_the_view_has_the_gradient_of_forward(name):
    """Explanations that multiply by gradients may differentiate the view; Mamba-2's norm scale counts there too."""
    mixer, x = make(name), tokens(11).requires_grad_()
    weight = tokens(11).roll(1, dims=2)
    (expected,) = torch.autograd.grad((mixer(x) * weight).sum(), x)
    (obtained,) = torch.autograd.grad((mixer.attention_view(x).reconstruct() * weight).sum(), x)
    assert largest_difference(obtained, expected) < 1e-9


def test_sums_over_short_segments_of_a_long_sequence_keep_their_digits():
    """A difference of two float32 running sums would be off by 1e-4 of the step size here."""
    dt = 0.1 * torch.rand(1, 2048, 1, generator=torch.Generator().manual_seed(0))
    sums = segment_sums(dt)[0, 0]
    assert sums.dtype == torch.float32
    torch.testing.assert_close(sums.diagonal(-1), dt[0, 1:, 0], rtol=1e-6, atol=0)
    assert sums.triu().count_nonzero() == 0


def test_long_decay_neither_overflows_nor_loses_digits():
    """Sums of |A| dt far beyond what exp can hold: the exponents must be differences."""
    torch.manual_seed(0)
    for mixer in (Mamba(8, d_state=4, dt_min=1.0, dt_max=50.0), Mamba2(8, d_state=4, dt_min=1.0, dt_max=50.0)):
        x = torch.randn(1, 300, 8)
        exact = copy.deepcopy(mixer).double()(x.double())
        view = mixer.attention_view(x)
        assert view.matrix.isfinite().all()
        assert (view.reconstruct() - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("name", MIXERS)
def test_float32_agrees_with_float64(name):
    mixer, x = make(name), tokens(70)
    single = copy.deepcopy(mixer).float()
    exact = mixer(x)
    for y in (single(x.float()), single.attention_view(x.float()).reconstruct()):
        assert y.dtype == torch.float32
        assert (y - exact).norm() < 1e-5 * exact.norm()

"""Each mixer against its equations, written out here once more as plain loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2, local_global_masks

D_MODEL = 12


def perturbed(mixer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixer = mixer.double().eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return mixer


def tokens(seq_len):
    return torch.randn(2, seq_len, D_MODEL, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def silu(x):
    return x / (1 + (-x).exp())


def softplus(x):
    return (1 + x.exp()).log()


def rms_norm(x, weight, eps):
    return x / ((x * x).mean() + eps).sqrt() * weight


def linear(layer, x):
    y = layer.weight @ x
    return y if layer.bias is None else y + layer.bias


def convolved(mixer, rows):
    """Channel by channel and tap by tap, then SiLU."""
    taps = mixer.conv_weight
    n_taps = taps.shape[1]
    out = []
    for t in range(len(rows)):
        y = torch.zeros_like(rows[0]) if mixer.conv_bias is None else mixer.conv_bias.clone()
        for k in range(n_taps):
            source = t - (n_taps - 1) + k
            if source >= 0:
                y = y + taps[:, k] * rows[source]
        out.append(silu(y))
    return out


def mamba_loop(mixer, x):
    """One sequence (seq_len, d_model) through a one-directional Mamba."""
    d_inner, d_state, rank = mixer.d_inner, mixer.d_state, mixer.dt_rank
    inner = [linear(mixer.in_proj, token) for token in x]
    u = convolved(mixer, [row[:d_inner] for row in inner])
    A = -mixer.A_log.exp()
    h = torch.zeros(d_inner, d_state, dtype=torch.float64)
    out = []
    for t, row in enumerate(inner):
        low = mixer.x_proj.weight @ u[t]
        dt, B, C = low[:rank], low[rank : rank + d_state], low[rank + d_state :]
        if isinstance(mixer.B_norm, nn.RMSNorm):
            dt = rms_norm(dt, mixer.dt_norm.weight, 1e-6)
            B, C = rms_norm(B, mixer.B_norm.weight, 1e-6), rms_norm(C, mixer.C_norm.weight, 1e-6)
        dt = softplus(mixer.dt_proj.weight @ dt + mixer.dt_bias)
        y = torch.zeros(d_inner, dtype=torch.float64)
        for n in range(d_state):
            h[:, n] = (dt * A[:, n]).exp() * h[:, n] + dt * B[n] * u[t]
            y = y + C[n] * h[:, n]
        y = y + mixer.D * u[t]
        out.append(linear(mixer.out_proj, y * silu(row[d_inner:])))
    return torch.stack(out)


def mamba2_loop(mixer, x):
    """One sequence through a Mamba-2, head by head."""
    d_inner, d_state, d_head, width = mixer.d_inner, mixer.d_state, mixer.d_head, mixer.n_groups * mixer.d_state
    inner = [linear(mixer.in_proj, token) for token in x]
    mixed = convolved(mixer, [row[d_inner : 2 * d_inner + 2 * width] for row in inner])
    h = torch.zeros(mixer.n_heads, d_head, d_state, dtype=torch.float64)
    out = []
    for t, row in enumerate(inner):
        z, dt = row[:d_inner], softplus(row[-mixer.n_heads :] + mixer.dt_bias)
        y = torch.zeros(d_inner, dtype=torch.float64)
        for head in range(mixer.n_heads):
            group = head * mixer.n_groups // mixer.n_heads
            values = mixed[t][head * d_head : (head + 1) * d_head]
            B = mixed[t][d_inner + group * d_state : d_inner + (group + 1) * d_state]
            C = mixed[t][d_inner + width + group * d_state : d_inner + width + (group + 1) * d_state]
            h[head] = (-dt[head] * mixer.A_log[head].exp()).exp() * h[head] + dt[head] * torch.outer(values, B)
            y[head * d_head : (head + 1) * d_head] = h[head] @ C + mixer.D[head] * values
        out.append(linear(mixer.out_proj, rms_norm(y * silu(z), mixer.norm.weight, 1e-5)))
    return torch.stack(out)


def attention_loop(attention, x, sees, rotary=False):
    """One sequence through an attention, query by query; `sees(i, j)` says what is in sight."""
    n_heads, n_kv_heads, d_head = attention.n_heads, attention.n_kv_heads, attention.d_head
    q_rows, kv_rows = n_heads * d_head, n_kv_heads * d_head
    projected = [linear(attention.in_proj, token) for token in x]

    def head_of(t, start, head):
        vector = projected[t][start + head * d_head : start + (head + 1) * d_head]
        if not rotary or start == q_rows + kv_rows:
            return vector
        half = d_head // 2
        frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        turned = torch.complex(vector[:half], vector[half:]) * torch.polar(
            torch.ones_like(frequencies), t * frequencies
        )
        return torch.cat([turned.real, turned.imag])

    out = []
    for i in range(len(x)):
        heads = []
        for head in range(n_heads):
            kv_head = head * n_kv_heads // n_heads
            sources = [j for j in range(len(x)) if sees(i, j)]
            query = head_of(i, 0, head)
            logits = torch.stack([query @ head_of(j, q_rows, kv_head) for j in sources]) / math.sqrt(d_head)
            weights = logits.exp() / logits.exp().sum()
            heads.append(sum(w * head_of(j, q_rows + kv_rows, kv_head) for w, j in zip(weights, sources, strict=True)))
        out.append(linear(attention.out_proj, torch.cat(heads)))
    return torch.stack(out)


def assert_close(obtained, expected):
    assert (obtained - expected).abs().max() < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 3, 17])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"d_state": 5, "d_conv": 2, "expand": 1, "dt_rank": 3, "bias": True, "conv_bias": False},
        {"d_state": 3, "norm_dt_bc": True, "dt_min": 0.1, "dt_max": 1.0},
    ],
)
def test_mamba(settings, seq_len):
    mixer, x = perturbed(Mamba(D_MODEL, **settings)), tokens(seq_len)
    assert_close(mixer(x), torch.stack([mamba_loop(mixer, row) for row in x]))


@torch.no_grad()
def test_bidirectional_mamba_is_the_mean_of_two():
    mixer, x = perturbed(Mamba(D_MODEL, d_state=4, bidirectional=True)), tokens(11)
    expected = [(mamba_loop(mixer, row) + mamba_loop(mixer.flipped, row.flip(0)).flip(0)) / 2 for row in x]
    assert_close(mixer(x), torch.stack(expected))
    shared = {p.data_ptr() for p in mixer.flipped.parameters()}
    own = [p for name, p in mixer.named_parameters() if not name.startswith("flipped.")]
    assert len(shared) == len(own)
    assert shared.isdisjoint(p.data_ptr() for p in own)


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 3, 17])
@pytest.mark.parametrize(
    "settings",
    [
        {"d_state": 8},
        {"d_state": 3, "d_head": 4, "n_groups": 2, "chunk_size": 5, "bias": True},
        {"d_state": 4, "d_head": 6, "expand": 1, "d_conv": 2, "conv_bias": False, "A_init_range": (0.1, 0.2)},
    ],
)
def test_mamba2(settings, seq_len):
    mixer, x = perturbed(Mamba2(D_MODEL, **settings)), tokens(seq_len)
    assert_close(mixer(x), torch.stack([mamba2_loop(mixer, row) for row in x]))


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 1, 4, 50])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n_kv_heads", "positions"), [(6, None), (2, "rotary")])
def test_attention(window, causal, n_kv_heads, positions):
    mixer = perturbed(
        Attention(D_MODEL, n_heads=6, n_kv_heads=n_kv_heads, positions=positions, causal=causal, window=window)
    )
    x = tokens(15)

    def sees(i, j):
        return (not causal or j <= i) and (window is None or abs(i - j) < window)

    assert_close(mixer(x), torch.stack([attention_loop(mixer, row, sees, positions == "rotary") for row in x]))


@torch.no_grad()
def test_attention_is_that_of_torch():
    mixer, x = perturbed(Attention(D_MODEL, n_heads=4)), tokens(9)
    peer = nn.MultiheadAttention(D_MODEL, 4, batch_first=True).double()
    peer.in_proj_weight.copy_(mixer.in_proj.weight)
    peer.in_proj_bias.copy_(mixer.in_proj.bias)
    peer.out_proj.load_state_dict(mixer.out_proj.state_dict())
    expected, weights = peer(x, x, x, average_attn_weights=False)
    assert_close(mixer(x), expected)
    assert_close(mixer.attention_view(x).matrix, weights)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_dual_is_the_sum_of_two_attentions(causal):
    mixer, x = perturbed(GlobalLocalAttention(D_MODEL, 3, 4, causal=causal)), tokens(15)
    local, everywhere = local_global_masks(15, window=4, causal=causal)
    expected = [
        attention_loop(mixer.global_attention, row, lambda i, j: everywhere[i, j])
        + attention_loop(mixer.local_attention, row, lambda i, j: local[i, j])
        for row in x
    ]
    assert_close(mixer(x), torch.stack(expected))


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "n_global"), [(1, 1), (4, 2), (3, 20)])
def test_sparse_sees_the_union_of_two_contexts(causal, window, n_global):
    mixer = perturbed(GlobalLocalAttention(D_MODEL, 3, window, form="sparse", n_global=n_global, causal=causal))
    local, everywhere = local_global_masks(15, window=window, n_global=n_global, causal=causal, form="sparse")
    x, seen = tokens(15), local | everywhere
    expected = [attention_loop(mixer.local_attention, row, lambda i, j: seen[i, j]) for row in x]
    assert_close(mixer(x), torch.stack(expected))


@pytest.mark.parametrize("causal", [False, True])
def test_masks_are_what_the_words_say(causal):
    n, window, n_global = 9, 3, 2
    past = [[not causal or j <= i for j in range(n)] for i in range(n)]
    band = [[past[i][j] and abs(i - j) < window for j in range(n)] for i in range(n)]
    leading = [[past[i][j] and (i < n_global or j < n_global) for j in range(n)] for i in range(n)]
    local, everywhere = local_global_masks(n, window=window, causal=causal)
    assert local.dtype == everywhere.dtype == torch.bool
    assert local.tolist() == band
    assert everywhere.tolist() == past
    local, everywhere = local_global_masks(n, window=window, n_global=n_global, causal=causal, form="sparse")
    assert local.tolist() == band
    assert everywhere.tolist() == leading
    with pytest.raises(ConfigError, match="`window` must be an integer of at least 1, however window=0"):
        local_global_masks(n, window=0)
    with pytest.raises(ConfigError, match="`n_global` acts only with form='sparse'"):
        local_global_masks(n, window=window, n_global=1)


@torch.no_grad()
def test_mlp_is_swiglu():
    mixer, x = perturbed(MLP(D_MODEL, expand=3, bias=True)), tokens(4)
    gate, up = F.linear(x, mixer.mlp.in_proj.weight, mixer.mlp.in_proj.bias).split(3 * D_MODEL, dim=-1)
    assert_close(mixer(x), F.linear(silu(gate) * up, mixer.mlp.out_proj.weight, mixer.mlp.out_proj.bias))


@torch.no_grad()
def test_hidden_attention_of_one_channel_by_hand():
    """d_state 1, three tokens: every entry of α + D·I from its formula."""
    mixer = perturbed(Mamba(1, d_state=1, expand=1, d_conv=1))
    x = torch.tensor([[[0.5], [-1.0], [2.0]]], dtype=torch.float64)
    u = silu(x[..., 0] * mixer.in_proj.weight[0, 0] * mixer.conv_weight[0, 0] + mixer.conv_bias[0])[0]
    raw, B, C = (u[:, None] * mixer.x_proj.weight[:, 0]).unbind(1)
    dt = softplus(raw * mixer.dt_proj.weight[0, 0] + mixer.dt_bias[0])
    a = -mixer.A_log[0, 0].exp()
    expected = torch.tensor(
        [
            [C[0] * dt[0] * B[0] + mixer.D[0], 0, 0],
            [C[1] * (a * dt[1]).exp() * dt[0] * B[0], C[1] * dt[1] * B[1] + mixer.D[0], 0],
            [
                C[2] * (a * (dt[1] + dt[2])).exp() * dt[0] * B[0],
                C[2] * (a * dt[2]).exp() * dt[1] * B[1],
                C[2] * dt[2] * B[2] + mixer.D[0],
            ],
        ],
        dtype=torch.float64,
    )
    view = mixer.attention_view(x)
    assert_close(view.matrix[0, 0], expected)
    assert_close(view.values[0, :, 0, 0], u)

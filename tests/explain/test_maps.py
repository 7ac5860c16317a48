"""The maps and contributions equal what the mixers do, by their attention views and by running them."""

import time

import pytest
import torch
from stacks import make_stack, off, perturbed

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain import attention_maps, contributions
from mambattn.explain.own import routes_of
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.trace import trace
from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2

LIMIT = 1e-5
MIXERS = {
    "mamba": lambda: Mamba(12, d_state=5),
    "mamba, all biases and norms": lambda: Mamba(12, d_state=3, bias=True, norm_dt_bc=True),
    "mamba without conv bias": lambda: Mamba(12, d_conv=1, conv_bias=False),
    "bidirectional": lambda: Mamba(12, d_state=4, bidirectional=True, bias=True),
    "mamba-2": lambda: Mamba2(12, d_state=5, d_head=6, n_groups=2, bias=True),
    "attention": lambda: Attention(12, n_heads=4, n_kv_heads=2),
    "causal rotary": lambda: Attention(12, n_heads=2, positions="rotary", causal=True, bias=False),
    "window": lambda: Attention(12, n_heads=2, window=3, causal=True),
    "dual": lambda: GlobalLocalAttention(12, n_heads=4, window=3),
    "sparse": lambda: GlobalLocalAttention(12, n_heads=4, window=3, form="sparse", n_global=1, causal=True),
}


@pytest.fixture(params=MIXERS)
def mixer(request):
    torch.manual_seed(0)
    return perturbed(MIXERS[request.param]())


def tokens(seq_len, d_model=12, batch=2):
    return torch.randn(batch, seq_len, d_model, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 2, 13])
def test_routes_and_contributions_add_up_to_the_output(mixer, seq_len):
    x = tokens(seq_len)
    want, routes = mixer(x), routes_of(mixer, x)
    assert off(sum(route.output(x) for route in routes), want) <= LIMIT
    assert off(sum(route.halved(x) for route in routes), want) <= LIMIT
    parts = [torch.cat([rows for _, rows in route.contributions(x)], dim=1) for route in routes]
    assert off(sum(parts).sum(2) + sum(route.offset(x) for route in routes), want) <= LIMIT


@torch.no_grad()
def test_a_contribution_is_what_its_token_alone_does(mixer):
    """Rows come from closed forms, `linear` runs convolution and scan."""
    x = tokens(9)
    for route in routes_of(mixer, x):
        whole = torch.cat([rows for _, rows in route.contributions(x)], dim=1)
        for source in (0, 4, 8):
            alone = torch.zeros_like(x)
            alone[:, source] = x[:, source]
            assert off(whole[:, :, source], route.linear(alone)) <= LIMIT


@torch.no_grad()
def test_scan_maps_are_those_of_the_attention_view(mixer):
    x = tokens(11)
    view = mixer.attention_view(x)
    maps = torch.cat([route.scan_rows(torch.arange(11)).permute(0, 3, 1, 2) for route in routes_of(mixer, x)], dim=1)
    skip = [mixer.D] if isinstance(mixer, Mamba | Mamba2) else []
    if isinstance(mixer, Mamba) and mixer.flipped is not None:
        skip.append(mixer.flipped.D)
    with_skip = maps + torch.diag_embed(torch.cat(skip)[:, None].expand(-1, 11)) if skip else maps
    assert off(with_skip, view.matrix) <= LIMIT
    if mixer.causal:
        assert not maps.triu(1).any()


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 3, 16, 37])
@pytest.mark.parametrize("is_scalar", [False, True])
def test_weighted_sums_equal_those_of_the_single_maps(seq_len, is_scalar):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    # Decay so strong that exp of a positive sum would overflow.
    A = -(3 * draw(6) if is_scalar else 3 * draw(6, 4)).exp()
    scan = Recurrence(draw(2, seq_len, 6).exp(), A, draw(2, seq_len, 3, 4), draw(2, seq_len, 3, 4), None)
    rows, columns = draw(2, seq_len, 6, 2), draw(2, 3, seq_len, 6, 2)
    alpha = scan.rows(torch.arange(seq_len))
    got = scan.weighted(rows, columns)
    assert off(got, torch.einsum("bijm,bimp,btjmp->btij", alpha, rows, columns)) <= LIMIT
    assert not got.triu(1).any()
    values = draw(2, seq_len, 6, 2)
    assert off(scan.apply(values), torch.einsum("bijm,bjmp->bimp", alpha, values)) <= LIMIT
    weights = draw(2, seq_len)
    assert off(scan.sent_back(weights), torch.einsum("bi,bijm->bj", weights, alpha) / 6) <= LIMIT


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("what", ["scan", "block"])
def test_means_are_the_means_of_all_channels(what, norm_position):
    stack = make_stack("MSALG-M", norm_position=norm_position, settings={"M": {"bidirectional": True}})
    x = tokens(13, 16)
    means = attention_maps(stack, x, what=what)
    every = attention_maps(stack, x, what=what, channels="all")
    assert [one.layer for one in means] == [0, 1, 2, 3, 4, 6]
    for mean, single in zip(means, every, strict=True):
        branches = len(mean.labels)
        assert off(mean.values, single.values.unflatten(1, (branches, -1)).mean(2)) <= LIMIT
        some = attention_maps(stack, x, what=what, channels=[1], layers=[mean.layer])[0]
        assert torch.equal(some.values[:, 0], single.values[:, 1])


@torch.no_grad()
def test_a_block_map_is_the_mixer_between_its_projections():
    mixer = perturbed(Mamba(12, d_state=4, conv_bias=False))
    x = tokens(9)
    (route,) = routes_of(mixer, x)
    rows = route.operator_rows(torch.arange(9))
    mixed = torch.einsum("bijc,bjc->bic", rows, mixer.in_proj(x)[..., : mixer.d_inner])
    assert off(mixer.out_proj(mixed), mixer(x)) <= LIMIT


@torch.no_grad()
def test_a_bidirectional_mamba_is_the_mean_of_both_ways():
    mixer = perturbed(Mamba(12, d_state=4, bidirectional=True))
    x = tokens(9)
    ahead, back = routes_of(mixer, x)
    assert off(2 * back.output(x), mixer.flipped(x.flip(1)).flip(1)) <= LIMIT
    assert off(ahead.output(x) + back.output(x), mixer(x)) <= LIMIT
    assert not ahead.mean_scan().triu(1).any()
    assert not back.mean_scan().tril(-1).any()


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_a_traced_stack_gives_its_output_and_its_layers_add_up(norm, norm_position):
    stack = make_stack("MSALG-", norm=norm, norm_position=norm_position)
    x = tokens(11, 16)
    traced = trace(stack, x)
    with torch.no_grad():
        assert off(traced.output(x), stack(x)) <= LIMIT
    for layer in traced.layers[:-1]:
        parts = contributions(stack, x, layer.layer)
        joined = layer.x + parts.values.sum(2) + parts.bias
        assert off(joined if layer.leave is None else layer.leave(joined), layer.y) <= LIMIT


def test_dropout_does_not_reach_a_trace():
    stack = make_stack("AM", settings={"A": {"dropout": 0.5}}, dropout=0.5)
    x = tokens(7, 16)
    want = trace(stack, x).layers[-1].y
    assert torch.equal(trace(stack.train(), x).layers[-1].y, want)


def test_what_is_not_there_is_refused():
    stack, x = make_stack("M-"), tokens(5, 16)
    with pytest.raises(ConfigError, match=r"there is no 1.*They are 0 \(Mamba\)"):
        attention_maps(stack, x, layers=[1])
    with pytest.raises(ConfigError, match="from 0 to 31 in layer 0"):
        attention_maps(stack, x, channels=[32])
    with pytest.raises(ConfigError, match="`what`"):
        attention_maps(stack, x, what="values")
    with pytest.raises(ConfigError, match="`channels`"):
        attention_maps(stack, x, channels="some")
    with pytest.raises(ShapeError):
        attention_maps(stack, tokens(5, 12))
    with pytest.raises(ConfigError, match="Linear"):
        attention_maps(torch.nn.Linear(2, 2), x)
    assert not trace(perturbed(make_stack("-")), x).layers[0].mixes
    assert routes_of(MLP(16), x)[0].mixing is None


@pytest.mark.slow
def test_the_mean_map_is_fifty_times_faster_than_single_maps():
    """At d_inner 1536, d_state 16 and 512 tokens, the single maps timed on 16 channels and scaled."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 512, 1536), (1536, 16), (1, 512, 1, 16), (1, 512, 1, 16)]
    dt, A, B, C = (torch.randn(size, generator=generator) for size in sizes)
    dt = torch.nn.functional.softplus(dt - 2)
    A = -A.exp()
    ones = torch.ones(1, 512, 1536, 1)

    def timed(run):
        start = time.process_time()
        run()
        return time.process_time() - start

    def single():
        total = dt[0, :, :16].double().cumsum(0)
        span = (total[:, None] - total[None]).clamp(min=0).float()
        terms = (C[0, :, None, 0] * B[0, None, :, 0])[:, :, None] * torch.exp(A[:16] * span[..., None])
        return (terms * dt[0, None, :, :16, None]).sum(3)

    scan = Recurrence(dt, A, B, C, None)
    mean = min(timed(lambda: scan.weighted(ones / 1536, ones[:, None])) for _ in range(3))
    materialised = min(timed(single) for _ in range(3)) * 96
    assert materialised >= 50 * mean, (materialised, mean)

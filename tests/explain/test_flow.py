"""Rollouts equal products of matrices spelled out from the contributions; chosen positions equal rows of the whole."""

import time

import pytest
import torch
from stacks import make_stack, off

from mambattn._errors import ConfigError
from mambattn.explain import attention_maps, contributions, receptive_field, rollout
from mambattn.explain.trace import trace
from mambattn.stack import Stack

LIMIT = 1e-5
KINDS = ("norm", "alti", "paper")


def tokens(seq_len, d_model=16, batch=2):
    return torch.randn(batch, seq_len, d_model, generator=torch.Generator().manual_seed(1))


def matrix(stack, x, layer, kind):
    """Spell R out for one traced layer."""
    if kind == "paper":
        every = attention_maps(stack, x, channels="all", layers=[layer.layer])[0].values
        branches = len([route for route in layer.routes if route.mixing is not None])
        return every.unflatten(1, (branches, -1)).mean((1, 2)) + torch.eye(x.shape[1])
    vectors = contributions(stack, x, layer.layer).values
    vectors = vectors + torch.eye(x.shape[1])[None, :, :, None] * layer.x[:, None]
    if layer.leave is not None:
        vectors = torch.stack([layer.leave.linear(part) for part in vectors.unbind(2)], dim=2)
    if kind == "norm":
        size = vectors.square().sum(-1).sqrt()
    else:
        without = (layer.y[:, :, None] - vectors).abs().sum(-1)
        size = torch.relu(layer.y.abs().sum(-1, keepdim=True) - without)
    share = size / size.sum(-1, keepdim=True)
    return torch.where(share.isnan(), torch.eye(x.shape[1]), share)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("schedule", ["MA", "S-LG", "MM"])
def test_a_rollout_is_the_product_of_its_layers(kind, norm_position, schedule):
    settings = {"M": {"bidirectional": True}} if schedule == "MM" else {}
    stack = make_stack(schedule, norm_position=norm_position, settings=settings)
    x = tokens(9)
    flow = rollout(stack, x, kind)
    want = torch.eye(9)
    layers = [layer for layer in trace(stack, x).layers if layer.mixes]
    assert flow.layers == tuple(layer.layer for layer in layers)
    for layer, got in zip(layers, flow.values, strict=True):
        want = matrix(stack, x, layer, kind) @ want
        assert off(got, want) <= LIMIT
    if kind != "paper":
        torch.testing.assert_close(flow.total.sum(-1), torch.ones(2, 9))
    some = rollout(stack, x, kind, positions=[8, 3])
    assert some.positions == (8, 3)
    assert off(some.total, flow.total[:, [8, 3]]) <= LIMIT


def test_causal_flow_never_comes_from_later_tokens():
    for kind in KINDS:
        assert not rollout(make_stack("MSALG"), tokens(9), kind).values.triu(1).any()


def test_the_flow_of_a_stack_without_mixing_weights_stays():
    """With its read-out at zero a layer adds nothing: every token keeps to itself."""
    stack = make_stack("MA")
    with torch.no_grad():
        for block in stack.layers:
            block.mixer.out_proj.weight.zero_()
    for kind in ("norm", "alti"):
        torch.testing.assert_close(rollout(stack, tokens(7), kind).total, torch.eye(7).expand(2, -1, -1))


def test_receptive_fields_are_mean_distances():
    stack = make_stack("MSALG", settings={"M": {"bidirectional": True}})
    x = tokens(9)
    distance = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    for reach, maps in zip(receptive_field(stack, x), attention_maps(stack, x, channels="all"), strict=True):
        weights = maps.values.abs()
        assert reach.labels == maps.labels
        assert off(reach.distance, (weights * distance).sum((2, 3)) / weights.sum((2, 3))) <= LIMIT
    window = receptive_field(make_stack("L"), x)[0]
    assert (window.distance <= 2).all()


def test_a_baseline_carries_nothing():
    """Where the input is the baseline but for one token, of a causal stack all that differs comes from that token."""
    stack = make_stack("MA-S", settings={"A": {"positions": None}})
    baseline = tokens(9, batch=1)
    x = baseline.clone()
    x[:, 3] += 1
    total = rollout(stack, x, baseline=baseline).total[0]
    torch.testing.assert_close(total[3:], torch.eye(9)[3].expand(6, -1))


def test_results_are_plain():
    flow = rollout(make_stack("M"), tokens(3, batch=1))
    assert flow.to_dict()["values"][0][0][0] == [1.0, 0.0, 0.0]
    assert receptive_field(make_stack("M"), tokens(3))[0].to_dict()["kind"] == "Mamba"


def test_what_is_not_there_is_refused():
    stack, x = make_stack("M"), tokens(5)
    with pytest.raises(ConfigError, match="from 0 to 4, the tokens there are, however it has 5"):
        rollout(stack, x, positions=[5])
    with pytest.raises(ConfigError, match="`kind`"):
        rollout(stack, x, "raw")
    with pytest.raises(ConfigError, match="kind='paper'"):
        rollout(stack, x, "paper", baseline=x)


@pytest.mark.slow
def test_one_position_of_a_long_sequence_takes_less_than_a_second_a_layer():
    torch.manual_seed(0)
    stack, x = Stack(768, "MM", settings={"M": {"d_state": 16}}), tokens(2048, 768, batch=1)
    start = time.process_time()
    rollout(stack, x, "paper", positions=[2047])
    assert time.process_time() - start <= 2

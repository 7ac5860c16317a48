"""What is cut is exactly what the edge carries, by the mixers' own attention views; the rest runs free."""

import json

import pytest
import torch
from stacks import make_stack, off
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.explain.intervention import knockout
from mambattn.explain.own import routes_of
from mambattn.ops import causal_conv1d

LIMIT = 1e-5


def tokens(seq_len=9, d_model=16, batch=3):
    return torch.randn(batch, seq_len, d_model, generator=torch.Generator().manual_seed(1))


def cut_attention(mixer, x, pairs):
    """Set weights to zero, without bringing the others back to a sum of 1."""
    view = mixer.attention_view(x)
    matrix = view.matrix.clone()
    for source, target in pairs:
        matrix[:, :, target, source] = 0
    return view.output(torch.einsum("bmij,bjmv->bimv", matrix, view.values))


def cut_mamba(mixer, x, pairs):
    """Take the value of a source out before the convolution, activations, α, D and gate held."""
    view = mixer.attention_view(x)
    mixed = torch.einsum("bmij,bjmv->bimv", view.matrix, view.values)
    v = mixer.in_proj(x).chunk(2, -1)[0]
    held = torch.sigmoid(causal_conv1d(v, mixer.conv_weight, mixer.conv_bias))
    for source, target in pairs:
        without = v.clone()
        without[:, source] = 0
        u = causal_conv1d(without, mixer.conv_weight, mixer.conv_bias) * held
        mixed[:, target, :, 0] -= torch.einsum("bmj,bjm->bm", view.matrix[:, :, target], view.values[..., 0] - u)
    return view.output(mixed)


@torch.no_grad()
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("letter", ["A", "L", "M"])
def test_a_cut_edge_carries_nothing(letter, norm_position):
    settings = {"M": {"bias": True}} if letter == "M" else {}
    stack, x = make_stack(letter, norm_position=norm_position, settings=settings), tokens()
    pairs = [(2, 4), (4, 4), (6, 8), (0, 8)]
    block = stack.layers[0]
    entered = block.norm(x) if norm_position == "pre" else x
    mixed = (cut_mamba if letter == "M" else cut_attention)(block.mixer, entered, pairs)
    want = x + mixed if norm_position == "pre" else block.norm(x + mixed)
    found = knockout(stack, x, {0: pairs}, target=(8, 3))
    assert off(found.after, want) <= LIMIT
    assert torch.equal(found.before, stack(x))
    assert not found.change[:, [0, 1, 2, 3, 5, 6, 7]].any()
    torch.testing.assert_close(found.score_change, (want - stack(x))[:, 8, 3], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_later_layers_see_the_cut_and_cuts_add_up():
    """The second cut layer routes by what the first cut left it with, and the last layer runs as ever."""
    stack, x = make_stack("MA-L"), tokens()
    found = knockout(stack, x, [(0, 1, 3), (1, 3, 8), (1, 2, 8)])
    first, second, *rest = stack.layers
    y = x + cut_mamba(first.mixer, first.norm(x), [(1, 3)])
    y = y + cut_attention(second.mixer, second.norm(y), [(3, 8), (2, 8)])
    for block in rest:
        y = block(y)
    assert off(found.after, y) <= LIMIT
    assert found.edges == ((0, 1, 3), (1, 3, 8), (1, 2, 8))
    assert found.score_change is None


@torch.no_grad()
@pytest.mark.parametrize("schedule", ["M", "S", "A", "G"])
def test_with_every_edge_cut_only_later_biases_are_left(schedule):
    values = {"bidirectional": True, "conv_bias": False} if schedule == "M" else {}
    values |= {"conv_bias": False} if schedule == "S" else {}
    stack, x = make_stack(schedule, settings={schedule: values}), tokens()
    found = knockout(stack, x, {0: [(source, 5) for source in range(9)]})
    mixer = stack.layers[0].mixer
    left = [route.out_bias for route in routes_of(mixer, stack.layers[0].norm(x)) if route.out_bias is not None]
    want = x[:, 5] + sum(left, start=torch.zeros(16))
    assert off(found.after[:, 5], want) <= LIMIT


@torch.no_grad()
def test_mamba_2_loses_what_the_view_says():
    """Without a convolution that mixes (its last tap alone) the edge is α times the value, for the held gated norm."""
    stack, x = make_stack("S", dtype=torch.float64), tokens().double()
    mixer = stack.layers[0].mixer
    mixer.conv_weight[:, :-1] = 0
    mixer.conv_bias.zero_()
    entered = stack.layers[0].norm(x)
    view = mixer.attention_view(entered)
    carried = view.matrix[:, :, 8, 5, None] * view.values[:, 5]
    z = mixer._split_in(entered)[0]
    gated = torch.einsum("bmij,bjmv->bimv", view.matrix, view.values).flatten(2) * F.silu(z)
    scale = mixer.norm.weight / (gated[:, 8].square().mean(-1, keepdim=True) + 1e-5).sqrt()
    lost = mixer.out_proj(carried.flatten(1) * F.silu(z[:, 8]) * scale)
    found = knockout(stack, x, {0: [(5, 8)]})
    assert off(found.change[:, 8], -lost) <= LIMIT


def test_results_are_plain_and_nothing_stays():
    stack, x = make_stack("MA").train(), tokens()
    found = knockout(stack, x, {1: [(0, 8), (0, 8)]}, target=(8, 3))
    assert json.loads(json.dumps(found.to_dict()))["edges"] == [[1, 0, 8]]
    assert found.to_dict()["score_change"] == found.score_change.tolist()
    assert all(module.training and not module._forward_hooks for module in stack.modules())
    assert knockout(stack, x, {}).change.abs().max() == 0


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ({2: [(0, 1)]}, r"there is no 2. They are 0 \(Mamba\)"),
        ({1: [(0, 1)]}, "no 1. They are 0"),
        ({0: [(9, 1)]}, "positions from 0 to 8, the tokens there are, however it has 9"),
        ([(0, 1, -1)], "however it has -1"),
        ([(0, 1)], "triples"),
    ],
)
def test_edges_that_are_not_there_are_refused(edges, message):
    with pytest.raises(ConfigError, match=message):
        knockout(make_stack("M-"), tokens(), edges)


def test_a_model_that_fails_is_left_as_it_was():
    stack = make_stack("M").train()
    with pytest.raises(ConfigError, match="`target`"):
        knockout(stack, tokens(), {0: [(0, 1)]}, target=99)
    with pytest.raises(ZeroDivisionError):
        knockout(stack, tokens(), {0: [(0, 1)]}, target=lambda output: 1 / 0)
    assert all(module.training and not module._forward_hooks for module in stack.modules())
    with pytest.raises(ConfigError, match="Linear"):
        knockout(torch.nn.Linear(16, 16), tokens(), {})

"""Relevances and the absorbed share add up to the output, each found by itself; single layers equal formulas."""

from dataclasses import replace

import pytest
import torch
from known import PerColumn
from stacks import make_stack, off, perturbed

from mambattn._errors import ConfigError, ShapeError
from mambattn.configs import MambAttentionConfig
from mambattn.explain.maps import contributions
from mambattn.explain.relevance import lrp
from mambattn.explain.trace import run_model, trace
from mambattn.tabular import TabularNetwork
from mambattn.tabular.backbones import TokenBackbone
from mambattn.tabular.heads import Head

LIMIT = 1e-4
WITH_BIASES = {"M": {"bias": True, "norm_dt_bc": True}, "S": {"bias": True}, "-": {"bias": True}}
WITHOUT = {"M": {"conv_bias": False}, "S": {"conv_bias": False}} | {letter: {"bias": False} for letter in "ALG"}


def tokens(seq_len=9, d_model=16, batch=3, dtype=torch.float32):
    return torch.randn(batch, seq_len, d_model, generator=torch.Generator().manual_seed(1)).to(dtype)


def settings(schedule, values):
    return {letter: values[letter] for letter in schedule if letter in values}


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("schedule", ["M", "S", "A", "L", "G", "-", "MSALG-"])
def test_relevances_and_absorbed_share_add_up_to_the_output(schedule, norm_position, norm):
    stack = make_stack(schedule, norm=norm, norm_position=norm_position, settings=settings(schedule, WITH_BIASES))
    x = tokens()
    found = lrp(stack, x, (7, 3))
    output = stack(x)[:, 7, 3]
    assert (found.completeness_error <= LIMIT).all()
    assert off(found.values.sum(1) + found.absorbed * output, output) <= LIMIT
    assert found.absorbed.abs().min() > 0


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_both_directions_of_mamba_count(norm_position):
    stack = make_stack("MM", settings={"M": {"bidirectional": True, "bias": True}}, norm_position=norm_position)
    found = lrp(stack, tokens(), (2, 3))
    assert (found.completeness_error <= LIMIT).all()
    assert (found.values[:, 3:].abs() > 0).all()


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_without_biases_nothing_is_absorbed(norm_position):
    stack = make_stack("MSALG-", norm="RMSNorm", norm_position=norm_position, settings=WITHOUT)
    found = lrp(stack, tokens(), (7, 3))
    assert not found.absorbed.any()
    assert (found.completeness_error <= LIMIT).all()


def leafed(layer, leaves):
    """Give every bias of a traced layer a copy that collects a gradient."""

    def leaf(bias):
        if bias is None:
            return None
        leaves.append(bias.detach().clone().requires_grad_())
        return leaves[-1]

    def norm(held):
        return None if held is None else replace(held, bias=leaf(held.bias))

    def route(one):
        gate = None if one.gate is None else replace(one.gate, bias=leaf(one.gate.bias))
        names = ("value_bias", "conv_bias", "out_bias")
        return replace(one, gate=gate, **{name: leaf(getattr(one, name)) for name in names})

    routes = tuple(route(one) for one in layer.routes)
    return replace(layer, enter=norm(layer.enter), leave=norm(layer.leave), routes=routes)


@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_what_is_absorbed_is_the_gradient_times_each_bias(norm_position):
    values = WITH_BIASES | {"M": WITH_BIASES["M"] | {"bidirectional": True}}
    stack = make_stack("MSALG-", norm_position=norm_position, settings=values, dtype=torch.float64)
    x = tokens(batch=1, dtype=torch.float64)
    traced, leaves = trace(stack, x), []
    held = replace(traced, layers=tuple(leafed(layer, leaves) for layer in traced.layers))
    output = held.output(x)[0, 7, 3]
    slopes = torch.autograd.grad(output, leaves)
    share = sum((slope * leaf).sum() for slope, leaf in zip(slopes, leaves, strict=True)) / output
    assert off(lrp(stack, x, (7, 3)).absorbed[0], share.detach()) <= 1e-9


def test_relevance_through_one_attention_layer_is_what_each_token_contributes():
    stack, x = make_stack("A"), tokens()
    parts = contributions(stack, x, 0).values[:, 7, :, 3]
    parts[:, 7] += x[:, 7, 3]
    assert off(lrp(stack, x, (7, 3)).values, parts) <= LIMIT


def test_half_of_a_state_space_goes_to_the_values_and_half_to_the_gate():
    stack, x = make_stack("M", norm="RMSNorm", settings={"M": {"conv_bias": False}}), tokens()
    want = contributions(stack, x, 0).values[:, 7, :, 3] / 2
    mixed = stack(x)[:, 7, 3].detach() - x[:, 7, 3]
    want[:, 7] += mixed / 2 + x[:, 7, 3]
    assert off(lrp(stack, x, (7, 3)).values, want) <= LIMIT


def make_network(**config):
    torch.manual_seed(0)
    made = MambAttentionConfig(d_model=16, d_state=5, n_heads=4, schedule="MA", head_layer_sizes=(8,), **config)
    return perturbed(TabularNetwork(PerColumn(7, 16), TokenBackbone(made, 7), Head(16, (8,), 3)))


@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("pooling", ["avg", "max", "attention", "cls"])
def test_a_table_absorbs_by_class_token_norm_and_head_too(pooling, norm_position):
    model = make_network(
        pooling_method=pooling, use_cls=pooling == "cls", shuffle_embeddings=True, norm_position=norm_position
    )
    x = tokens(7)
    found = lrp(model, x, torch.tensor([0, 2, 1]))
    output = run_model(model, x)[torch.arange(3), torch.tensor([0, 2, 1])]
    assert (found.completeness_error <= LIMIT).all()
    assert off(found.values.sum(1) + found.absorbed * output, output) <= LIMIT


def test_what_equals_the_baseline_has_no_relevance():
    model, x = make_network(), tokens(7)
    baseline = x.mean(0)
    x[:, 4] = baseline[4]
    found, plain = lrp(model, x, 1, baseline), lrp(model, x, 1)
    assert not found.values[:, 4].any()
    assert (plain.values[:, 4] != 0).all()
    assert (found.completeness_error <= LIMIT).all()
    assert (
        off(
            found.values.sum(1) - plain.values.sum(1),
            (plain.absorbed - found.absorbed) * model.head(model.backbone(x))[:, 1],
        )
        <= LIMIT
    )


def test_nothing_is_left_on_the_model():
    stack, x = make_stack("MA-").train(), tokens()
    weights = {name: value.clone() for name, value in stack.state_dict().items()}
    lrp(stack, x, (7, 3))
    assert stack.training
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in stack.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in stack.state_dict().items())


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3, ConfigError, r"a pair \(position, index\) or a function .* \(3, 9, 16\).*Use \(8, 3\)"),
        ((9, 0), ConfigError, "a position from 0 to 8, however it is 9"),
        ((8, 16), ConfigError, "an index from 0 to 15, however it is 16"),
        ((8, -1), ConfigError, "an index from 0 to 15, however it is -1"),
        ((8, torch.tensor([0, 1])), ConfigError, r"an integer a row, shape \(3,\)"),
        ((8, torch.tensor([0, 1, 16])), ConfigError, "from 0 to 15, however it is 16"),
        ((1, 2, 3), ConfigError, "`target`"),
        (lambda output: output.sum(), ShapeError, r"one number a row, a Tensor of shape \(3,\), however it gave \(\)"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target, error, message):
    with pytest.raises(error, match=message):
        lrp(make_stack("M"), tokens(), target)


def test_other_input_is_refused():
    with pytest.raises(ShapeError, match="`baseline` must broadcast"):
        lrp(make_stack("M"), tokens(), (0, 0), baseline=torch.ones(3))
    with pytest.raises(ConfigError, match="Linear"):
        lrp(torch.nn.Linear(16, 16), tokens(), (0, 0))

"""Attributions equal loops that spell them out, and their errors are what they promise."""

import sys
from itertools import pairwise

import pytest
import torch
from stacks import make_stack, off
from torch.nn import functional as F

from mambattn._errors import BackendUnavailableError, ConfigError
from mambattn.explain.attribution import gradient_times_input, integrated_gradients, occlusion
from mambattn.explain.gradient_map import gradient_times_map
from mambattn.explain.maps import attention_maps
from mambattn.explain.relevance import lrp

METHODS = [lrp, gradient_times_input, integrated_gradients, occlusion, gradient_times_map]
SCHEDULES = ["M", "S", "A", "MSALG-"]


def tokens(seq_len=9, d_model=16, batch=3):
    return torch.randn(batch, seq_len, d_model, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_gradient_times_input_does_not_add_up(schedule, norm_position):
    """The negative control: without biases the relevances add up, and these do not."""
    values = {"M": {"conv_bias": False}, "S": {"conv_bias": False}} | {letter: {"bias": False} for letter in "ALG"}
    stack = make_stack(
        schedule,
        norm="RMSNorm",
        norm_position=norm_position,
        settings={letter: values[letter] for letter in schedule if letter in values},
    )
    found = gradient_times_input(stack, tokens(batch=16), (7, 3))
    assert found.completeness_error.median() > 0.05
    assert (lrp(stack, tokens(batch=16), (7, 3)).completeness_error.median() <= 1e-5).all()


@torch.no_grad()
def test_gradient_times_input_of_a_linear_model_adds_up():
    stack = make_stack("MA")
    for block in stack.layers:
        block.mixer.out_proj.weight.zero_()
        if block.mixer.out_proj.bias is not None:
            block.mixer.out_proj.bias.zero_()
    x = tokens()
    found = gradient_times_input(stack, x, lambda y: y.sum((1, 2)))
    assert off(found.values, x.sum(2)) <= 1e-6
    assert (found.completeness_error <= 1e-5).all()


@pytest.mark.parametrize("start", ["mean", "zeros"])
@pytest.mark.parametrize("norm_position", ["pre", "post"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_integrated_gradients_are_within_one_percent_at_64_steps(schedule, norm_position, start):
    """In every row, from zeros too, where a norm is all but a step; and each score is that of hundreds of steps."""
    # Six layers of large weights are no smooth function: those are left as they were drawn.
    size = 0.3 if len(schedule) == 1 else 0.0
    stack, x = make_stack(schedule, size=size, norm_position=norm_position), tokens()
    baseline = x.mean((0, 1)) if start == "mean" else None
    target = torch.tensor([0, 5, 3])
    found = integrated_gradients(stack, x, (7, target), baseline)
    assert (found.completeness_error <= 0.01).all()
    begin = torch.zeros_like(x) if baseline is None else baseline.expand_as(x)

    def run(x):
        return stack(x)[torch.arange(3), 7, target]

    with torch.no_grad():
        change = run(x) - run(begin)
        torch.testing.assert_close(found.absorbed, run(begin) / run(x))
    assert ((found.values.sum(1) - change).abs() <= 0.01 * change.abs()).all()
    ends = torch.cat([torch.zeros(1), torch.logspace(-8, 0, 500)]) if start == "zeros" else torch.linspace(0, 1, 300)
    total = torch.zeros_like(x)
    for low, high in pairwise(ends):
        at = (begin + (low + high) / 2 * (x - begin)).requires_grad_()
        total += torch.autograd.grad(run(at).sum(), at)[0] * (high - low)
    for got, want in zip(found.values, ((x - begin) * total).sum(-1), strict=True):
        assert off(got, want) <= 0.01


@torch.no_grad()
def test_occlusion_is_the_loss_of_each_token():
    stack, x = make_stack("MAL-"), tokens()
    baseline = torch.linspace(-1, 1, 16)
    found = occlusion(stack, x, (7, 3), baseline)
    for source in range(9):
        without = x.clone()
        without[:, source] = baseline
        assert off(found.values[:, source] + 1, stack(x)[:, 7, 3] - stack(without)[:, 7, 3] + 1) <= 1e-5
    assert found.completeness_error.isnan().all()


def spelled_out(stack, x, position, index):
    """Equation 24 for a Mamba layer, 23 for the attention behind it, from gradients by leaves of the mixed values."""
    first, second = stack.layers
    view = first.mixer.attention_view(first.norm(x))
    z = first.mixer.in_proj(first.norm(x)).chunk(2, -1)[1]
    gated = (torch.einsum("bmij,bjmv->bimv", view.matrix, view.values)[..., 0] * F.silu(z)).detach().requires_grad_()
    y = x + first.mixer.out_proj(gated)
    view = second.mixer.attention_view(second.norm(y))
    weights = view.matrix.detach().requires_grad_()
    # The weights' gradient is that of their own product alone; that of the gated values goes through the routing too.
    mixed = view.output(torch.einsum("bmij,bjmv->bimv", weights, view.values.detach()))
    (by_weights,) = torch.autograd.grad((y.detach() + mixed)[:, position, index].sum(), weights)
    (by_gated,) = torch.autograd.grad(second(y)[:, position, index].sum(), gated)
    alpha = attention_maps(stack, x, channels="all", layers=[0])[0].values.mean(1)
    one = torch.eye(x.shape[1])
    state_space = one + torch.relu(by_gated.mean(-1)[:, :, None] * alpha)
    attention = one + torch.relu(by_weights * weights).mean(1)
    return (attention @ state_space)[:, position].detach()


def test_gradient_times_map_is_the_published_equation():
    stack, x = make_stack("MA"), tokens()
    assert off(gradient_times_map(stack, x, (7, 3)).values, spelled_out(stack, x, 7, 3)) <= 1e-5


def test_the_released_form_fuses_rows_with_the_slopes_of_the_stream():
    stack, x = make_stack("MA"), tokens()
    leaf = x.clone().requires_grad_()
    middle = stack.layers[0](leaf)
    slopes = torch.autograd.grad(stack.layers[1](middle)[:, 7, 3].sum(), [leaf, middle])
    flow = torch.eye(9).expand(3, -1, -1)
    for maps, slope in zip(attention_maps(stack, x, channels="all"), slopes, strict=True):
        fused = []
        for row, one in zip(maps.values[:, :, 7].clamp(min=0), slope, strict=True):
            s = one.clamp(min=0).max(dim=1)[0]
            row = (row - row.min()) / (row.max() - row.min())
            fused.append(row.mean(0) * (s - s.min()) / (s.max() - s.min()))
        matrix = torch.stack(fused)[:, None] + torch.eye(9)
        flow = matrix / matrix.sum(-1, keepdim=True) @ flow
    assert off(gradient_times_map(stack, x, (7, 3), "released").values, flow[:, 7].detach()) <= 1e-5


@pytest.mark.parametrize("form", ["equation", "released"])
def test_gradient_times_map_reads_where_the_output_is_read(form):
    """Only sources up to the position that is read count, and a bidirectional layer sees all."""
    causal = gradient_times_map(make_stack("MSALG-"), tokens(), (4, 0), form).values
    assert (causal >= 0).all()
    assert not causal[:, 5:].any()
    assert (causal[:, 4] > 0).all()
    both = gradient_times_map(
        make_stack("MM", settings={"M": {"bidirectional": True}}), tokens(), lambda y: y[:, 4].sum(1), form
    )
    assert (both.values[:, 5:] > 0).any()


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_mode_is_used_and_the_model_left_as_it_was(method):
    stack = make_stack("MA", dropout=0.5)
    x = tokens()
    want = method(stack.eval(), x, (7, 3))
    stack.train()
    got = method(stack, x, (7, 3))
    assert torch.equal(got.values, want.values)
    assert all(module.training and not module._forward_hooks for module in stack.modules())
    assert all(parameter.grad is None for parameter in stack.parameters())
    assert got.to_dict()["values"] == got.values.tolist()
    with torch.no_grad():
        assert torch.equal(method(stack, x, (7, 3)).values, want.values)


@pytest.mark.parametrize("method", [integrated_gradients, occlusion])
def test_without_captum_the_mend_is_told(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(BackendUnavailableError, match=r"mambattn\[explain\]"):
        method(make_stack("M"), tokens(), (7, 3))


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="`form`"):
        gradient_times_map(make_stack("M"), tokens(), (7, 3), "paper")
    with pytest.raises(ConfigError, match="`n_steps`"):
        integrated_gradients(make_stack("M"), tokens(), (7, 3), n_steps=0)

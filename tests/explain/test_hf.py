"""Nine families of transformers, tiny and with random perturbed weights: what is made again equals what they do."""

import pytest
import torch
from hf_models import FAMILIES, HYBRIDS, ids, make, run_and_listen, transformers
from stacks import off

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain import attention_maps, contributions, receptive_field, rollout
from mambattn.explain.maps import chosen_layers
from mambattn.explain.relevance import lrp
from mambattn.explain.trace import run_model, trace

LIMIT = 1e-5


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@torch.no_grad()
def test_every_mixer_is_made_again_from_its_weights(family):
    model, tokens = make(family), ids()
    logits, heard = run_and_listen(model, tokens)
    assert 0.2 < logits.std() < 5
    found = [
        route.output(layer.entered(layer.read))
        for layer in chosen_layers(trace(model, tokens).layers, None)
        for route in layer.routes
    ]
    assert len(found) == len(heard)
    scale = {"falcon_h1": [1.3, 1.2] * 2, "granitemoehybrid": [0.7] * 3}.get(family, [1.0] * len(heard))
    for got, want, by in zip(found, heard, scale, strict=True):
        assert off(got, by * want) <= LIMIT


@torch.no_grad()
def test_contributions_add_up_and_nothing_comes_from_later_tokens(family):
    model, tokens = make(family), ids()
    layers = list(chosen_layers(trace(model, tokens).layers, None))
    kinds = {layer.kind for layer in layers}
    assert any("Mamba" in kind for kind in kinds)
    assert any("attention" in kind for kind in kinds) == (family in HYBRIDS)
    for layer in layers:
        for route in layer.routes:
            entered = layer.entered(layer.read)
            parts = torch.cat([rows for _, rows in route.contributions(entered)], dim=1)
            assert off(parts.sum(2) + route.offset(entered), route.output(entered)) <= LIMIT
            assert not parts.norm(dim=-1).triu(1).any()
    for what in ("scan", "block"):
        maps = attention_maps(model, tokens, what=what)
        assert len(maps) == len(layers)
        assert not any(one.values.triu(1).any() for one in maps)
    assert len(receptive_field(model, tokens)) == len(layers)


@torch.no_grad()
def test_the_whole_model_is_made_again(family):
    model, tokens = make(family), ids()
    want = model(tokens, use_cache=False).logits
    traced = trace(model, tokens)
    assert off(run_model(model, traced.x), want) <= LIMIT
    assert off(traced.output(traced.x), want) <= LIMIT
    relevance = lrp(model, tokens, target=(8, 3))
    assert (relevance.completeness_error <= 1e-4).all()
    flow = rollout(model, tokens).values
    assert (flow >= 0).all()
    assert not flow.triu(1).any()
    torch.testing.assert_close(flow.sum(-1), torch.ones(flow.shape[:3]))


def test_a_model_without_a_head_and_embeddings_serve_as_well():
    model, tokens = make("jamba"), ids()
    with torch.no_grad():
        embeddings = model.get_input_embeddings()(tokens)
        want = model.model(tokens, use_cache=False)[0]
    assert off(trace(model.model, embeddings).output(embeddings), want) <= LIMIT
    (first,) = attention_maps(model.model, embeddings, layers=[0])
    assert torch.equal(first.values, attention_maps(model, tokens, layers=[0])[0].values)


def test_nothing_is_left_on_the_model():
    model, tokens = make("jamba").train(), ids()
    before = [(name, type(module), len(module._forward_hooks)) for name, module in model.named_modules()]
    lrp(model, tokens, target=(8, 3))
    assert [(name, type(module), len(module._forward_hooks)) for name, module in model.named_modules()] == before
    assert all(module.training for module in model.modules())


def test_experts_are_chosen_as_they_were():
    """A mixture is piecewise linear in its tokens with the choice held: its relevance adds up though routing would not."""
    model, tokens = make("granitemoehybrid"), ids()
    values = lrp(model, tokens, target=(8, 3)).values
    with torch.enable_grad():
        embeddings = model.get_input_embeddings()(tokens).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(run_model(model, embeddings)[:, 8, 3].sum(), embeddings)
    assert off((gradient * embeddings).sum(-1), values) > 0.1


def test_what_is_not_supported_is_refused_by_name():
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    with pytest.raises(ConfigError, match=r"model_type is 'gpt2'. Supported are mamba, .*nemotron_h"):
        trace(transformers.GPT2LMHeadModel(config), ids())
    with pytest.raises(ShapeError, match="embeddings"):
        trace(make("mamba"), torch.randn(2, 9, 31))
    with pytest.raises(ConfigError, match="there is no 7"):
        contributions(make("mamba"), ids(), layer=7)
    with pytest.raises(ConfigError, match="silu"):
        trace(make("mamba", hidden_act="gelu"), ids())

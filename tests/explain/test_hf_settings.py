"""Settings that published models of the nine families have, one by one, and what is refused."""

import pytest
import torch
from hf_models import FAMILIES, SHARED, ids, make, run_and_listen, transformers
from stacks import off

from mambattn._errors import ConfigError, DataError, ShapeError
from mambattn.explain import attention_maps, lrp
from mambattn.explain.maps import chosen_layers
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.trace import trace

LIMIT = 1e-5
SETTINGS = [
    ("mamba", {"use_bias": False, "use_conv_bias": False}),
    ("mamba", {"conv_kernel": 1}),
    ("falcon_mamba", {"use_bias": True, "mixer_rms_eps": 0.1}),
    ("mamba2", {"use_bias": True, "n_groups": 1}),
    ("mamba2", {"use_conv_bias": False, "n_groups": 8}),
    ("jamba", {"num_experts": 1, "mamba_proj_bias": True}),
    ("jamba", {"num_experts_per_tok": 1, "mamba_conv_bias": False}),
    ("bamba", {"mamba_proj_bias": True, "attention_bias": True, "mlp_bias": True}),
    ("bamba", {"time_step_limit": (0.9, 1.5), "mamba_n_groups": 1, "partial_rotary_factor": 1.0}),
    (
        "zamba2",
        {"num_hidden_layers": 5, "layers_block_type": ["hybrid", "mamba", *["hybrid"] * 3], "num_mem_blocks": 2},
    ),
    ("zamba2", {"use_mem_rope": False, "use_shared_attention_adapter": False}),
    ("zamba2", {"time_step_min": 0.02, "add_bias_linear": True, "mamba_ngroups": 1}),
    ("falcon_h1", {"mamba_norm_before_gate": False}),
    ("falcon_h1", {"mamba_rms_norm": False}),
    ("falcon_h1", {"mamba_proj_bias": True, "projectors_bias": True, "attention_bias": True, "mlp_bias": True}),
    ("falcon_h1", {"time_step_limit": (0.9, 1.5), "mamba_conv_bias": False, "tie_word_embeddings": True}),
    ("granitemoehybrid", {"num_local_experts": 0, "position_embedding_type": "rope"}),
    ("granitemoehybrid", {"mamba_proj_bias": True, "attention_bias": True, "time_step_limit": (0.9, 1.5)}),
    ("nemotron_h", {"moe_latent_size": 16, "n_group": 2, "norm_topk_prob": False, "routed_scaling_factor": 2.5}),
    ("nemotron_h", {"mlp_bias": True, "attention_bias": True, "use_bias": True, "time_step_min": 0.02}),
    ("nemotron_h", {"mlp_hidden_act": "silu", "use_conv_bias": False, "head_dim": 16}),
]


def made_again(model, tokens):
    """Give what the routes make and what the mixers gave, with factors that a decoder layer puts behind its mixers."""
    _, heard = run_and_listen(model, tokens)
    layers = chosen_layers(trace(model, tokens).layers, None)
    routes = [(route, layer.entered(layer.read)) for layer in layers for route in layer.mixing_routes]
    factors = {"falcon_h1": (1.3, 1.2), "granitemoehybrid": (0.7,)}.get(model.config.model_type, (1.0,))
    wanted = [factors[number % len(factors)] * y for number, y in enumerate(heard)]
    return zip(routes, wanted, strict=True)


@torch.no_grad()
@pytest.mark.parametrize(("family", "changes"), SETTINGS)
def test_every_setting_is_part_of_what_is_made_again(family, changes):
    model, tokens = make(family, **changes), ids()
    for (route, entered), want in made_again(model, tokens):
        assert off(route.output(entered), want) <= LIMIT
        parts = torch.cat([rows for _, rows in route.contributions(entered)], dim=1)
        assert off(parts.sum(2) + route.offset(entered), want) <= LIMIT
        assert not parts.norm(dim=-1).triu(1).any()
    traced = trace(model, tokens)
    assert off(traced.output(traced.x), model(tokens, use_cache=False).logits) <= LIMIT
    assert (lrp(model, tokens, target=(8, 3)).completeness_error <= 1e-4).all()


@torch.no_grad()
@pytest.mark.parametrize("seq_len", [1, 70])
def test_one_token_and_several_chunks_are_made_again(seq_len):
    for family in FAMILIES:
        for (route, entered), want in made_again(make(family), ids(seq_len)):
            assert off(route.output(entered), want) <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "changes"), [case for case in SETTINGS if any("time_step" in key for key in case[1])]
)
def test_limits_of_the_step_size_are_reached(family, changes):
    """Otherwise the settings above would not show that they are read."""
    routes = [route for layer in trace(make(family, **changes), ids()).layers for route in layer.mixing_routes]
    dt = torch.cat([route.mixing.dt.flatten() for route in routes if isinstance(route.mixing, Recurrence)])
    for bound in changes.get("time_step_limit", (changes.get("time_step_min"),)):
        assert 0.05 < (dt == bound).float().mean() < 0.95


@torch.no_grad()
@pytest.mark.parametrize("family", ["jamba", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h"])
def test_activations_and_experts_are_held(family):
    """Without biases the held map sends zeros to zeros; a sigmoid or a choice of experts that moved would not."""
    parts = [layer for layer in trace(make(family), ids()).layers if layer.kind == "MLP"]
    assert len(parts) >= 2
    for layer in parts:
        entered, (mlp,) = layer.entered(layer.x), layer.routes
        assert off(layer.x + mlp.output(entered), layer.y) <= LIMIT
        assert mlp.output(torch.zeros_like(entered)).norm() <= LIMIT * mlp.output(entered).norm()


@torch.no_grad()
def test_both_sides_of_a_gate_carry_half():
    model = make("bamba")
    layer = next(layer for layer in trace(model, ids()).layers if layer.kind == "MLP")
    mlp, entered = model.model.layers[0].feed_forward, layer.entered(layer.x)
    other = torch.randn(entered.shape, generator=torch.Generator().manual_seed(2))
    z, up = mlp.gate_proj(entered), mlp.up_proj(entered)
    by_values = mlp.down_proj(torch.nn.functional.silu(z) * mlp.up_proj(other))
    by_gate = mlp.down_proj(torch.sigmoid(z) * mlp.gate_proj(other) * up)
    assert off(layer.routes[0].output(other), (by_values + by_gate) / 2) <= LIMIT


@torch.no_grad()
def test_a_double_is_explained_as_well():
    model = make("bamba").double()
    traced = trace(model, ids())
    assert traced.x.dtype == torch.float64
    assert off(traced.output(traced.x), model(ids(), use_cache=False).logits) <= LIMIT


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_refused(family):
    with pytest.raises(ConfigError, match=r"torch.bfloat16. Use model.float\(\)"):
        attention_maps(make(family).bfloat16(), ids())


def test_another_head_is_refused_and_its_model_serves():
    config = transformers.JambaConfig(**SHARED, **FAMILIES["jamba"][1], num_labels=3)
    model = transformers.JambaForSequenceClassification(config).eval()
    with pytest.raises(ConfigError, match=r"it is a JambaForSequenceClassification. Use the part"):
        trace(model, ids())
    assert len(attention_maps(model.model, ids())) == 4


def test_a_mixer_that_does_something_else_is_refused():
    model = make("mamba")
    handle = model.backbone.layers[1].mixer.register_forward_hook(lambda _, __, y: 1.25 * y)
    with pytest.raises(ConfigError, match=r"however MambaMixer is 20.0% off"):
        attention_maps(model, ids())
    handle.remove()
    assert len(attention_maps(model, ids())) == 2


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.full((2, 9), 50), DataError, "ids from 0 to 49, however it has 50"),
        (torch.full((2, 9), -1), DataError, "however it has -1"),
        (torch.zeros(2, 0, dtype=torch.int64), ShapeError, "with a token at least"),
        (torch.zeros(9, dtype=torch.int64), ShapeError, r"shape is \(9,\)"),
        (torch.zeros(2, 9, dtype=torch.bool), ShapeError, r"torch.bool"),
        (torch.randn(2, 9, 32, dtype=torch.float64), ShapeError, r"of type torch.float32, .* torch.float64"),
    ],
)
def test_bad_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        trace(make("mamba"), x)

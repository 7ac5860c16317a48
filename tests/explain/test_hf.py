"""Nine families of transformers, tiny and with random perturbed weights: what is made again equals what they do."""

import pytest
import torch
from stacks import off, perturbed

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain import attention_maps, contributions, receptive_field, rollout
from mambattn.explain.relevance import lrp
from mambattn.explain.trace import run_model, trace

transformers = pytest.importorskip("transformers")
LIMIT = 1e-5
SHARED = {"vocab_size": 50, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40}
STATE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 6, "mamba_chunk_size": 4}
FAMILIES = {
    "mamba": ("Mamba", {"state_size": 6, "num_hidden_layers": 2, "use_bias": True}),
    "falcon_mamba": ("FalconMamba", {"state_size": 6, "num_hidden_layers": 2}),
    "mamba2": (
        "Mamba2",
        {"state_size": 6, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}
        | {"time_step_limit": (0.02, 0.5)},
    ),
    "jamba": (
        "Jamba",
        ATTENTION
        | {
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 6,
            "mamba_dt_rank": 4,
        }
        | {"expert_layer_period": 2, "expert_layer_offset": 0, "num_experts": 4, "num_experts_per_tok": 2},
    ),
    "bamba": ("Bamba", ATTENTION | STATE | {"num_hidden_layers": 3, "attn_layer_indices": [1]}),
    "zamba2": (
        "Zamba2",
        {"num_hidden_layers": 4, "layers_block_type": ["mamba", "mamba", "hybrid", "hybrid"], "mamba_d_state": 6}
        | {"n_mamba_heads": 8, "mamba_headdim": 8, "mamba_ngroups": 2, "chunk_size": 4, "intermediate_size": 40}
        | {"num_attention_heads": 4, "num_key_value_heads": 4, "num_mem_blocks": 1, "use_mem_rope": True}
        | {"use_shared_attention_adapter": True, "adapter_rank": 4},
    ),
    "falcon_h1": (
        "FalconH1",
        ATTENTION
        | STATE
        | {"num_hidden_layers": 2, "mamba_d_ssm": 64, "mamba_rms_norm": True, "mamba_norm_before_gate": True}
        | {"ssm_multipliers": [0.5, 0.7, 1.2, 1.1, 0.9], "ssm_in_multiplier": 0.8, "ssm_out_multiplier": 1.3}
        | {"attention_in_multiplier": 0.7, "attention_out_multiplier": 1.2, "key_multiplier": 0.6}
        | {"embedding_multiplier": 2.0, "lm_head_multiplier": 0.5, "mlp_multipliers": [0.8, 1.1]},
    ),
    "granitemoehybrid": (
        "GraniteMoeHybrid",
        ATTENTION
        | STATE
        | {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"], "shared_intermediate_size": 40}
        | {"num_local_experts": 4, "num_experts_per_tok": 2, "embedding_multiplier": 2.0, "residual_multiplier": 0.7}
        | {"attention_multiplier": 0.3, "logits_scaling": 1.5},
    ),
    "nemotron_h": (
        "NemotronH",
        ATTENTION
        | {"num_hidden_layers": 4, "layers_block_type": ["mamba", "attention", "mlp", "moe"], "head_dim": 8}
        | {"ssm_state_size": 6, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2, "chunk_size": 4}
        | {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
        | {"moe_shared_expert_intermediate_size": 24, "n_group": 1, "topk_group": 1},
    ),
}
HYBRIDS = ("jamba", "bamba", "zamba2", "falcon_h1", "granitemoehybrid", "nemotron_h")


def make(name, **changes):
    kind, settings = FAMILIES[name]
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SHARED, **(settings | changes))
    return perturbed(getattr(transformers, f"{kind}ForCausalLM")(config), size=0.15)


def ids(seq_len=9):
    return torch.randint(3, 50, (2, seq_len), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def run_and_listen(model, tokens):
    """Run a model and give the outputs of its mixers, in order of depth."""
    heard = []
    is_mixer = [m for m in model.modules() if hasattr(m, "A_log") or hasattr(m, "q_proj")]
    hooks = [
        m.register_forward_hook(lambda _, __, y: heard.append(y[0] if isinstance(y, tuple) else y)) for m in is_mixer
    ]
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits, heard


@torch.no_grad()
def test_every_mixer_is_made_again_from_its_weights(family):
    model, tokens = make(family), ids()
    logits, heard = run_and_listen(model, tokens)
    assert 0.2 < logits.std() < 5
    found = [
        route.output(layer.entered(layer.x))
        for layer in trace(model, tokens).layers
        if layer.mixes
        for route in layer.routes
    ]
    assert len(found) == len(heard)
    scale = {"falcon_h1": [1.3, 1.2] * 2, "granitemoehybrid": [0.7] * 3}.get(family, [1.0] * len(heard))
    for got, want, by in zip(found, heard, scale, strict=True):
        assert off(got, by * want) <= LIMIT


@torch.no_grad()
def test_contributions_add_up_and_nothing_comes_from_later_tokens(family):
    model, tokens = make(family), ids()
    layers = [layer for layer in trace(model, tokens).layers if layer.mixes]
    kinds = {layer.kind for layer in layers}
    assert any("Mamba" in kind for kind in kinds)
    assert any("attention" in kind for kind in kinds) == (family in HYBRIDS)
    for layer in layers:
        for route in layer.routes:
            entered = layer.entered(layer.x)
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
    if family == "zamba2":
        with pytest.raises(ConfigError, match="a shared block of Zamba2 reads the embeddings"):
            rollout(model, tokens)
        with pytest.raises(ConfigError, match="shared block"):
            lrp(model, tokens, target=(8, 3))
        return
    assert off(traced.output(traced.x), want) <= LIMIT
    relevance = lrp(model, tokens, target=(8, 3))
    assert (relevance.completeness_error <= 1e-4).all()
    torch.testing.assert_close(rollout(model, tokens).total.sum(-1), torch.ones(2, 9))


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

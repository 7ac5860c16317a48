"""Edges cut inside models of transformers: what is lost is what the contributions say, and later layers follow."""

import pytest
import torch
from stacks import off

from mambattn.explain import knockout

transformers = pytest.importorskip("transformers")
SHARED = {"vocab_size": 50, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture
def jamba():
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    return transformers.JambaForCausalLM(
        transformers.JambaConfig(
            **SHARED,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            num_experts=1,
            mamba_d_state=6,
            mamba_dt_rank=4,
        )
    ).eval()


def test_a_cut_edge_of_attention_is_a_weight_of_zero(jamba):
    """Against the attention's own weights, one of which is set to 0 by hand."""
    ids = torch.arange(3, 12)[None]
    cut = knockout(jamba, ids, {1: [(2, 8)]}, target=(8, 5))
    jamba.set_attn_implementation("eager")
    attention = jamba.model.layers[1].self_attn
    with torch.no_grad():
        heard = {}
        hook = attention.register_forward_hook(
            lambda module, args, given, out: heard.update(x=given["hidden_states"], w=out[1]), with_kwargs=True
        )
        want_before = jamba(ids, use_cache=False, output_attentions=True).logits
        hook.remove()
        values = attention.v_proj(heard["x"]).unflatten(-1, (2, 8)).repeat_interleave(2, dim=2)
        lost = attention.o_proj((heard["w"][:, :, 8, 2, None] * values[:, 2]).flatten(1))

        def without(module, args, output):
            y = output[0].clone()
            y[:, 8] -= lost
            return (y, *output[1:])

        hook = attention.register_forward_hook(without)
        want_after = jamba(ids, use_cache=False).logits
        hook.remove()
    assert off(cut.before, want_before) <= 1e-5
    assert off(cut.change, want_after - want_before) <= 1e-4
    assert cut.change.abs().sum((0, 2)).nonzero().flatten().tolist() == [8]


def test_a_cut_edge_of_a_scan_changes_what_later_tokens_read(jamba):
    ids = torch.arange(3, 12)[None]
    cut = knockout(jamba, ids, {0: [(2, 5)]})
    # Token 5 is changed in layer 0, and what reads it in the attention above.
    changed = cut.change.abs().sum((0, 2)) > 1e-7
    assert changed.tolist() == [False] * 5 + [True] * 4

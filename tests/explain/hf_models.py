"""Tiny models of nine families of transformers with random perturbed weights, so that outputs are of the order of 1."""

import pytest
import torch
from stacks import perturbed

transformers = pytest.importorskip("transformers")
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

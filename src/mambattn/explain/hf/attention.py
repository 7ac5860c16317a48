"""The routes of transformers' attention layers, recomputed from their weights at their own input."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from mambattn.explain.route import Route
from mambattn.explain.weights import Weights
from mambattn.ops.attend.reference import attention_weights

__all__ = ["attention_route"]


def attention_route(module: Any, x: Tensor, given: dict[str, Any]) -> Route:
    """Give the route of a causal self-attention with projections of its own for q, k and v.

    Parameters
    ----------
    module : nn.Module
        The attention.
    x : Tensor of shape (batch, seq_len, d_in)
        Its input; in Zamba2 the hidden states beside the embeddings.
    given : dict
        What it was called with: its rotary angles as ``position_embeddings``, the depth of its layer in Zamba2.

    Returns
    -------
    Route
        The route.
    """
    q_weight, k_weight, v_weight = (_weight(module, name, given) for name in "qkv")

    def heads(weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias).unflatten(-1, (-1, module.head_dim))

    q = heads(q_weight, module.q_proj.bias)
    k = heads(k_weight, module.k_proj.bias) * getattr(module, "key_multiplier", 1.0)
    angles = given.get("position_embeddings")
    if angles is not None:
        rotate = sys.modules[type(module).__module__].apply_rotary_pos_emb
        q, k = rotate(q, k, *angles, unsqueeze_dim=2)
    shared = module.num_key_value_groups

    def by_head(parameter: Tensor) -> Tensor:
        """Repeat what heads share, so that each has its own."""
        return parameter.unflatten(0, (-1, module.head_dim)).repeat_interleave(shared, dim=0).flatten(0, 1)

    return Route(
        label="",
        mixing=Weights(attention_weights(q, k, causal=True, scale=module.scaling)),
        value_weight=by_head(v_weight),
        value_bias=None if module.v_proj.bias is None else by_head(module.v_proj.bias),
        out_weight=module.o_proj.weight,
        out_bias=module.o_proj.bias,
    )


def _weight(module: Any, name: str, given: dict[str, Any]) -> Tensor:
    """Give a projection's weight, with the adapter that Zamba2 adds for the depth."""
    weight = getattr(module, f"{name}_proj").weight
    if not getattr(module.config, "use_shared_attention_adapter", False):
        return weight
    adapter = getattr(module, f"linear_{name}_adapter_list")[module.layer_dic[given["layer_idx"]]]
    return weight + adapter[1].weight @ adapter[0].weight

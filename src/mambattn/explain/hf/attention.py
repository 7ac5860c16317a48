"""The routes of transformers' attention layers, recomputed from their weights at their own input."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from mambattn.explain.route import Route
from mambattn.explain.weights import Weights

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
        return nn.functional.linear(x, weight, bias).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)

    q = heads(q_weight, module.q_proj.bias)
    k = heads(k_weight, module.k_proj.bias) * getattr(module, "key_multiplier", 1.0)
    angles = given.get("position_embeddings")
    if angles is not None:
        q, k = sys.modules[type(module).__module__].apply_rotary_pos_emb(q, k, *angles)
    shared = module.num_key_value_groups
    scores = q @ k.repeat_interleave(shared, dim=1).transpose(-1, -2) * module.scaling
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)

    def by_head(parameter: Tensor) -> Tensor:
        """Repeat what heads share, so that each has its own."""
        return parameter.unflatten(0, (-1, module.head_dim)).repeat_interleave(shared, dim=0).flatten(0, 1)

    return Route(
        label="",
        mixing=Weights(scores.masked_fill(later, float("-inf")).softmax(-1)),
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

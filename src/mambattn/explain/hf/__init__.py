"""Models of transformers, taken apart as the stacks of this library are; needs the extra ``hf``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mambattn.explain.held import FrozenNorm, held_rms
from mambattn.explain.hf.families import FAMILIES, Call, Family
from mambattn.explain.hf.inputs import backbone_of, check_supported, embedded
from mambattn.explain.layer import Aside, Layer
from mambattn.explain.pointwise import Pointwise
from mambattn.explain.sites import hooked
from mambattn.explain.trace import Chain, Trace

__all__ = ["run_transformers", "trace_transformers"]

_FINAL_NORMS = ("norm_f", "final_layernorm", "norm")


def trace_transformers(model: Any, x: Tensor) -> Trace:
    """Take a model of transformers apart at one input; see `mambattn.explain.trace.trace`.

    The model runs once, and the calls of its mixers are written down; nothing is left on it. Each mixer is then made
    again from its weights at its own input. An explanation speaks of the embeddings, before a multiplier that a family
    may have.

    Parameters
    ----------
    model : PreTrainedModel
        A model of the families mamba, mamba2, falcon_mamba, jamba, bamba, zamba2, falcon_h1, granitemoehybrid and
        nemotron_h, with a language model's head or without, in float32 or float64.
    x : Tensor
        Ids (batch, seq_len), or embeddings (batch, seq_len, d_model).

    Returns
    -------
    Trace
        The layers. A decoder layer with a feed-forward part gives two of the same index.

    Raises
    ------
    ConfigError
        If the family, the head, the precision or an activation is not supported, or a mixer computes something else
        than its weights say.
    ShapeError
        If `x` is neither ids nor embeddings.
    DataError
        If there is no such id.
    """
    check_supported(model)
    family = FAMILIES[model.config.model_type]
    backbone = backbone_of(model)
    with torch.no_grad():
        tokens = embedded(model, x)
        with _recorded(backbone, family) as calls:
            run_transformers(model, tokens)
        layers = [
            layer for index, block in enumerate(backbone.layers) for layer in _layers(index, block, family, calls)
        ]
        norm = _frozen(calls[_final_norm(backbone)])
    steps: tuple[Any, ...] = (norm,)
    head = getattr(model, "lm_head", None)
    if head is not None:
        steps += (head,) if (scale := _logit_scale(model)) == 1.0 else (head, lambda y: y * scale)
    multiplier = getattr(backbone, "embedding_multiplier", 1.0)
    return Trace(tokens, tuple(layers), lambda embedded: embedded * multiplier, Chain(steps))


def run_transformers(model: Any, x: Tensor) -> Tensor:
    """Run a model of transformers on embeddings; differentiable.

    Parameters
    ----------
    model : PreTrainedModel
        The model.
    x : Tensor of shape (batch, seq_len, d_model)
        Embeddings, before a multiplier.

    Returns
    -------
    Tensor of shape (batch, seq_len, vocabulary or d_model)
        Logits, or hidden states of a model without a head.
    """
    # Falcon-H1 multiplies embeddings that it looks up, but not those that it is given.
    if model.config.model_type == "falcon_h1":
        x = x * backbone_of(model).embedding_multiplier
    return model(inputs_embeds=x, use_cache=False)[0]


def _logit_scale(model: Any) -> float:
    if model.config.model_type == "granitemoehybrid":
        return 1.0 / model.config.logits_scaling
    return float(getattr(backbone_of(model), "lm_head_multiplier", 1.0))


def _final_norm(backbone: Any) -> nn.Module:
    return next(getattr(backbone, name) for name in _FINAL_NORMS if hasattr(backbone, name))


@contextmanager
def _recorded(backbone: Any, family: Family) -> Iterator[dict[nn.Module, Call]]:
    """Write down the calls of layers, mixers and norms in evaluation mode, until the end of the block."""
    calls: dict[nn.Module, Call] = {}

    def note(module: nn.Module, arguments: tuple[Any, ...], given: dict[str, Any], output: Any) -> None:
        x = arguments[0] if arguments else given["hidden_states"]
        y = output[0] if isinstance(output, tuple) else output
        calls[module] = Call(module, x.detach(), given, y.detach())

    wanted = {*family.mixers, family.norm, family.mlp_norm}
    parts = [part for block in backbone.layers for part in _parts(block)]
    modules = [getattr(part, name, None) for part in parts for name in wanted if name]
    with hooked(backbone, [(module, note) for module in {*modules, *parts, _final_norm(backbone)} - {None}]):
        yield calls


def _parts(block: Any) -> list[Any]:
    """Give a decoder layer, or what a layer of Zamba2 with a shared block consists of."""
    if hasattr(block, "shared_transformer"):
        return [block.shared_transformer, block.linear, block.mamba_decoder]
    return [block]


def _layers(index: int, block: Any, family: Family, calls: dict[nn.Module, Call]) -> list[Layer]:
    if not hasattr(block, "shared_transformer"):
        return _of_part(index, block, family, calls)
    mixer, mlp = _of_part(index, block.shared_transformer, family, calls)
    (layer,) = _of_part(index, block.mamba_decoder, family, calls)
    joined = Pointwise((_SharedMLP(block, index),), mlp.entered(mlp.x))
    aside = Aside(mixer, replace(mlp, y=calls[block.linear].y, routes=(joined,)))
    return [replace(layer, x=calls[block.mamba_decoder].x, aside=aside)]


class _SharedMLP(nn.Module):
    """The feed-forward part of Zamba2's shared block with the adapter of one depth, and the linear map behind it."""

    def __init__(self, block: Any, index: int) -> None:
        super().__init__()
        self.mlp, self.linear, self.index = block.shared_transformer.feed_forward, block.linear, index

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.mlp(x, self.index))


def _of_part(index: int, part: Any, family: Family, calls: dict[nn.Module, Call]) -> list[Layer]:
    whole, normed = calls[part], calls[getattr(part, family.norm)]
    norm, x = _frozen(normed), normed.x
    made = {name: calls[mixer] for name, mixer in family.mixers_of(part).items()}
    if not made:  # a feed-forward layer of Nemotron-H
        return [Layer(index, "MLP", x, whole.y, norm, (family.pointwise(part, norm(x)),))]
    routes = tuple(family.route(call, part, name) for name, call in made.items())
    kind = " + ".join(dict.fromkeys(_kind(call.module) for call in made.values()))
    if family.mlp_norm is None or not hasattr(part, family.mlp_norm):
        return [Layer(index, kind, x, whole.y, norm, routes)]
    between = calls[getattr(part, family.mlp_norm)]
    mlp_norm = _frozen(between)
    mlp = family.pointwise(part, mlp_norm(between.x))
    return [
        Layer(index, kind, x, between.x, norm, routes),
        Layer(index, "MLP", between.x, whole.y, mlp_norm, (mlp,)),
    ]


def _kind(module: nn.Module) -> str:
    if hasattr(module, "q_proj"):
        return "global attention"
    return "Mamba" if hasattr(module, "x_proj") else "Mamba-2"


def _frozen(call: Call) -> FrozenNorm:
    norm = call.module
    return held_rms(call.x, norm.weight, getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", 0.0))

"""A model at one input, layer by layer, each as an affine map of its tokens: what every explanation starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain._checks import check_precise
from mambattn.explain.held import FrozenNorm, held_rms
from mambattn.explain.layer import Layer
from mambattn.explain.own import routes_of
from mambattn.nn import AttentionPooling, RMSNorm
from mambattn.nn._checks import check_tokens
from mambattn.schedule import layer_kinds
from mambattn.stack import Block, Stack
from mambattn.tabular.backbones import TokenBackbone
from mambattn.tabular.network import TabularNetwork

__all__ = ["Chain", "Trace", "frozen_norm", "is_of_transformers", "run_model", "trace"]


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Chain:
    """Steps of a read-out, one after the other.

    Parameters
    ----------
    steps : tuple of callable, default ()
        Affine where they are, norms and weights held. A step's bias is its attribute `bias`, as of `FrozenNorm` and
        `nn.Linear`; one without it is homogeneous, as ReLU and poolings are.
    """

    steps: tuple[Callable[[Tensor], Tensor], ...] = ()

    def __call__(self, y: Tensor) -> Tensor:
        """Take all steps.

        Parameters
        ----------
        y : Tensor
            What leaves the last layer.

        Returns
        -------
        Tensor
            The output.
        """
        for step in self.steps:
            y = step(y)
        return y


@dataclass(frozen=True)
class Trace:
    """A model at one input.

    Parameters
    ----------
    x : Tensor of shape (batch, n_sources, d_model)
        The tokens that an explanation speaks of: the model's input, or the embeddings of its ids.
    layers : tuple of Layer
        Its layers, first to last.
    enter : callable
        Maps `x` to what enters the first layer, affine: shuffles tokens, appends a class token.
    read_out : Chain
        Maps what leaves the last layer to the model's output, differentiable, norms and weights of the pooling held.
    """

    x: Tensor
    layers: tuple[Layer, ...]
    enter: Callable[[Tensor], Tensor] = _same
    read_out: Chain = Chain()

    @property
    def mixing_layers(self) -> tuple[Layer, ...]:
        """The layers that mix tokens, those of blocks aside left inside theirs."""
        return tuple(layer for layer in self.layers if layer.mixes)

    def nodes(self, x: Tensor) -> list[Tensor]:
        """Run the held model by the rules of relevance, keeping every place where biases come in.

        Parameters
        ----------
        x : Tensor of shape (batch, n_sources, d_model)
            Tokens.

        Returns
        -------
        list of Tensor
            What enters the first layer, what leaves each part of each layer, and each step of the read-out.
        """
        nodes = [self.enter(x)]
        for layer in self.layers:
            nodes += layer.halved(nodes[-1], nodes[0])
        for step in self.read_out.steps:
            nodes.append(step(nodes[-1]))
        return nodes

    def output(self, x: Tensor) -> Tensor:
        """Run the held model by the rules of relevance.

        Parameters
        ----------
        x : Tensor of shape (batch, n_sources, d_model)
            Tokens; at the trace's own `x` the result is the model's output.

        Returns
        -------
        Tensor
            The model's output.
        """
        return self.nodes(x)[-1]


def frozen_norm(norm: nn.Module, x: Tensor) -> FrozenNorm:
    """Hold a norm at one input.

    Parameters
    ----------
    norm : LayerNorm or RMSNorm
        The norm.
    x : Tensor of shape (..., d_model)
        Its input.

    Returns
    -------
    FrozenNorm
        The affine map that it is there.
    """
    if isinstance(norm, nn.LayerNorm):
        rate = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
        return FrozenNorm(rate * norm.weight, norm.bias, centred=True)
    assert isinstance(norm, RMSNorm)
    return held_rms(x, norm.weight, norm.eps or 0.0)


def is_of_transformers(model: nn.Module) -> bool:
    """Say whether a model is one of transformers, which is not imported for that.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    bool
        Whether it is.
    """
    return type(model).__module__.startswith("transformers.")


def trace(model: nn.Module, x: Tensor) -> Trace:
    """Run a model in evaluation mode and take each layer apart at its input; nothing is left on the model.

    Parameters
    ----------
    model : nn.Module
        A `Stack`, the token backbone of a tabular model, or a supported model of transformers.
    x : Tensor
        What the model takes: tokens (batch, seq_len, d_model), or ids of a language model.

    Returns
    -------
    Trace
        The layers.

    Raises
    ------
    ConfigError
        If the model is of a kind that is not supported, or coarser than float32.
    ShapeError
        If `x` is not what the model takes.
    """
    if not isinstance(x, Tensor) or x.numel() == 0:
        got, mend = (
            (f"its shape is {tuple(x.shape)}", "Give what is to be explained.")
            if isinstance(x, Tensor)
            else (f"it is a {type(x).__name__}", "Use torch.as_tensor(x).")
        )
        raise ShapeError(f"`x` must be a Tensor of a row at least, with a token at least, however {got}. {mend}")
    # What is computed in inference mode has no gradient, and nothing that is computed from it has one.
    with torch.inference_mode(mode=False):
        return _trace(model, x.clone() if x.is_inference() else x.detach())


@singledispatch
def _trace(model: nn.Module, x: Tensor) -> Trace:
    if is_of_transformers(model):
        from mambattn.explain.hf import trace_transformers  # an extra: nothing of it is needed for other models

        return trace_transformers(model, x)
    raise ConfigError(
        f"`model` must be a Stack, a tabular model that mixes tokens or a supported model of transformers, however it "
        f"is a {type(model).__name__}."
    )


@_trace.register
def _(model: Stack, x: Tensor) -> Trace:
    _check_tokens(x, model, "stack")
    with torch.no_grad():
        return Trace(x, _layers(model, x))


@_trace.register
def _(model: TokenBackbone, x: Tensor) -> Trace:
    _check_tokens(x, model.stack, "backbone")
    with torch.no_grad():
        layers = _layers(model.stack, model.arrange(x))
        pooling = _frozen_pooling(model.pooling, layers[-1].y)
        norm = frozen_norm(model.norm, pooling(layers[-1].y))
    return Trace(x, layers, model.arrange, Chain((pooling, norm)))


@_trace.register
def _(model: TabularNetwork, x: Tensor) -> Trace:
    if not isinstance(model.backbone, TokenBackbone):
        raise ConfigError(
            f"`model` must mix tokens, however its backbone is a {type(model.backbone).__name__}. "
            "Use MambAttention, Mambular or FTTransformer."
        )
    backbone = _trace(model.backbone, x)
    layers = [layer for layer in model.head.layers if not isinstance(layer, nn.Dropout)]
    # ReLU is linear where it is, so that its plain gradient is already that of the held map.
    return replace(backbone, read_out=Chain((*backbone.read_out.steps, *layers)))


def _check_tokens(x: Tensor, stack: Stack, owner: str) -> None:
    check_tokens(x, stack.d_model, owner)
    check_precise(stack)
    dtype = next(stack.parameters()).dtype
    if x.dtype != dtype:
        raise ShapeError(f"`x` must be of the model's type, {dtype}, however it is {x.dtype}. Use x.to({dtype}).")


def _frozen_pooling(pooling: nn.Module, y: Tensor) -> Callable[[Tensor], Tensor]:
    if isinstance(pooling, AttentionPooling):
        weights = pooling.weights(y)
        return lambda y: torch.einsum("bl,bld->bd", weights, y)
    return pooling


@singledispatch
def run_model(model: nn.Module, x: Tensor) -> Tensor:
    """Run a model itself on the tokens that an explanation speaks of; differentiable.

    Parameters
    ----------
    model : nn.Module
        A model that `trace` takes.
    x : Tensor of shape (batch, n_sources, d_model)
        Tokens, as `Trace.x` has them.

    Returns
    -------
    Tensor
        The model's output.
    """
    if is_of_transformers(model):
        from mambattn.explain.hf import run_transformers

        return run_transformers(model, x)
    return model(x)


@run_model.register
def _(model: TabularNetwork, x: Tensor) -> Tensor:
    return model.head(model.backbone(x))


def _layers(stack: Stack, x: Tensor) -> tuple[Layer, ...]:
    layers = []
    for index, (kind, block) in enumerate(zip(layer_kinds(stack.schedule), stack.layers, strict=True)):
        layers.append(_layer(index, kind, cast("Block", block), x))
        x = layers[-1].y
    return tuple(layers)


def _layer(index: int, kind: str, block: Block, x: Tensor) -> Layer:
    is_pre = block.norm_position == "pre"
    entered = block.norm(x) if is_pre else x
    routes = routes_of(block.mixer, entered)
    joined = sum((route.output(entered) for route in routes), start=x)  # not the mixer itself, which may drop out
    return Layer(
        layer=index,
        kind=kind,
        x=x,
        y=joined if is_pre else block.norm(joined),
        enter=frozen_norm(block.norm, x) if is_pre else None,
        routes=routes,
        leave=None if is_pre else frozen_norm(block.norm, joined),
    )

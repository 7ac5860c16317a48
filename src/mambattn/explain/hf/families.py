"""How the layers of each family of transformers are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.explain.hf.attention import attention_route
from mambattn.explain.hf.state_space import mamba2_route, mamba_route
from mambattn.explain.pointwise import Pointwise
from mambattn.explain.route import Route

__all__ = ["FAMILIES", "Call", "Family"]


_TOLERANCE = 1e-2
"""How far a mixer may be off, relative to its output: far above rounding, far below a part left out."""


def _one(layer: Any, part: str) -> float:
    return 1.0


@dataclass(frozen=True)
class Call:
    """One call of a module, as it was run.

    Parameters
    ----------
    module : nn.Module
        The module.
    x : Tensor of shape (batch, seq_len, d_in)
        Its input.
    given : dict
        The other arguments.
    y : Tensor
        Its output, the first if there are several.
    """

    module: Any
    x: Tensor
    given: dict[str, Any]
    y: Tensor


@dataclass(frozen=True)
class Family:
    """What differs from family to family.

    Parameters
    ----------
    state_space : callable
        Maps a state space mixer and its input to its route.
    mixers : tuple of str
        Attributes of a decoder layer that are mixers, of which one layer may have several.
    norm : str
        Attribute of the norm before the mixer.
    mlp_norm : str or None
        That of the norm before the feed-forward part; a layer without it, and all where it is None, have no such part.
    mlps : tuple of str
        Attributes of the feed-forward parts, whose outputs add up.
    n_factors : int
        Linear maps in a product of the feed-forward part; see `Pointwise`.
    factor : callable
        Maps a decoder layer and the name of a part to what its output is multiplied by.
    is_parallel : bool
        Whether a layer runs its mixers side by side, on the same input.
    """

    state_space: Callable[[Any, Tensor], Route]
    mixers: tuple[str, ...] = ("mixer",)
    norm: str = "norm"
    mlp_norm: str | None = None
    mlps: tuple[str, ...] = ()
    n_factors: int = 2
    factor: Callable[[Any, str], float] = _one
    is_parallel: bool = False

    def mixers_of(self, layer: nn.Module) -> dict[str, nn.Module]:
        """Give the modules of a decoder layer that mix tokens.

        Parameters
        ----------
        layer : nn.Module
            The decoder layer.

        Returns
        -------
        dict of str to nn.Module
            By attribute; empty where the layer is feed-forward.
        """
        there = {name: getattr(layer, name, None) for name in self.mixers}
        return {
            name: mixer
            for name, mixer in there.items()
            if mixer is not None and (hasattr(mixer, "q_proj") or hasattr(mixer, "A_log"))
        }

    def read(self, mixer: Any, x: Tensor, given: dict[str, Any]) -> Route:
        """Give the route of a mixer at its own input and output.

        Parameters
        ----------
        mixer : nn.Module
            The mixer.
        x : Tensor of shape (batch, seq_len, d_in)
            Its input.
        given : dict
            The other arguments of the call.

        Returns
        -------
        Route
            The route.
        """
        return attention_route(mixer, x, given) if hasattr(mixer, "q_proj") else self.state_space(mixer, x)

    def route(self, call: Call, layer: Any, part: str) -> Route:
        """Give the route of a mixer, as its decoder layer adds it to the residual stream.

        Parameters
        ----------
        call : Call
            The mixer's call.
        layer : nn.Module
            The decoder layer.
        part : str
            Which of its mixers.

        Returns
        -------
        Route
            The route, at the mixer's own input.

        Raises
        ------
        ConfigError
            If the mixer gave something else: other versions of transformers and other kernels may.
        """
        route = self.read(call.module, call.x, call.given)
        _check_made_again(call, route)
        if self.is_parallel:
            # What Falcon-H1 puts before its attention's projections.
            before = layer.attention_in_multiplier if part == "self_attn" else 1.0
            label = "attention" if part == "self_attn" else "state space"
            route = replace(route, value_weight=route.value_weight * before, label=label)
        return route.scaled(self.factor(layer, part))

    def pointwise(self, layer: Any, x: Tensor) -> Pointwise:
        """Give the feed-forward part of a decoder layer.

        Parameters
        ----------
        layer : nn.Module
            The decoder layer.
        x : Tensor of shape (batch, seq_len, d_model)
            The input of the part.

        Returns
        -------
        Pointwise
            The part.
        """
        names = [name for name in self.mlps if name != "block_sparse_moe" or layer.has_experts]
        return Pointwise(tuple(getattr(layer, name) for name in names), x, self.factor(layer, "mlp"), self.n_factors)


def _check_made_again(call: Call, route: Route) -> None:
    error = (route.output(call.x) - call.y).norm() / call.y.norm().clamp_min(torch.finfo(call.y.dtype).tiny)
    if error > _TOLERANCE:
        raise ConfigError(
            f"`model` must compute what its weights say, however {type(call.module).__name__} is {float(error):.1%} "
            "off. Use transformers from 5.23 on, and kernels of full precision."
        )


def _falcon_factor(layer: Any, part: str) -> float:
    return {"mamba": layer.ssm_out_multiplier, "self_attn": layer.attn_out_multiplier, "mlp": 1.0}[part]


def _granite_factor(layer: Any, part: str) -> float:
    return layer.residual_multiplier


_EITHER = ("mamba", "self_attn")
_PLAIN = Family(mamba_route)
_DECODER = Family(mamba2_route, _EITHER, norm="input_layernorm", mlp_norm="pre_ff_layernorm", mlps=("feed_forward",))
FAMILIES: dict[str, Family] = {
    "mamba": _PLAIN,
    "falcon_mamba": _PLAIN,
    "mamba2": replace(_PLAIN, state_space=mamba2_route),
    "jamba": replace(_DECODER, state_space=mamba_route),
    "bamba": _DECODER,
    "zamba2": _DECODER,
    "falcon_h1": replace(_DECODER, is_parallel=True, factor=_falcon_factor),
    "granitemoehybrid": replace(
        _DECODER,
        mlp_norm="post_attention_layernorm",
        mlps=("block_sparse_moe", "shared_mlp"),
        factor=_granite_factor,
    ),
    "nemotron_h": replace(_PLAIN, state_space=mamba2_route, mlps=("mixer",), n_factors=1),
}
"""By `config.model_type`."""

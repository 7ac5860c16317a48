"""The routes of this library's mixers."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.explain.held import Gate
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.route import Route
from mambattn.explain.state_space import state_space_route
from mambattn.explain.weights import Weights
from mambattn.mixers import MLP, GlobalLocalAttention, Mamba, Mamba2, Mixer
from mambattn.mixers._self_attention import SelfAttention
from mambattn.mixers._ssm import decay_rates
from mambattn.mixers.mamba2 import _EPS
from mambattn.ops import causal_conv1d
from mambattn.ops.attend.reference import attention_weights
from mambattn.ops.scan.reference import step_size

__all__ = ["routes_of"]


@singledispatch
def routes_of(mixer: Mixer, x: Tensor) -> tuple[Route, ...]:
    """Give the routes through a mixer at one input, without dropout.

    Parameters
    ----------
    mixer : Mixer
        A mixer.
    x : Tensor of shape (batch, seq_len, d_model)
        Its input.

    Returns
    -------
    tuple of Route
        The ways through it, whose outputs add up to the mixer's.

    Raises
    ------
    ConfigError
        If there is no explanation of this mixer.
    """
    raise ConfigError(
        f"`mixer` must be Mamba, Mamba2, an attention or an MLP, however it is a {type(mixer).__name__}, which nobody "
        "has taken apart yet."
    )


@routes_of.register
def _(mixer: Mamba, x: Tensor) -> tuple[Route, ...]:
    ahead = _mamba(mixer, x)
    if mixer.flipped is None:
        return (ahead,)
    back = replace(_mamba(mixer.flipped, x.flip(1)), label="backward", is_reversed=True)
    return tuple(route.scaled(0.5) for route in (replace(ahead, label="forward"), back))


def _mamba(mixer: Mamba, x: Tensor) -> Route:
    """Give the route of one direction; x is in its order of time."""
    v, z = mixer.in_proj(x).chunk(2, dim=-1)
    c = causal_conv1d(v, mixer.conv_weight, mixer.conv_bias)
    dt, B, C = mixer._select(F.silu(c))
    A = decay_rates(mixer.A_log)
    dt = step_size(dt.to(A.dtype), mixer.dt_bias, dt_softplus=True)
    return state_space_route(
        Recurrence(dt, A, B[:, :, None], C[:, :, None], mixer.D),
        c,
        z,
        (mixer.in_proj.weight, mixer.in_proj.bias),
        (mixer.conv_weight, mixer.conv_bias),
        mixer.out_proj,
        gate_first=False,
    )


@routes_of.register
def _(mixer: Mamba2, x: Tensor) -> tuple[Route, ...]:
    z, mixed, dt = mixer._split_in(x)
    c = causal_conv1d(mixed, mixer.conv_weight, mixer.conv_bias)
    values, B, C = mixer._split_mixed(F.silu(c))
    A = decay_rates(mixer.A_log)
    dt = step_size(dt.to(A.dtype), mixer.dt_bias, dt_softplus=True)
    mixing = Recurrence(dt, A, B, C, mixer.D)
    gated = mixing.apply(values).flatten(2) * F.silu(z)
    # RMSNorm(y) = y · weight / rms(y): the root mean square is held, and joins the gate.
    scale = mixer.norm.weight * torch.rsqrt(gated.square().mean(-1, keepdim=True) + _EPS)
    route = state_space_route(
        mixing,
        c,
        z,
        (mixer.in_proj.weight, mixer.in_proj.bias),
        (mixer.conv_weight, mixer.conv_bias),
        mixer.out_proj,
        gate_first=True,
        scale=scale,
    )
    return (route,)


@routes_of.register
def _(mixer: SelfAttention, x: Tensor) -> tuple[Route, ...]:
    q, k, _ = mixer._project(x)
    weights = attention_weights(q, k, causal=mixer.causal, window=mixer.window, n_global=mixer.n_global)
    n_values = mixer.n_kv_heads * mixer.d_head
    shared = mixer.n_heads // mixer.n_kv_heads

    def by_head(x: Tensor) -> Tensor:
        return x[-n_values:].unflatten(0, (mixer.n_kv_heads, -1)).repeat_interleave(shared, dim=0).flatten(0, 1)

    return (
        Route(
            label="",
            mixing=Weights(weights.to(x.dtype)),
            value_weight=by_head(mixer.in_proj.weight),
            value_bias=None if mixer.in_proj.bias is None else by_head(mixer.in_proj.bias),
            out_weight=mixer.out_proj.weight,
            out_bias=mixer.out_proj.bias,
        ),
    )


@routes_of.register
def _(mixer: GlobalLocalAttention, x: Tensor) -> tuple[Route, ...]:
    (local,) = routes_of(mixer.local_attention, x)
    if mixer.global_attention is None:
        return (local,)
    (everywhere,) = routes_of(mixer.global_attention, x)
    return replace(everywhere, label="global"), replace(local, label="local")


@routes_of.register
def _(mixer: MLP, x: Tensor) -> tuple[Route, ...]:
    mlp = mixer.mlp
    gate_weight, value_weight = mlp.in_proj.weight.chunk(2)
    gate_bias, value_bias = (None, None) if mlp.in_proj.bias is None else mlp.in_proj.bias.chunk(2)
    z = F.linear(x, gate_weight, gate_bias)
    return (
        Route(
            label="",
            mixing=None,
            value_weight=value_weight,
            value_bias=value_bias,
            gate=Gate(gate_weight, gate_bias, torch.sigmoid(z)),
            gate_values=F.silu(z),
            out_weight=mlp.out_proj.weight,
            out_bias=mlp.out_proj.bias,
        ),
    )

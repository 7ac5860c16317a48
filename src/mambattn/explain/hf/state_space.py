"""The routes of transformers' state space mixers, recomputed from their weights at their own input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.route import Route
from mambattn.explain.state_space import state_space_route
from mambattn.mixers._ssm import decay_rates
from mambattn.ops import causal_conv1d

__all__ = ["mamba2_route", "mamba_route"]


def mamba_route(mixer: Any, x: Tensor) -> Route:
    """Give the route of a Mamba-1 mixer: of mamba, falcon_mamba and jamba.

    Jamba and Falcon Mamba put dt, B and C through a norm; that is part of the routing.

    Parameters
    ----------
    mixer : nn.Module
        A MambaMixer, FalconMambaMixer or JambaMambaMixer.
    x : Tensor of shape (batch, seq_len, d_model)
        Its input.

    Returns
    -------
    Route
        The route.
    """
    _check_silu(mixer)
    v, z = mixer.in_proj(x).chunk(2, dim=-1)
    conv = _conv(mixer)
    c = causal_conv1d(v, *conv)
    dt, B, C = mixer.x_proj(F.silu(c)).split([mixer.time_step_rank, *[mixer.ssm_state_size] * 2], dim=-1)
    if hasattr(mixer, "dt_layernorm"):
        dt, B, C = mixer.dt_layernorm(dt), mixer.b_layernorm(B), mixer.c_layernorm(C)
    dt = F.softplus(F.linear(dt, mixer.dt_proj.weight, mixer.dt_proj.bias))
    mixing = Recurrence(dt, decay_rates(mixer.A_log), B[:, :, None], C[:, :, None], mixer.D)
    in_proj = (mixer.in_proj.weight, mixer.in_proj.bias)
    return state_space_route(mixing, c, z, in_proj, conv, mixer.out_proj, gate_first=False)


def mamba2_route(mixer: Any, x: Tensor) -> Route:
    """Give the route of a Mamba-2 mixer: of mamba2, bamba, zamba2, falcon_h1, granitemoehybrid and nemotron_h.

    Multipliers of Falcon-H1 scale the weights of the projection; limits act on the step sizes; a gated norm, over
    groups or not, before the gate or behind it, is a scale of the gate.

    Parameters
    ----------
    mixer : nn.Module
        The mixer.
    x : Tensor of shape (batch, seq_len, d_model)
        Its input.

    Returns
    -------
    Route
        The route.
    """
    _check_silu(mixer)
    weight, bias = mixer.in_proj.weight, mixer.in_proj.bias
    if hasattr(mixer, "mup_vector"):
        multiplier = mixer.mup_vector.flatten()
        weight = weight * (multiplier * mixer.ssm_in_multiplier)[:, None]
        bias = None if bias is None else bias * multiplier
    d_inner, d_conv_in = mixer.intermediate_size, mixer.conv_dim
    z, mixed, dt = F.linear(x, weight, bias).split([d_inner, d_conv_in, mixer.num_heads], dim=-1)
    conv = _conv(mixer)
    c = causal_conv1d(mixed, *conv)
    width = mixer.n_groups * mixer.ssm_state_size
    values, B, C = F.silu(c).split([d_inner, width, width], dim=-1)
    mixing = Recurrence(
        F.softplus(dt + mixer.dt_bias).clamp(*mixer.time_step_limit),
        decay_rates(mixer.A_log),
        B.unflatten(-1, (mixer.n_groups, -1)),
        C.unflatten(-1, (mixer.n_groups, -1)),
        mixer.D,
    )
    y = mixing.apply(values.unflatten(-1, (mixer.num_heads, -1))).flatten(2)
    scale = _norm_scale(getattr(mixer, "norm", None), y, z)
    return state_space_route(mixing, c, z, (weight, bias), conv, mixer.out_proj, gate_first=True, scale=scale)


def _conv(mixer: Any) -> tuple[Tensor, Tensor | None]:
    return mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias


def _norm_scale(norm: Any, y: Tensor, z: Tensor) -> Tensor:
    """Give weight over the root mean square of each group, by which a gated norm multiplies; 1 where there is none."""
    if norm is None or isinstance(norm, nn.Identity):  # Falcon-H1 has the latter, unless mamba_rms_norm is set
        return torch.ones_like(y)
    normed = y if getattr(norm, "norm_before_gate", False) else y * F.silu(z)
    n_groups = norm.n_groups if hasattr(norm, "n_groups") else y.shape[-1] // norm.group_size
    grouped = normed.unflatten(-1, (n_groups, -1))
    rate = torch.rsqrt(grouped.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return rate.expand_as(grouped).flatten(-2) * norm.weight


def _check_silu(mixer: Any) -> None:
    if mixer.activation not in ("silu", "swish"):
        raise ConfigError(
            f"`model` must have silu behind its convolutions, however {type(mixer).__name__} has {mixer.activation!r}."
        )

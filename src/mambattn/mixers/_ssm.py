"""What Mamba and Mamba-2 share: the initial step sizes, the decay rates and their sums over segments."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError

__all__ = ["check_dt_range", "decay_rates", "draw_conv", "draw_dt_bias", "segment_sums"]


def check_dt_range(dt_min: float, dt_max: float, dt_init_floor: float) -> None:
    """Raise `ConfigError` unless the range of the initial step sizes is one."""
    if not 0 < dt_min <= dt_max:
        raise ConfigError(
            f"`dt_min` and `dt_max` must satisfy 0 < dt_min <= dt_max, however dt_min={dt_min!r}, dt_max={dt_max!r}."
        )
    if not 0 <= dt_init_floor <= dt_max:
        raise ConfigError(
            f"`dt_init_floor` must be in [0, dt_max], however dt_init_floor={dt_init_floor!r}, dt_max={dt_max!r}."
        )


def draw_dt_bias(size: int, dt_min: float, dt_max: float, dt_init_floor: float) -> nn.Parameter:
    """Draw a bias whose softplus is log-uniform over [dt_min, dt_max] and at least the floor.

    It is a parameter of its own, not the bias of a linear layer, so that no initialiser of linear layers that a user
    runs over the model overwrites it.
    """
    dt = torch.exp(torch.empty(size).uniform_(math.log(dt_min), math.log(dt_max))).clamp(dt_min, dt_max)
    dt = dt.clamp(min=dt_init_floor)
    return nn.Parameter(dt + torch.log(-torch.expm1(-dt)))


def draw_conv(d_inner: int, d_conv: int, bias: bool) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Draw weight (d_inner, d_conv) and bias of a short convolution, uniform over ± 1 / sqrt(d_conv)."""
    bound = d_conv**-0.5
    weight = nn.Parameter(torch.empty(d_inner, d_conv).uniform_(-bound, bound))
    return weight, nn.Parameter(torch.empty(d_inner).uniform_(-bound, bound)) if bias else None


def decay_rates(A_log: Tensor) -> Tensor:
    """Return A = −exp(A_log), in float32 at least: the scan raises exp(A) to powers as high as seq_len."""
    return -torch.exp(A_log.to(torch.promote_types(A_log.dtype, torch.float32)))


def segment_sums(dt: Tensor) -> Tensor:
    """Sum the step sizes between every two tokens.

    Maps dt (batch, seq_len, n) to S (batch, n, seq_len, seq_len), ``S[i, j] = Σ_{k=j+1..i} dt_k`` for j ≤ i and 0
    above the diagonal, so that an exponent A · S is never positive. The sums are taken and subtracted in float64: in
    float32 the difference of two long sums is off by 1e-4.
    """
    total = dt.double().cumsum(dim=1).transpose(1, 2)
    return (total[..., :, None] - total[..., None, :]).clamp(min=0).tril().to(dt.dtype)

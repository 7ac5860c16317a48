"""Norms and gates held at one input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["FrozenNorm", "Gate", "held_rms"]


@dataclass(frozen=True)
class FrozenNorm:
    """A norm whose scale is held at one input, which leaves an affine map of a token.

    ``y = scale ⊙ (x − mean(x)) + bias``, the mean taken off only if `centred` (LayerNorm).

    Parameters
    ----------
    scale : Tensor of shape (batch, seq_len, d_model)
        Learned weight over the root of the variance or mean square.
    bias : Tensor of shape (d_model,) or None
        Learned bias.
    centred : bool
        Whether the mean is taken off.
    """

    scale: Tensor
    bias: Tensor | None
    centred: bool

    def linear(self, x: Tensor) -> Tensor:
        """Map without the bias.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            Scaled tokens.
        """
        return (x - x.mean(-1, keepdim=True) if self.centred else x) * self.scale

    def __call__(self, x: Tensor) -> Tensor:
        """Map with the bias.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            What the norm gives at the input that it is held at.
        """
        y = self.linear(x)
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True)
class Gate:
    """The gate of a state space layer: ``z ⊙ scale`` with ``z = W x + b``, the scale held at one input.

    The scale of ``silu(z) = z σ(z)`` is σ(z); a gated norm behind it brings in its weight over the root mean square.

    Parameters
    ----------
    weight : Tensor of shape (d_inner, d_in)
        The map W.
    bias : Tensor of shape (d_inner,) or None
        The bias b.
    scale : Tensor of shape (batch, seq_len, d_inner)
        The held scale.
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Give the gate's values.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_inner)
            Values.
        """
        return F.linear(x, self.weight, self.bias) * self.scale


def held_rms(x: Tensor, weight: Tensor, eps: float) -> FrozenNorm:
    """Hold an RMSNorm at one input.

    Parameters
    ----------
    x : Tensor of shape (..., d_model)
        Its input.
    weight : Tensor of shape (d_model,)
        Its weight.
    eps : float
        What it adds to the mean square.

    Returns
    -------
    FrozenNorm
        The linear map that it is there.
    """
    return FrozenNorm(torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight, None, centred=False)

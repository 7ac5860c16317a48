"""The route of a Mamba or Mamba-2 mixer, from what it computes on the way to its scan."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn.explain.held import Gate
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.route import Route

__all__ = ["state_space_route"]


def state_space_route(
    mixing: Recurrence,
    c: Tensor,
    z: Tensor,
    in_proj: tuple[Tensor, Tensor | None],
    conv: tuple[Tensor, Tensor | None],
    out_proj: nn.Linear,
    *,
    gate_first: bool,
    scale: Tensor | None = None,
) -> Route:
    """Put a route together: ``W_o (silu(z) scale ⊙ mixing(silu(c)))``, with σ(c), σ(z) and the scale held.

    Parameters
    ----------
    mixing : Recurrence
        The scan at this input.
    c : Tensor of shape (batch, seq_len, d_conv_in)
        What leaves the convolution, the values first; in Mamba-2 B and C follow.
    z : Tensor of shape (batch, seq_len, d_inner)
        The gate's argument.
    in_proj : tuple of Tensor and (Tensor or None)
        Weight and bias of the projection, whose first 2 · d_inner rows make the values and z.
    conv : tuple of Tensor and (Tensor or None)
        Weight (d_conv_in, d_conv) and bias of the convolution.
    out_proj : nn.Linear
        The projection back.
    gate_first : bool
        Whether the rows of z come before those of the values, as in Mamba-2.
    scale : Tensor of shape (batch, seq_len, d_inner) or None, default None
        What a gated norm multiplies by; None is no norm.

    Returns
    -------
    Route
        The route, without a label.
    """
    d_inner = z.shape[-1]
    first, second = slice(d_inner), slice(d_inner, 2 * d_inner)
    gate, value = (first, second) if gate_first else (second, first)
    held = torch.sigmoid(z) if scale is None else torch.sigmoid(z) * scale
    return Route(
        label="",
        mixing=mixing,
        value_weight=in_proj[0][value],
        value_bias=_rows(in_proj[1], value),
        conv_weight=conv[0][:d_inner],
        conv_bias=_rows(conv[1], first),
        act=torch.sigmoid(c[..., :d_inner]),
        gate=Gate(in_proj[0][gate], _rows(in_proj[1], gate), held),
        gate_values=F.silu(z) if scale is None else F.silu(z) * scale,
        out_weight=out_proj.weight,
        out_bias=out_proj.bias,
    )


def _rows(bias: Tensor | None, rows: slice) -> Tensor | None:
    return None if bias is None else bias[rows]

"""The MLP layer of a schedule, as a mixer that mixes no tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mambattn.mixers.base import AttentionView, Mixer
from mambattn.nn import GatedMLP
from mambattn.nn._checks import check_counts

__all__ = ["MLP", "MLPState"]


class MLPState(NamedTuple):
    """The state of an MLP, which remembers nothing."""


class MLP(Mixer):
    """Gated MLP (SwiGLU; arXiv 2002.05202, equation 6), token by token: ``y = W_down (silu(W_gate x) ⊙ W_up x)``.

    Its attention view has one map, the identity, over the gated hidden values.

    Parameters
    ----------
    d_model : int
        Width of a token.
    expand : int, default 2
        Hidden width, in units of `d_model`.
    bias : bool, default False
        Whether the maps have a bias.

    Examples
    --------
    >>> MLP(8).attention_view(torch.randn(1, 3, 8)).matrix[0, 0]
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """

    def __init__(self, d_model: int, *, expand: int = 2, bias: bool = False) -> None:
        check_counts(d_model=d_model, expand=expand)
        super().__init__(d_model, n_maps=1, causal=True)
        self.mlp = GatedMLP(d_model, expand * d_model, bias=bias)

    def _forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)

    def _view(self, x: Tensor) -> AttentionView:
        batch, seq_len, _ = x.shape
        hidden = self.mlp.hidden(x)
        matrix = torch.eye(seq_len, dtype=hidden.dtype, device=hidden.device).expand(batch, 1, seq_len, seq_len)
        return AttentionView(matrix, hidden[:, :, None], lambda mixed: self.mlp.out_proj(mixed.squeeze(2)))

    def _flops(self, seq_len: int) -> int:
        return 6 * seq_len * self.d_model * self.mlp.d_hidden

    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> MLPState:
        return MLPState()

    def _step(self, x_t: Tensor, state: MLPState) -> tuple[Tensor, MLPState]:
        return self.mlp(x_t), state

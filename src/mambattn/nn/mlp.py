"""The gated MLP."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn.nn.maps import Linear

__all__ = ["GatedMLP"]


class GatedMLP(nn.Module):
    """Gated MLP (SwiGLU; arXiv 2002.05202, equation 6), token by token.

    ``y = W_down (silu(W_gate x) ⊙ W_up x)``, with a bias in each map where asked.

    Parameters
    ----------
    d_model : int
        Width of a token.
    d_hidden : int
        Width of the gate.
    bias : bool, default False
        Whether the three maps have a bias.

    Examples
    --------
    >>> GatedMLP(8, 16)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, d_model: int, d_hidden: int, *, bias: bool = False) -> None:
        super().__init__()
        self.d_model = d_model
        self.d_hidden = d_hidden
        self.in_proj = Linear(d_model, 2 * d_hidden, bias=bias)
        self.out_proj = Linear(d_hidden, d_model, bias=bias)

    def hidden(self, x: Tensor) -> Tensor:
        """Return what the last map reads.

        Parameters
        ----------
        x : Tensor of shape (..., d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (..., d_hidden)
            ``silu(W_gate x) ⊙ W_up x``.
        """
        gate, up = torch.chunk(self.in_proj(x), 2, dim=-1)
        return F.silu(gate) * up

    def forward(self, x: Tensor) -> Tensor:
        """Map each token.

        Parameters
        ----------
        x : Tensor of shape (..., d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (..., d_model)
            The mapped tokens.
        """
        return self.out_proj(self.hidden(x))

"""Features of numbers inside the network: periodic, and piecewise linear."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mambattn.tabular.piecewise import bin_limits

__all__ = ["Periodic", "PiecewiseLinear"]


class Periodic(nn.Module):
    """Periodic features of numbers (arXiv 2203.05556, section 3.3): sin(2π c x) and cos(2π c x).

    Parameters
    ----------
    n_numeric : int
        Columns.
    n_frequencies : int
        Learned frequencies c a column.
    frequency_scale : float
        Standard deviation of their initial values.

    Examples
    --------
    >>> Periodic(3, 4, 0.1)(torch.zeros(2, 3)).shape
    torch.Size([2, 3, 8])
    """

    def __init__(self, n_numeric: int, n_frequencies: int, frequency_scale: float) -> None:
        super().__init__()
        self.n_features = 2 * n_frequencies
        self.frequencies = nn.Parameter(frequency_scale * torch.randn(n_numeric, n_frequencies))

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode numbers.

        Parameters
        ----------
        numbers : Tensor of shape (rows, n_numeric)
            Scaled numbers.

        Returns
        -------
        Tensor of shape (rows, n_numeric, 2 * n_frequencies)
            First the sines, then the cosines.
        """
        angle = 2 * torch.pi * self.frequencies * numbers.unsqueeze(-1)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)


class PiecewiseLinear(nn.Module):
    """Piecewise-linear encoding of numbers, see `mambattn.tabular.piecewise_linear`, with the bins as buffers.

    Parameters
    ----------
    edges : numpy.ndarray
        Increasing edges of shape (n_numeric, n_bins + 1), NaN behind the last one of a column.

    Examples
    --------
    >>> PiecewiseLinear(np.array([[0.0, 1.0, 3.0]]))(torch.tensor([[2.0]]))
    tensor([[[1.0000, 0.5000]]])
    """

    left: Tensor
    size: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, edges: np.ndarray) -> None:
        super().__init__()
        self.n_features = edges.shape[1] - 1
        for name, values in zip(("left", "size", "low", "high"), bin_limits(edges), strict=True):
            self.register_buffer(name, torch.from_numpy(values).float())

    def forward(self, numbers: Tensor) -> Tensor:
        """Encode numbers.

        Parameters
        ----------
        numbers : Tensor of shape (rows, n_numeric)
            Scaled numbers.

        Returns
        -------
        Tensor of shape (rows, n_numeric, n_bins)
            Their encodings.
        """
        share = (numbers.unsqueeze(-1) - self.left) / self.size
        return torch.minimum(torch.maximum(share, self.low), self.high)

"""Attention weights held at one input: a matrix over positions for each head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Weights"]


@dataclass(frozen=True)
class Weights:
    """Attention weights.

    Parameters
    ----------
    matrix : Tensor of shape (batch, n_maps, seq_len, seq_len)
        Row i holds the weights of what token i reads.
    """

    matrix: Tensor

    @property
    def batch(self) -> int:
        """How many sequences there are."""
        return self.matrix.shape[0]

    @property
    def seq_len(self) -> int:
        """How long they are."""
        return self.matrix.shape[2]

    @property
    def n_maps(self) -> int:
        """How many maps there are."""
        return self.matrix.shape[1]

    @property
    def D(self) -> None:
        """Attention has no skip."""
        return None

    def apply(self, values: Tensor) -> Tensor:
        """Mix values; see `Recurrence.apply`.

        Parameters
        ----------
        values : Tensor of shape (batch, seq_len, n_maps, d_value)
            What is mixed.

        Returns
        -------
        Tensor of shape (batch, seq_len, n_maps, d_value)
            The mixed values.
        """
        return torch.einsum("bmij,bjmv->bimv", self.matrix, values)

    def rows(self, index: Tensor) -> Tensor:
        """Give rows; see `Recurrence.rows`.

        Parameters
        ----------
        index : Tensor of int, (n_rows,)
            Positions that read.

        Returns
        -------
        Tensor of shape (batch, n_rows, seq_len, n_maps)
            Weights of the sources.
        """
        return self.matrix[:, :, index].permute(0, 2, 3, 1)

    def weighted(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Sum over all maps and value channels; see `Recurrence.weighted`.

        Parameters
        ----------
        rows : Tensor of shape (batch, seq_len, n_maps, d_value)
            Weights of the positions that read.
        columns : Tensor of shape (batch, n_sums, seq_len, n_maps, d_value)
            Weights of the sources.

        Returns
        -------
        Tensor of shape (batch, n_sums, seq_len, seq_len)
            The sums.
        """
        joined = torch.einsum("bimp,btjmp->btmij", rows, columns)
        return (self.matrix[:, None] * joined).sum(2)

    def sent_back(self, weights: Tensor) -> Tensor:
        """Give what positions read from each source in the mean; see `Recurrence.sent_back`.

        Parameters
        ----------
        weights : Tensor of shape (batch, seq_len)
            Weights of the positions that read.

        Returns
        -------
        Tensor of shape (batch, seq_len)
            What they read.
        """
        return torch.einsum("bi,bmij->bj", weights, self.matrix) / self.n_maps

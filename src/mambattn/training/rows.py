"""The rows that a network is trained on: inputs, targets and weights, all in memory on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch

__all__ = ["Rows"]


class Batch(Protocol):
    """What the loop needs to know of a network's input, such as a `mambattn.tabular.TableBatch`."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, index: torch.Tensor) -> Self:
        """Return the rows at the positions `index`."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the rows on a device."""
        ...


@dataclass(frozen=True)
class Rows:
    """Inputs with their targets and weights.

    Parameters
    ----------
    batch : Batch
        Input of the network, of `n` rows.
    targets : torch.Tensor
        Shape (n,): int64 class codes, or float32 numbers.
    weights : torch.Tensor
        Shape (n,), float32: weight of each row in the loss, in units of the mean weight.
    """

    batch: Batch
    targets: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: torch.Tensor) -> Rows:
        """Pick rows.

        Parameters
        ----------
        index : torch.Tensor
            Their positions, int64.

        Returns
        -------
        Rows
            Those rows, in that order.
        """
        return Rows(self.batch.take(index), self.targets[index], self.weights[index])

    def to(self, device: torch.device) -> Rows:
        """Move the rows to a device.

        Parameters
        ----------
        device : torch.device
            Where to.

        Returns
        -------
        Rows
            The rows there.
        """
        return Rows(self.batch.to(device), self.targets.to(device), self.weights.to(device))

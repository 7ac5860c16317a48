"""Rows of a table as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from mambattn._errors import ShapeError

__all__ = ["TableBatch"]


@dataclass(frozen=True, eq=False)
class TableBatch:
    """Rows of a table as tensors, as `TablePreprocessor.transform` makes them and `TableTokenizer` takes them.

    Parameters
    ----------
    numbers : torch.Tensor
        Scaled numbers, of shape (rows, n_numeric), or (rows, n_numeric, width) where the preprocessing turns a number
        into a vector. Zero where missing.
    missing : torch.Tensor
        Whether a number is missing: bool of shape (rows, n_numeric).
    categories : torch.Tensor
        Indices of the categories: int64 of shape (rows, n_categorical). 0 is missing, 1 unseen, the known follow.

    Raises
    ------
    ShapeError
        If the three do not fit together.

    Examples
    --------
    >>> batch = TableBatch(torch.zeros(5, 2), torch.zeros(5, 2, dtype=torch.bool), torch.ones(5, 1, dtype=torch.int64))
    >>> len(batch), len(batch.take(torch.tensor([0, 3])))
    (5, 2)
    """

    numbers: torch.Tensor
    missing: torch.Tensor
    categories: torch.Tensor

    def __post_init__(self) -> None:
        rows = self.missing.shape[0]
        fit_together = (
            self.missing.dim() == self.categories.dim() == 2
            and self.numbers.dim() in (2, 3)
            and self.numbers.shape[:2] == self.missing.shape
            and self.categories.shape[0] == rows
        )
        if not fit_together:
            raise ShapeError(
                "`numbers` must be (rows, n_numeric[, width]), `missing` (rows, n_numeric) and `categories` "
                f"(rows, n_categorical), however numbers={tuple(self.numbers.shape)}, "
                f"missing={tuple(self.missing.shape)}, categories={tuple(self.categories.shape)}."
            )

    def __len__(self) -> int:
        return self.missing.shape[0]

    def to(self, device: torch.device | str, *, dtype: torch.dtype | None = None) -> Self:
        """Move the rows to a device.

        Parameters
        ----------
        device : torch.device or str
            Where to.
        dtype : torch.dtype or None, default None
            New type of the numbers; None keeps it.

        Returns
        -------
        TableBatch
            The rows there.
        """
        return type(self)(
            self.numbers.to(device=device, dtype=dtype), self.missing.to(device), self.categories.to(device)
        )

    def take(self, index: torch.Tensor | slice) -> Self:
        """Pick rows.

        Parameters
        ----------
        index : torch.Tensor or slice
            Row numbers (int64), a bool mask, or a slice.

        Returns
        -------
        TableBatch
            Those rows, in that order.
        """
        return type(self)(self.numbers[index], self.missing[index], self.categories[index])

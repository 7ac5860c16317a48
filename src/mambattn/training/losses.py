"""Losses of single rows, and their weighted mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

__all__ = ["RowLoss", "cross_entropy", "squared_error", "weighted_loss"]

RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Give the cross-entropy of each row.

    Parameters
    ----------
    outputs : torch.Tensor
        Logits, shape (rows, n_classes).
    targets : torch.Tensor
        Class codes, shape (rows,), int64.

    Returns
    -------
    torch.Tensor
        Losses in nats, shape (rows,), float32 whatever the precision of the logits.
    """
    return F.cross_entropy(outputs.float(), targets, reduction="none")


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Give the squared error of each row.

    Parameters
    ----------
    outputs : torch.Tensor
        Predictions, shape (rows, 1).
    targets : torch.Tensor
        Targets, shape (rows,).

    Returns
    -------
    torch.Tensor
        Losses, shape (rows,), float32.
    """
    return (outputs.float().squeeze(1) - targets).square()


def weighted_loss(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Average the losses of a step, each row by its weight.

    With weights in units of the mean weight of all training rows, this is an unbiased estimate of the weighted mean
    loss; over all rows at once it *is* the weighted mean, and equals the plain mean over rows repeated `weight` times.

    Parameters
    ----------
    losses : torch.Tensor
        Losses, shape (rows,).
    weights : torch.Tensor
        Weights, shape (rows,).

    Returns
    -------
    torch.Tensor
        Σ weight · loss / rows, a scalar.
    """
    return torch.dot(losses, weights) / len(losses)

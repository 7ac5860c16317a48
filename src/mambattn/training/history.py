"""What a training run went through, epoch by epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

__all__ = ["History"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class History:
    """Learning curves of one fit; the lists have one entry an epoch, a last one that was cut short included.

    Parameters
    ----------
    train_loss : list of float
        Mean loss of the training rows, taken during the epoch, with dropout.
    val_loss : list of float
        Mean loss of the validation rows after the epoch, without dropout.
    lr : list of float
        Learning rate of the epoch's last step.
    seconds : list of float
        Time from the start of the fit to the end of the epoch, its validation included.
    best_epoch : int
        Epoch, counted from 1, whose weights were kept.
    stopped_by : {"max_epochs", "patience", "max_seconds", "interrupt"}
        What ended the training.
    """

    train_loss: list[float]
    val_loss: list[float]
    lr: list[float]
    seconds: list[float]
    best_epoch: int
    stopped_by: str

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON-ready values.

        Returns
        -------
        dict
            The fields.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a history from what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The fields.

        Returns
        -------
        History
            The history.
        """
        return cls(**values)

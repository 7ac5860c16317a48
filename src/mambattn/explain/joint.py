"""Which columns of a table act together: what two of them do beyond what each does alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambattn._errors import ConfigError
from mambattn.explain.estimator import table_input

__all__ = ["JointEffects", "joint_effects"]


@dataclass(frozen=True)
class JointEffects:
    """What single columns and pairs of columns do to the output of each row.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    values : Tensor of shape (rows, n_names, n_names)
        Effects of pairs, symmetric; on the diagonal those of single columns.
    """

    names: tuple[str, ...]
    values: Tensor

    @property
    def strength(self) -> Tensor:
        """Mean absolute effect over the rows: Tensor of shape (n_names, n_names)."""
        return self.values.abs().mean(0)

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields and `strength`.
        """
        return {"names": list(self.names), "values": self.values.tolist(), "strength": self.strength.tolist()}


def joint_effects(
    estimator: Any, rows: Any, columns: Sequence[str] | None = None, *, target: Any = None, background: Any = None
) -> JointEffects:
    """Measure the interaction of columns by taking away one, the other, and both.

    With f the output that is explained and x∖c a row whose column c has its mean token, the effect of a column is
    ``f(x) − f(x∖i)`` and the interaction of two is ``f(x) − f(x∖i) − f(x∖j) + f(x∖ij)``: 0 wherever f is a sum in
    which no term has both. This is what the model computes; `RowExplanation.interaction` is what its tokens have read.

    Parameters
    ----------
    estimator : estimator
        As `explain_rows` takes it.
    rows : array-like or frame of shape (n_rows, n_columns)
        A table with the columns of the fitted one.
    columns : sequence of str or None, default None
        Names of the columns to pair, such as the most important ones; None is all. The model runs once a pair.
    target : label or None, default None
        As in `explain_rows`.
    background : array-like or frame or None, default None
        As in `explain_rows`.

    Returns
    -------
    JointEffects
        The effects, in the order of `columns`.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ConfigError
        If it does not mix columns as tokens, a setting cannot hold, or there is no such column.
    DataError
        If the columns are not those of the fitted table.

    Examples
    --------
    >>> import numpy as np
    >>> from mambattn.configs import MambularConfig, TrainerConfig
    >>> from mambattn.models import MambularRegressor
    >>> table = np.random.default_rng(0).normal(size=(40, 3))
    >>> model = MambularRegressor(
    ...     MambularConfig(d_model=8, n_layers=1), trainer_config=TrainerConfig(max_epochs=1, verbose=0)
    ... ).fit(table, table[:, 0] * table[:, 1])
    >>> joint_effects(model, table, columns=["0", "1"]).strength.shape
    torch.Size([2, 2])
    """
    given = table_input(estimator, rows, target, background)
    names = given.names if columns is None else tuple(columns) if isinstance(columns, Iterable) else ()
    if isinstance(columns, str) or not names:
        raise ConfigError(
            f"`columns` must be names of columns, one at least, however columns={columns!r}. Use "
            f"columns={list(given.names[:2])}, or None for all."
        )
    unknown = [name for name in names if name not in given.names]
    if unknown:
        shown = f"{', '.join(given.names[:20])}{', …' if len(given.names) > 20 else ''}"
        raise ConfigError(f"`columns` must be columns of the table, however there is no {unknown[0]!r}. Use {shown}.")
    places = [given.names.index(name) for name in names]
    whole = given.outputs(given.tokens)

    def lost(*without: int) -> Tensor:
        tokens = given.tokens.clone()
        tokens[:, without] = given.baseline[list(without)]
        return whole - given.outputs(tokens)

    alone = [lost(place) for place in places]
    values = torch.diag_embed(torch.stack(alone, dim=1))
    for i in range(len(places)):
        for j in range(i):
            values[:, i, j] = values[:, j, i] = alone[i] + alone[j] - lost(places[i], places[j])
    return JointEffects(names, values)

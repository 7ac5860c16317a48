"""What the order of the columns does to a model whose mixers read them one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambattn.explain._checks import check_seed
from mambattn.explain.estimator import column_positions, table_input
from mambattn.explain.relevance import lrp
from mambattn.nn._checks import check_counts

__all__ = ["OrderEffects", "order_effects"]


@dataclass(frozen=True)
class OrderEffects:
    """Outputs and importance of the columns when the stack reads them in other orders.

    Parameters
    ----------
    names : tuple of str
        Names of the columns, in the order of the table.
    orders : Tensor of int, (1 + n_orders, n_columns)
        Columns in the order in which the stack reads them; the first order is the model's own.
    outputs : Tensor of shape (1 + n_orders, rows)
        The number that is explained, as in `RowExplanation`.
    importance : Tensor of shape (1 + n_orders, n_columns)
        Mean absolute relevance of each column, by `lrp`.
    """

    names: tuple[str, ...]
    orders: Tensor
    outputs: Tensor
    importance: Tensor

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each row's output over the other orders, around its own: Tensor of shape (rows,)."""
        return (self.outputs[1:] - self.outputs[0]).square().mean(0).sqrt()

    @property
    def share(self) -> float:
        """The spread as a share of that of the outputs over rows; NaN where they have none, as of one row."""
        own = self.outputs[0]
        if (own == own[0]).all():
            return float("nan")
        return float(self.spread.square().mean().sqrt() / (own - own.mean()).square().mean().sqrt())

    @property
    def ranks(self) -> Tensor:
        """Rank of each column by importance, from 1, in each order: Tensor of int, (1 + n_orders, n_columns)."""
        return self.importance.argsort(dim=1, descending=True).argsort(dim=1) + 1

    @property
    def agreement(self) -> Tensor:
        """Spearman correlation of the importance in each other order with that in the own: (n_orders,).

        NaN of a table with one column.
        """
        centred = self.ranks.double() - (1 + len(self.names)) / 2
        return (centred[1:] * centred[0]).sum(1) / centred[0].square().sum()

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields, `spread`, `share` and `agreement`.
        """
        return {
            "names": list(self.names),
            "orders": self.orders.tolist(),
            "outputs": self.outputs.tolist(),
            "importance": self.importance.tolist(),
            "spread": self.spread.tolist(),
            "share": self.share,
            "agreement": self.agreement.tolist(),
        }


def order_effects(
    estimator: Any, rows: Any, n_orders: int = 20, *, target: Any = None, background: Any = None, seed: int = 0
) -> OrderEffects:
    """Let a fitted model read the columns in other orders, and see what changes.

    A causal mixer reads columns one after the other, though a table has no order; the tokens themselves say which
    column they are. Attention that is not causal and knows no positions gives the same whatever the order.

    Parameters
    ----------
    estimator : estimator
        As `explain_rows` takes it.
    rows : array-like or frame of shape (n_rows, n_columns)
        A table with the columns of the fitted one.
    n_orders : int, default 20
        Orders to draw.
    target : label or None, default None
        As in `explain_rows`; None is the class predicted in the model's own order.
    background : array-like or frame or None, default None
        As in `explain_rows`.
    seed : int, default 0
        Seed of the orders.

    Returns
    -------
    OrderEffects
        Outputs and importance in each order.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ConfigError
        If it does not mix columns as tokens, or a setting cannot hold.
    DataError
        If the columns are not those of the fitted table.

    Examples
    --------
    >>> import numpy as np
    >>> from mambattn.configs import FTTransformerConfig, TrainerConfig
    >>> from mambattn.models import FTTransformerRegressor
    >>> table = np.random.default_rng(0).normal(size=(40, 3))
    >>> model = FTTransformerRegressor(
    ...     FTTransformerConfig(d_model=8, n_layers=1, n_heads=2), trainer_config=TrainerConfig(max_epochs=1, verbose=0)
    ... ).fit(table, table[:, 0])
    >>> order_effects(model, table, n_orders=5).share < 1e-4
    True
    """
    check_counts(n_orders=n_orders)
    check_seed(seed)
    given = table_input(estimator, rows, target, background)
    n_columns, device = len(given.names), given.tokens.device
    own = column_positions(given.network)[:n_columns].argsort()
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(n_columns, generator=generator).to(device) for _ in range(n_orders)]
    orders, outputs, importance = [own, *drawn], [], []
    for order in orders:
        # The model shuffles what it is given: the column at `own[i]` of the input is read i-th.
        given_as = torch.empty_like(order)
        given_as[own] = order
        tokens = given.tokens[:, given_as]
        relevance = lrp(given.network, tokens, given.score, given.baseline[given_as]).values.abs().mean(0)
        outputs.append(given.outputs(tokens))
        importance.append(torch.empty_like(relevance).index_copy(0, given_as, relevance))
    return OrderEffects(given.names, torch.stack(orders), torch.stack(outputs), torch.stack(importance))

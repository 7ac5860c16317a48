"""Rows of a table explained: each column of each row, the columns over all rows, and what they read from each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambattn.explain._checks import check_seed
from mambattn.explain.attribution import integrated_gradients, occlusion
from mambattn.explain.estimator import CLASS_TOKEN, column_positions, table_input
from mambattn.explain.flow import rollout
from mambattn.explain.maps import attention_maps
from mambattn.explain.relevance import lrp
from mambattn.explain.results import Attribution, Flow, LayerMap
from mambattn.nn._checks import check_one_of

__all__ = ["RowExplanation", "explain_rows"]

_METHODS = {"lrp": lrp, "integrated_gradients": integrated_gradients, "occlusion": occlusion}
_N_DRAWS = 2000


@dataclass(frozen=True)
class RowExplanation:
    """What each column had to do with the prediction of each row.

    Everything is in the order of the table's columns, whatever order the model's stack reads them in.

    Parameters
    ----------
    names : tuple of str
        Names of the columns.
    values : tuple of tuple
        Their values, row by row: numbers, booleans, text, None where missing.
    predictions : tuple
        What the estimator predicts.
    targets : tuple
        The class whose margin is explained, for each row; the prediction of a regressor.
    outputs : Tensor of shape (rows,)
        What is explained: the margin of the class, which is the log-odds of two; of a regressor the prediction's
        distance from the mean of the training target, in its units.
    attribution : Attribution
        Scores (rows, n_columns), in the units of `outputs`.
    importance : Tensor of shape (n_columns,)
        Mean absolute score over the rows.
    interval : Tensor of shape (n_columns, 2)
        95 % interval of the importance, by drawing the rows again; of one row it has no width.
    tokens : tuple of str
        Names of the positions of `maps` and `flow`: the columns, then "[class]" if the model has a class token.
    maps : tuple of LayerMap
        The block map of each mixer, mean over channels or heads.
    flow : Flow
        Rollout by norms through the whole stack, of what differs from the mean token of each column.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    predictions: tuple[Any, ...]
    targets: tuple[Any, ...]
    outputs: Tensor
    attribution: Attribution
    importance: Tensor
    interval: Tensor
    tokens: tuple[str, ...]
    maps: tuple[LayerMap, ...]
    flow: Flow

    @property
    def interaction(self) -> Tensor:
        """What the token of one column has taken from another: Tensor of shape (n_tokens, n_tokens).

        Row q, column s: the share of what stands at q after the last layer that came from s, mean over the rows. Rows
        sum to 1, and the matrix is not symmetric; a causal mixer lets a column read only those before it.
        """
        return self.flow.total.mean(0)

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields, and `interaction`.
        """
        return {
            "names": list(self.names),
            "values": [list(row) for row in self.values],
            "predictions": list(self.predictions),
            "targets": list(self.targets),
            "outputs": self.outputs.tolist(),
            "attribution": self.attribution.to_dict(),
            "importance": self.importance.tolist(),
            "interval": self.interval.tolist(),
            "tokens": list(self.tokens),
            "interaction": self.interaction.tolist(),
            "maps": [one.to_dict() for one in self.maps],
            "flow": self.flow.to_dict(),
        }


def explain_rows(
    estimator: Any, rows: Any, *, target: Any = None, method: str = "lrp", background: Any = None, seed: int = 0
) -> RowExplanation:
    """Explain the predictions of a fitted estimator, row by row and over all rows.

    Of a classifier the margin of a class is explained, ``z_c − mean_{k ≠ c} z_k`` with logits z, which is the log-odds
    of two classes: only differences of logits make probabilities. Of a regressor it is the prediction's distance from
    the mean of the training target, in its units.

    A row is a sequence of tokens, one a column, and the score of a cell is that of its token, compared with the mean
    token of its column. The importance of a column is ``I_c = mean_r |s[r, c]|``; its interval draws the rows again,
    2000 times.

    Parameters
    ----------
    estimator : estimator
        A fitted MambAttention, Mambular or FTTransformer, classifier or regressor.
    rows : array-like or frame of shape (n_rows, n_columns)
        A table with the columns of the fitted one; by name, in any order, where both have names.
    target : label or None, default None
        The class whose margin is explained, or its text; None is the predicted class of each row. A regressor has no
        choice.
    method : {"lrp", "integrated_gradients", "occlusion"}, default "lrp"
        How the scores come about.
    background : array-like or frame or None, default None
        Rows over which the mean is taken, such as those of the training; None is `rows` themselves.
    seed : int, default 0
        Seed of the interval.

    Returns
    -------
    RowExplanation
        Scores, importance, maps and flow.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ConfigError
        If it does not mix columns as tokens, a setting is unknown, or a single row would be compared with itself.
    DataError
        If the columns are not those of the fitted table.

    Examples
    --------
    >>> from mambattn.configs import MambAttentionConfig, TrainerConfig
    >>> from mambattn.models import MambAttentionClassifier
    >>> table = np.random.default_rng(0).normal(size=(40, 3))
    >>> model = MambAttentionClassifier(
    ...     MambAttentionConfig(d_model=8, n_layers=1, n_heads=2), trainer_config=TrainerConfig(max_epochs=1, verbose=0)
    ... ).fit(table, table[:, 0] > 0)
    >>> explained = explain_rows(model, table[:5])
    >>> explained.attribution.values.shape, explained.interval.shape, explained.tokens
    (torch.Size([5, 3]), torch.Size([3, 2]), ('0', '1', '2'))
    """
    check_one_of("method", method, tuple(_METHODS))
    check_seed(seed)
    given = table_input(estimator, rows, target, background)
    attribution = _METHODS[method](given.network, given.tokens, given.score, baseline=given.baseline)
    scores = attribution.values.abs()
    positions = column_positions(given.network)
    return RowExplanation(
        names=given.names,
        values=given.values,
        predictions=given.predictions,
        targets=given.targets,
        outputs=given.outputs(given.tokens),
        attribution=attribution,
        importance=scores.mean(0),
        interval=_interval(scores, seed),
        tokens=given.names + (CLASS_TOKEN,) * (len(positions) - len(given.names)),
        maps=tuple(
            replace(one, values=_arranged(one.values, positions))
            for one in attention_maps(given.network, given.tokens, what="block")
        ),
        flow=_arranged_flow(rollout(given.network, given.tokens, baseline=given.baseline), positions),
    )


def _interval(scores: Tensor, seed: int) -> Tensor:
    """Give the middle 95 % of the mean over rows that are drawn again with replacement."""
    n = len(scores)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_N_DRAWS)
    means = torch.from_numpy(counts / n).to(scores) @ scores
    return torch.quantile(means, means.new_tensor([0.025, 0.975]), dim=0).T


def _arranged(values: Tensor, positions: Tensor) -> Tensor:
    """Put maps (..., query, source) into the order of the columns."""
    return values[..., positions, :][..., positions]


def _arranged_flow(flow: Flow, positions: Tensor) -> Flow:
    return replace(flow, values=_arranged(flow.values, positions))

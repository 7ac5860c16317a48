"""A fitted estimator and rows of a table, as the network, tokens and outputs that explanations speak of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mambattn._errors import ConfigError
from mambattn.explain.trace import run_model
from mambattn.tabular import as_frame
from mambattn.tabular.backbones import TokenBackbone
from mambattn.tabular.network import TabularNetwork
from mambattn.tabular.preprocessing import _match_columns

__all__ = ["CLASS_TOKEN", "TableInput", "column_positions", "network_of", "row_tokens", "table_input"]

CLASS_TOKEN = "[class]"  # noqa: S105 - the name of a position
"""What the position of the class token is called among the names of the columns."""


@dataclass(frozen=True)
class TableInput:
    """Rows of a table as a fitted network takes them, and the number of each that is explained.

    Of a classifier that is the margin of a class, ``z_c − mean_{k ≠ c} z_k`` with logits z: adding the same to all
    logits changes no probability, and does not change the margin either. Of two classes it is the log-odds. Of a
    regressor it is the prediction's distance from the mean of the training target, in its units.

    Parameters
    ----------
    network : TabularNetwork
        The estimator's network.
    names : tuple of str
        Names of the columns, in the order of the fitted table.
    values : tuple of tuple
        Their values, row by row: numbers, booleans, text, None where missing.
    tokens : Tensor of shape (rows, n_columns, d_model)
        Their tokens.
    baseline : Tensor of shape (n_columns, d_model)
        The mean token of each column over the background: what they are compared with.
    predictions : tuple
        What the estimator predicts.
    targets : tuple
        The class whose margin is explained, for each row; the prediction itself of a regressor.
    index : Tensor of int, (rows,)
        Which output of the network that is.
    score : callable
        Maps the network's output (rows, n_outputs) to the number of each row that is explained, linear.
    """

    network: TabularNetwork
    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    tokens: Tensor
    baseline: Tensor
    predictions: tuple[Any, ...]
    targets: tuple[Any, ...]
    index: Tensor
    score: Callable[[Tensor], Tensor]

    def outputs(self, tokens: Tensor) -> Tensor:
        """Run the network and give the numbers that are explained.

        Parameters
        ----------
        tokens : Tensor of shape (rows, n_columns, d_model)
            Tokens of the rows, as they are or changed.

        Returns
        -------
        Tensor of shape (rows,)
            The numbers.
        """
        with torch.no_grad():
            return self.score(run_model(self.network, tokens))


def network_of(estimator: Any) -> TabularNetwork:
    """Give the network of a fitted estimator, if it mixes columns as tokens.

    Parameters
    ----------
    estimator : estimator
        A fitted MambAttention, Mambular or FTTransformer, classifier or regressor.

    Returns
    -------
    TabularNetwork
        Its network.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ConfigError
        If it is another estimator.
    """
    if hasattr(estimator, "preprocessing_config"):
        check_is_fitted(estimator, "network_")
    network = getattr(estimator, "network_", None)
    if isinstance(network, TabularNetwork) and isinstance(network.backbone, TokenBackbone):
        return network
    raise ConfigError(
        f"`estimator` must be a fitted model that mixes the columns of a table as tokens, however it is a "
        f"{type(estimator).__name__}. Use MambAttention, Mambular or FTTransformer; for any other, "
        "sklearn.inspection.permutation_importance says which columns matter."
    )


def row_tokens(estimator: Any, rows: Any) -> Tensor:
    """Turn rows into the tokens of a fitted estimator.

    Parameters
    ----------
    estimator : estimator
        As `network_of` takes it.
    rows : array-like or frame of shape (n_rows, n_columns)
        A table with the columns of the fitted one; by name, in any order, where both have names.

    Returns
    -------
    Tensor of shape (n_rows, n_columns, d_model)
        The tokens, in the order of the fitted table.

    Raises
    ------
    DataError
        If the columns are not those of the fitted table.
    """
    network = network_of(estimator)
    batch = estimator.preprocessor_.transform(rows)
    with torch.no_grad():
        return network.tokenizer(batch.to(next(network.parameters()).device))


def table_input(estimator: Any, rows: Any, target: Any = None, background: Any = None) -> TableInput:
    """Turn rows into tokens, and say what of each is to be explained and what it is compared with.

    Parameters
    ----------
    estimator : estimator
        As `network_of` takes it.
    rows : array-like or frame of shape (n_rows, n_columns)
        A table with the columns of the fitted one.
    target : label or None, default None
        A class, or its text; None is the predicted class of each row. A regressor has no choice.
    background : array-like or frame or None, default None
        Rows whose mean token is the baseline; None is `rows` themselves.

    Returns
    -------
    TableInput
        The rows.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ConfigError
        If it is of another kind, has no such class, or a single row would be compared with itself.
    DataError
        If the columns are not those of the fitted table.
    """
    network = network_of(estimator)
    if hasattr(estimator, "classes_"):
        codes = estimator.predict_proba(rows).argmax(axis=1)
        predictions = estimator.classes_[codes].tolist()
        if target is not None:
            codes = np.full(len(codes), _code(estimator.classes_.tolist(), target))
        targets = estimator.classes_[codes].tolist()
    elif target is None:
        predictions = targets = estimator.predict(rows).tolist()
        codes = np.zeros(len(predictions), dtype=np.int64)
    else:
        raise ConfigError(
            f"`target` names a class, however target={target!r} and the {type(estimator).__name__} has none. "
            "Leave it out: the prediction is explained."
        )
    tokens = row_tokens(estimator, rows)
    with torch.inference_mode(mode=False):  # gradients go through what it picks
        index = torch.from_numpy(codes).to(tokens.device)
    if background is None and len(tokens) == 1:
        raise ConfigError(
            "`background` must be given where a single row is explained, however background=None. Use rows of the "
            "training table, whose mean the row is compared with."
        )
    schema = estimator.preprocessor_.schema
    columns = [series.tolist() for series in _match_columns(as_frame(rows), schema)]
    return TableInput(
        network=network,
        names=schema.names,
        values=tuple(tuple(_plain(cell) for cell in row) for row in zip(*columns, strict=True)),
        tokens=tokens,
        baseline=(tokens if background is None else row_tokens(estimator, background)).mean(0),
        predictions=tuple(predictions),
        targets=tuple(targets),
        index=index,
        score=_margin(index) if hasattr(estimator, "classes_") else _in_units(estimator.target_scale_),
    )


def column_positions(network: TabularNetwork) -> Tensor:
    """Say where the columns stand in what the stack reads: shuffled, if so set, and the class token behind them.

    Parameters
    ----------
    network : TabularNetwork
        A network that mixes columns as tokens.

    Returns
    -------
    Tensor of int, (n_columns,) or (n_columns + 1,)
        The position of each column in the order of the table, then that of the class token if there is one.
    """
    backbone = cast("TokenBackbone", network.backbone)
    n_columns, device = network.tokenizer.n_columns, network.tokenizer.order.device
    order = torch.arange(n_columns, device=device) if backbone.permutation is None else backbone.permutation
    end = torch.arange(n_columns, n_columns + (backbone.cls_token is not None), device=device)
    return torch.cat([order.argsort(), end])


def _margin(index: Tensor) -> Callable[[Tensor], Tensor]:
    def margin(logits: Tensor) -> Tensor:
        own = logits.gather(1, index[:, None])[:, 0]
        return own - (logits.sum(1) - own) / (logits.shape[1] - 1)

    return margin


def _in_units(scale: float) -> Callable[[Tensor], Tensor]:
    """Undo the standardisation of a regressor's target, but for the mean."""
    return lambda output: output[:, 0] * scale


def _code(labels: Sequence[Any], target: Any) -> int:
    """Find a class by its value, or else by its text."""
    is_bool = isinstance(target, (bool, np.bool_))
    alike = [code for code, label in enumerate(labels) if isinstance(label, bool) == is_bool and label == target]
    alike += [code for code, label in enumerate(labels) if str(label) == str(target)]
    if not alike:
        shown = f"{', '.join(map(repr, labels[:8]))}{', …' if len(labels) > 8 else ''}"
        raise ConfigError(f"`target` must be one of the classes {shown}, however target={target!r}.")
    return alike[0]


def _plain(cell: Any) -> Any:
    """Give a cell as JSON takes it."""
    if pd.isna(cell):
        return None
    cell = cell.item() if isinstance(cell, np.generic) else cell
    return cell if isinstance(cell, (bool, int, float, str)) else str(cell)

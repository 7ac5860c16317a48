"""Whether scores find what they should, and add up to what they promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain._checks import check_numbers, check_scores
from mambattn.explain.results import Attribution
from mambattn.nn._checks import check_counts

__all__ = ["Completeness", "completeness", "hit_rate"]


def hit_rate(scores: Tensor, wanted: Tensor, k: int = 1) -> float:
    """Give the share of rows in which one of the k highest scores belongs to a source that should be found.

    Parameters
    ----------
    scores : Tensor of shape (batch, source)
        Scores of an explanation, as of `Attribution.values`.
    wanted : Tensor
        The sources that should be found: their indices, (batch,) or (batch, n_wanted), or a mask (batch, source) of
        booleans.
    k : int, default 1
        How many of the highest scores count.

    Returns
    -------
    float
        The share.

    Raises
    ------
    ShapeError
        If the shapes do not fit each other, or there are fewer than k sources.
    ConfigError
        If `k` is no integer of at least 1, or `wanted` has no such source.
    DataError
        If scores are not numbers.

    Examples
    --------
    >>> hit_rate(torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), torch.tensor([1, 2]))
    0.5
    """
    check_counts(k=k)
    check_scores(scores)
    check_numbers(scores)
    if k > scores.shape[1]:
        raise ShapeError(
            f"`scores` must have at least k={k} sources, however its shape is {tuple(scores.shape)}. Use a smaller k."
        )
    is_mask = isinstance(wanted, Tensor) and wanted.dtype == torch.bool
    if not isinstance(wanted, Tensor) or not 1 <= wanted.ndim <= 2 or len(wanted) != len(scores) or (
        is_mask and wanted.shape != scores.shape
    ):  # fmt: skip
        got = (
            f"its shape is {tuple(wanted.shape)}" if isinstance(wanted, Tensor) else f"it is a {type(wanted).__name__}"
        )
        raise ShapeError(
            f"`wanted` must be indices (batch,) or (batch, n_wanted), or a mask of the scores' shape "
            f"{tuple(scores.shape)}, however {got}. Give a Tensor with a row for each row of scores."
        )
    if not is_mask:
        last, is_whole = scores.shape[1] - 1, wanted.dtype in (torch.int32, torch.int64)
        if not is_whole or wanted.numel() == 0 or wanted.min() < 0 or wanted.max() > last:
            raise ConfigError(
                f"`wanted` must hold integers from 0 to {last}, the sources there are, however it is "
                f"{wanted.tolist()!r:.60}. Use indices of sources, or a mask of booleans."
            )
        mask = torch.zeros_like(scores, dtype=torch.bool)
        wanted = mask.scatter(1, wanted.reshape(len(wanted), -1).to(scores.device, torch.int64), value=True)
    found = wanted.gather(1, scores.topk(k, dim=1).indices)
    return found.any(1).double().mean().item()


@dataclass(frozen=True)
class Completeness:
    """How well the scores of one method add up.

    Parameters
    ----------
    method : str
        Name of the method.
    mean_error : float
        Mean over rows of the completeness error; NaN for a method that promises nothing.
    max_error : float
        The largest.
    absorbed : float
        Mean over rows of the absolute share that biases and constants account for.
    """

    method: str
    mean_error: float
    max_error: float
    absorbed: float

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields.
        """
        return vars(self).copy()


def completeness(attributions: Attribution | Iterable[Attribution]) -> tuple[Completeness, ...]:
    """Sum up how well attributions add up to what they promise.

    Parameters
    ----------
    attributions : Attribution or iterable of Attribution
        Of one or several methods.

    Returns
    -------
    tuple of Completeness
        One each.

    Examples
    --------
    >>> half = Attribution("half", torch.ones(1, 2), torch.tensor([0.5]), torch.tensor([0.0]))
    >>> completeness(half)[0].mean_error
    0.5
    """
    if isinstance(attributions, Attribution):
        attributions = (attributions,)
    return tuple(
        Completeness(
            one.method,
            one.completeness_error.mean().item(),
            one.completeness_error.max().item(),
            one.absorbed.abs().mean().item(),
        )
        for one in attributions
    )

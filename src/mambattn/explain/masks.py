"""Padded batches: tokens that stand for nothing are shown as reading nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError

__all__ = ["check_mask", "without_padding"]


def check_mask(mask: Tensor | None, batch: int, seq_len: int) -> None:
    """Raise `ShapeError` unless a mask fits the tokens.

    Parameters
    ----------
    mask : Tensor of bool, (batch, seq_len), or None
        Which tokens there are.
    batch : int
        Number of sequences.
    seq_len : int
        Number of tokens.
    """
    if mask is not None and (mask.shape != (batch, seq_len) or mask.dtype != torch.bool):
        raise ShapeError(
            f"`mask` must be bool of shape (batch, seq_len) = {(batch, seq_len)}, however its shape is "
            f"{tuple(mask.shape)} and its type {mask.dtype}. Use the tokenizer's attention_mask.bool()."
        )


def without_padding(weights: Tensor, mask: Tensor | None, queries: Tensor) -> Tensor:
    """Set what padded tokens read to 0.

    What a model computes is not changed: padding behind the tokens does not reach them in a causal model. Where it
    does, their numbers are not those of the sequence alone, and that is refused.

    Parameters
    ----------
    weights : Tensor of shape (batch, n_maps, n_queries, seq_len)
        Weights by query and source.
    mask : Tensor of bool, (batch, seq_len), or None
        Which tokens there are; None is all.
    queries : Tensor of int, (n_queries,)
        Positions of the queries.

    Returns
    -------
    Tensor of shape (batch, n_maps, n_queries, seq_len)
        The weights.

    Raises
    ------
    ConfigError
        If a token reads padding.
    """
    if mask is None:
        return weights
    kept = weights * mask[:, None, queries, None]
    if (kept * ~mask[:, None, None]).any():
        raise ConfigError(
            "`mask` must leave no padding that tokens read, however some do. Use a causal model with the padding "
            "behind the tokens, or sequences of one length at a time."
        )
    return kept

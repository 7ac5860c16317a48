"""What may be taken apart: the models of transformers that are supported, and what they are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mambattn._errors import ConfigError, DataError, ShapeError
from mambattn.explain._checks import check_precise
from mambattn.explain.hf.families import FAMILIES

__all__ = ["backbone_of", "check_supported", "embedded"]


def backbone_of(model: Any) -> Any:
    """Give the part of a model that holds its decoder layers: the model itself where it has no head.

    Parameters
    ----------
    model : PreTrainedModel
        The model.

    Returns
    -------
    PreTrainedModel
        The part.
    """
    return next((part for name in ("backbone", "model") if (part := getattr(model, name, None)) is not None), model)


def check_supported(model: Any) -> None:
    """Raise `ConfigError` unless the model is of a supported family, has a known head or none, and is precise.

    Parameters
    ----------
    model : PreTrainedModel
        The model.
    """
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise ConfigError(
            f"`model` must be of a supported family, however its model_type is {kind!r}. Supported are "
            f"{', '.join(FAMILIES)}."
        )
    if backbone_of(model) is not model and not hasattr(model, "lm_head"):
        raise ConfigError(
            f"`model` must have a language model's head or none, however it is a {type(model).__name__}. Use the part "
            "of it that has no head, its `model` or `backbone`."
        )
    check_precise(model)


def embedded(model: Any, x: Tensor) -> Tensor:
    """Give the embeddings of ids, before a multiplier, or embeddings as they are.

    Parameters
    ----------
    model : PreTrainedModel
        The model.
    x : Tensor
        Ids (batch, seq_len), or embeddings (batch, seq_len, d_model).

    Returns
    -------
    Tensor of shape (batch, seq_len, d_model)
        The embeddings.

    Raises
    ------
    ShapeError
        If `x` is neither ids nor embeddings of the model's width and type, or has no token.
    DataError
        If there is no such id.
    """
    table = model.get_input_embeddings()
    are_ids = x.ndim == 2 and x.dtype in (torch.int64, torch.int32)
    are_embeddings = x.ndim == 3 and x.shape[2] == table.embedding_dim and x.dtype == table.weight.dtype
    if not (are_ids or are_embeddings) or x.numel() == 0:
        raise ShapeError(
            f"`x` must be ids (batch, seq_len) of an integer type or embeddings (batch, seq_len, "
            f"{table.embedding_dim}) of type {table.weight.dtype}, with a token at least, however its shape is "
            f"{tuple(x.shape)} and its type {x.dtype}. Use what the model's tokenizer gives as input_ids."
        )
    if are_embeddings:
        return x.detach()
    low, high, last = int(x.min()), int(x.max()), table.num_embeddings - 1
    if low < 0 or high > last:
        raise DataError(
            f"`x` must hold ids from 0 to {last}, however it has {low if low < 0 else high}. Use the tokenizer of this "
            "model."
        )
    return table(x)

"""Checks of what explanations are asked for: models, indices, seeds and scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError, DataError, ShapeError
from mambattn.ops._checks import is_integer

__all__ = ["check_numbers", "check_precise", "check_scores", "check_seed", "integers"]


_PRECISE = (torch.float32, torch.float64)


def check_precise(model: nn.Module) -> None:
    """Raise `ConfigError` unless all weights are in float32 or float64.

    Parameters
    ----------
    model : nn.Module
        The model.
    """
    coarse = {str(parameter.dtype) for parameter in model.parameters() if parameter.dtype not in _PRECISE}
    if coarse:
        raise ConfigError(
            "`model` must be in float32 or float64, since what an explanation leaves out could not be told from what "
            f"is rounded, however it has weights in {', '.join(sorted(coarse))}. Use model.float(), or load it with "
            "dtype='float32'."
        )


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Give indices as a tuple of integers, from any sequence, array or tensor of them.

    Parameters
    ----------
    name : str
        What they are called.
    values : iterable of int
        The indices.

    Returns
    -------
    tuple of int
        The same.

    Raises
    ------
    ConfigError
        If they are no integers, or none.
    """
    try:
        given = tuple(values.tolist() if hasattr(values, "tolist") else values)
    except TypeError:
        given = ()
    if not given or not all(is_integer(value, at_least=-(2**63)) for value in given):
        mend = f"[{values}]" if is_integer(values, at_least=0) else "[0]"
        raise ConfigError(f"`{name}` must be integers, one at least, however {name}={values!r}. Use {name}={mend}.")
    return tuple(map(int, given))


def check_seed(seed: object) -> None:
    """Raise `ConfigError` unless numpy and torch both take the seed.

    Parameters
    ----------
    seed : int
        The seed.
    """
    if not is_integer(seed, at_least=0) or int(seed) >= 2**63:  # pyright: ignore[reportArgumentType]
        raise ConfigError(f"`seed` must be an integer from 0 to 2**63 − 1, however seed={seed!r}. Use seed=0.")


def check_scores(scores: Any, batch: int | None = None, n_sources: int | None = None) -> None:
    """Raise `ShapeError` unless scores are (batch, source), with a row at least.

    Parameters
    ----------
    scores : Tensor
        The scores.
    batch : int or None, default None
        How many rows they must have; None is any number.
    n_sources : int or None, default None
        How many sources; None is any number.
    """
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.numel() == 0 or any(
        wanted not in (None, size) for size, wanted in zip(scores.shape, (batch, n_sources), strict=True)
    ):  # fmt: skip
        shape = f" = {(batch, n_sources)}" if batch is not None else ""
        got = (
            f"its shape is {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"it is a {type(scores).__name__}"
        )
        raise ShapeError(
            f"`scores` must be a Tensor (batch, source){shape}, however {got}. Use Attribution.values of the "
            "same input."
        )


def check_numbers(scores: Tensor) -> None:
    """Raise `DataError` if a score is not a number.

    Parameters
    ----------
    scores : Tensor
        Scores.
    """
    n_missing = int(torch.isnan(scores).sum())
    if n_missing:
        raise DataError(
            f"`scores` must be numbers, however {n_missing} of {scores.numel()} are NaN. Look at the model's outputs: "
            "weights that have diverged give such."
        )

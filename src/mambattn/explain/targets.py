"""What an attribution explains, one number a row, and what it compares the tokens with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError
from mambattn.ops._checks import is_integer

__all__ = ["Target", "baseline_tokens", "target_score"]

Index = int | Tensor
Target = Index | tuple[int, Index] | Callable[[Tensor], Tensor]
"""An index of the output's last axis, one for all rows or one a row; (position, index); or a function of the output."""


def target_score(output: Tensor, target: Target) -> Tensor:
    """Pick the number that is explained from each row of a model's output; differentiable.

    Parameters
    ----------
    output : Tensor of shape (batch, n_outputs) or (batch, seq_len, n_outputs)
        The model's output.
    target : int, Tensor of int (batch,), pair or callable
        An index of the last axis, for all rows or one a row; a pair (position, index) where the output has an axis of
        positions; or a function from the output to a Tensor of shape (batch,).

    Returns
    -------
    Tensor of shape (batch,)
        The scores.

    Raises
    ------
    ConfigError
        If the target does not fit the output, does not exist, or is no differentiable function where a gradient is
        taken.
    ShapeError
        If a function gives another shape.

    Examples
    --------
    >>> output = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> target_score(output, 1), target_score(output, torch.tensor([1, 0]))
    (tensor([2., 4.]), tensor([2., 3.]))
    """
    if callable(target):
        score = target(output)
        if not isinstance(score, Tensor) or score.shape != output.shape[:1]:
            got = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ShapeError(
                f"`target` must give one number a row, a Tensor of shape ({len(output)},), however it gave {got}. "
                "Let it pick one, as in lambda output: output[:, 0]."
            )
        if output.requires_grad and not score.requires_grad:
            raise ConfigError(
                "`target` must be differentiable in the output, however what the function gave has no gradient. Let it "
                "pick or add outputs, without detach, argmax or numbers of its own."
            )
        return score
    if isinstance(target, tuple):
        if len(target) != 2 or output.ndim != 3:
            raise ConfigError(
                f"`target` must be an index or a function for an output of shape {tuple(output.shape)}, however "
                f"target={target!r}. Use a pair (position, index) with outputs (batch, seq_len, n_outputs) alone."
            )
        position, target = target
        _check("position", position, output.shape[1])
        output = output[:, position]
    if output.ndim != 2:
        raise ConfigError(
            f"`target` must be a pair (position, index) or a function for an output of shape {tuple(output.shape)}, "
            f"however target={target!r}. Use ({output.shape[1] - 1}, {target!r}) for the last position."
        )
    if isinstance(target, Tensor):
        if target.shape != output.shape[:1] or target.dtype not in (torch.int32, torch.int64):
            raise ConfigError(
                f"`target` must have an integer a row, shape ({len(output)},), however it is {target.dtype} of shape "
                f"{tuple(target.shape)}. Use one index for all rows, or .long() of one a row."
            )
        for edge in (target.min(), target.max()):
            _check("index", int(edge), output.shape[1])
        return output.gather(1, target.to(output.device, torch.int64, copy=True)[:, None])[:, 0]
    _check("index", target, output.shape[1])
    return output[:, target]


def baseline_tokens(baseline: Tensor | None, tokens: Tensor) -> Tensor:
    """Lay out the tokens that stand for "nothing there".

    Parameters
    ----------
    baseline : Tensor or None
        Anything that broadcasts to the tokens; None is zeros. For a table take the mean of the tokens over background
        rows, ``tokens.mean(0)``: a token of zeros is no value of its column.
    tokens : Tensor of shape (batch, n_sources, d_model)
        The tokens explained.

    Returns
    -------
    Tensor of shape (batch, n_sources, d_model)
        The baseline of each.

    Raises
    ------
    ShapeError
        If it does not broadcast.

    Examples
    --------
    >>> baseline_tokens(torch.ones(2), torch.zeros(1, 3, 2)).shape
    torch.Size([1, 3, 2])
    """
    if baseline is None:
        return torch.zeros_like(tokens)
    if not isinstance(baseline, Tensor):
        raise ShapeError(
            f"`baseline` must be a Tensor that broadcasts to the tokens, however it is a {type(baseline).__name__}. "
            "Use tokens.mean(0) of background rows, or None for zeros."
        )
    try:
        return baseline.to(tokens).expand_as(tokens)
    except RuntimeError:
        raise ShapeError(
            f"`baseline` must broadcast to the tokens, (batch, n_sources, d_model) = {tuple(tokens.shape)}, however "
            f"its shape is {tuple(baseline.shape)}. Use tokens.mean(0) of background rows, or None for zeros."
        ) from None


def _check(name: str, value: object, n: int) -> None:
    if not is_integer(value, at_least=0) or int(value) >= n:  # pyright: ignore[reportArgumentType]
        raise ConfigError(
            f"`target` must have {'an' if name[0] == 'i' else 'a'} {name} from 0 to {n - 1}, however it is {value!r}."
        )

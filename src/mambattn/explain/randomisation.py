"""Whether an explanation depends on what the model has learned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.explain._checks import check_numbers, check_scores, check_seed
from mambattn.nn._checks import check_counts

__all__ = ["Randomisation", "randomisation_test"]


@dataclass(frozen=True)
class Randomisation:
    """How much of an explanation survives when the weights are random.

    Parameters
    ----------
    correlation : float
        Mean Spearman correlation between the scores on the model and on its copies with random weights.
    correlations : Tensor of shape (n_copies, batch)
        That of each copy and row; NaN, and the mean with it, where a copy gives no numbers.
    """

    correlation: float
    correlations: Tensor

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields.
        """
        return {"correlation": self.correlation, "correlations": self.correlations.tolist()}


def randomisation_test(
    make_scores: Callable[[nn.Module], Tensor],
    model: nn.Module,
    copies: int | Iterable[nn.Module] = 10,
    *,
    seed: int = 0,
) -> Randomisation:
    """Compare an explanation with the same on random weights (after arXiv 1810.03292, section 3).

    An explanation that depends on what the model computes for its output has a correlation near 0; one that shows what
    any such model does, as flows from near tokens do, keeps a high one.

    All weights are random at once, which is the end of the paper's cascade. Spearman's correlation is taken over the
    sources of each row, of the scores with their signs, and averaged over rows and copies. Without signs, which the
    paper has beside it, more is kept: a source near its baseline counts little under any weights. One copy may give
    all rows of a table the same sign: there single copies are .3 away from the mean of many, so take many.

    Parameters
    ----------
    make_scores : callable
        Maps a model to scores (batch, source), always of the same input and output, such as
        ``lambda model: lrp(model, x, target=1).values``.
    model : nn.Module
        The model, which is left as it is.
    copies : int or iterable of nn.Module, default 10
        How many copies with the model's weights shuffled within each tensor: of the same size and range, without
        anything that was learned. Or models of the same kind, such as some that were never trained.
    seed : int, default 0
        Where the shuffles come from.

    Returns
    -------
    Randomisation
        The correlations.

    Raises
    ------
    ConfigError
        If `copies` is neither models nor an integer of at least 1, or `seed` is none.
    ShapeError
        If what `make_scores` gives is not (batch, source), or of another shape for a copy.
    DataError
        If the model's own scores are not numbers.

    Examples
    --------
    >>> same = randomisation_test(lambda model: torch.tensor([[1.0, 2.0, 3.0]]), nn.Linear(1, 1))
    >>> round(same.correlation, 6)
    1.0
    """
    if not isinstance(copies, Iterable):
        check_counts(copies=copies)
        check_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        copies = (_shuffled(model, generator) for _ in range(copies))
    scores = make_scores(model)
    check_scores(scores)
    check_numbers(scores)
    correlations = [_spearman(scores, _same_shape(make_scores(other), scores)) for other in copies]
    if not correlations:
        raise ConfigError("`copies` must hold a model at least, however it is empty. Use copies=10 for shuffled ones.")
    correlations = torch.stack(correlations)
    return Randomisation(correlations.mean().item(), correlations)


def _same_shape(scores: Tensor, first: Tensor) -> Tensor:
    check_scores(scores, *first.shape)
    return scores


def _shuffled(model: nn.Module, generator: torch.Generator) -> nn.Module:
    with torch.inference_mode(mode=False), torch.no_grad():  # weights made in inference mode have no gradient
        model = copy.deepcopy(model)
        for parameter in model.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def _spearman(first: Tensor, second: Tensor) -> Tensor:
    """Correlate the ranks of each row; 0 where all scores of a row are the same."""
    a, b = (_ranks(x) - (x.shape[1] - 1) / 2 for x in (first, second))
    size = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return (a * b).sum(1) / size.clamp_min(torch.finfo(size.dtype).tiny)


def _ranks(x: Tensor) -> Tensor:
    """Give ranks from 0; equal scores share their mean rank, and what is no number has none."""
    below = (x[:, :, None] > x[:, None]).sum(2)
    equal = (x[:, :, None] == x[:, None]).sum(2)
    return (below + (equal - 1) / 2.0).masked_fill(x.isnan(), torch.nan)

"""Perturbation curves: take sources away in the order of their scores, and watch the output go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.explain._checks import check_numbers, check_scores, check_seed
from mambattn.explain.sites import hooked
from mambattn.explain.targets import Target, baseline_tokens, target_score
from mambattn.explain.trace import run_model, trace
from mambattn.nn._checks import check_counts, check_one_of

__all__ = ["PerturbationCurve", "perturbation_curve"]


@dataclass(frozen=True)
class PerturbationCurve:
    """What a model gives as its sources are taken away one after the other.

    Parameters
    ----------
    order : str
        "positive" takes the highest scores away first, "negative" the lowest.
    measure : str
        What is measured: "score", "probability" or "accuracy".
    fractions : tuple of float
        Shares of the sources taken away, from 0 to 1.
    values : tuple of float
        The measure at each, a mean over rows.
    random : Tensor of shape (n_random, len(fractions))
        The same for random orders.
    """

    order: str
    measure: str
    fractions: tuple[float, ...]
    values: tuple[float, ...]
    random: Tensor

    @property
    def auc(self) -> float:
        """Area under the curve: low is good for "positive", high for "negative"."""
        return torch.trapezoid(torch.tensor(self.values), torch.tensor(self.fractions)).item()

    @property
    def random_auc(self) -> Tensor:
        """Area under the curve of each random order: Tensor of shape (n_random,)."""
        return torch.trapezoid(self.random, torch.tensor(self.fractions, dtype=self.random.dtype), dim=1)

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields and areas.
        """
        return {
            "order": self.order,
            "measure": self.measure,
            "fractions": list(self.fractions),
            "values": list(self.values),
            "random": self.random.tolist(),
            "auc": self.auc,
            "random_auc": self.random_auc.tolist(),
        }


def perturbation_curve(
    model: nn.Module,
    x: Tensor,
    scores: Tensor,
    target: Target,
    baseline: Tensor | None = None,
    order: str = "positive",
    n_steps: int | None = None,
    *,
    measure: str = "score",
    n_random: int = 10,
    seed: int = 0,
) -> PerturbationCurve:
    """Replace the sources of each row in the order of their scores, and measure the output.

    Where an explanation is right, the output goes fast when the highest scores go first, and stays long when the lowest
    do (arXiv 2403.01590, section 4.2). The difference of the two areas, negative minus positive, is the gap.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    scores : Tensor of shape (batch, source)
        A score for each source, as of `Attribution.values`.
    target : int, Tensor of int (batch,), pair or callable
        Which output; see `mambattn.explain.targets.target_score`. For probability and accuracy not a function; the
        labels of the rows, for instance.
    baseline : Tensor or None, default None
        What replaces a source, anything that broadcasts to the tokens; None is zeros.
    order : {"positive", "negative"}, default "positive"
        Whether the highest or the lowest scores go first.
    n_steps : int or None, default None
        In how many steps all sources go; None is one at a time.
    measure : {"score", "probability", "accuracy"}, default "score"
        The target's output, its softmax over the last axis, or the share of rows in which it is the largest.
    n_random : int, default 10
        How many random orders make the band.
    seed : int, default 0
        Where they come from.

    Returns
    -------
    PerturbationCurve
        The curve, its area and those of the random orders.

    Raises
    ------
    ConfigError
        If a setting is unknown or out of range.
    ShapeError
        If a shape does not fit.
    DataError
        If scores are not numbers.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> stack, x = Stack(8, "M"), torch.randn(3, 5, 8)
    >>> curve = perturbation_curve(stack, x, torch.rand(3, 5), target=(4, 0))
    >>> curve.fractions, curve.random.shape
    ((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), torch.Size([10, 6]))
    """
    check_one_of("order", order, ("positive", "negative"))
    check_one_of("measure", measure, ("score", "probability", "accuracy"))
    check_counts(n_random=n_random)
    check_seed(seed)
    if callable(target) and measure != "score":
        raise ConfigError(
            f"`target` must be an index for measure={measure!r}, however it is a function. Use measure='score', or the "
            "index or labels."
        )
    tokens = trace(model, x).x.detach()
    batch, n_sources, _ = tokens.shape
    check_scores(scores, batch, n_sources)
    check_numbers(scores)
    n_steps = n_sources if n_steps is None else n_steps
    check_counts(n_steps=n_steps)
    if n_steps > n_sources:
        raise ConfigError(f"`n_steps` must be at most {n_sources}, the sources there are, however n_steps={n_steps}.")
    removed = [round(step * n_sources / n_steps) for step in range(n_steps + 1)]
    nothing = baseline_tokens(baseline, tokens)

    def curve(scores: Tensor) -> Tensor:
        rank = scores.argsort(dim=1, descending=order == "positive", stable=True).argsort(dim=1).to(tokens.device)
        outputs = (run_model(model, torch.where((rank < n)[..., None], nothing, tokens)) for n in removed)
        return torch.stack([_measured(output, target, measure) for output in outputs]).double().cpu()

    generator = torch.Generator().manual_seed(seed)
    with hooked(model), torch.no_grad():
        values = curve(scores)
        random = [curve(torch.rand(batch, n_sources, generator=generator)) for _ in range(n_random)]
    fractions = tuple(n / n_sources for n in removed)
    return PerturbationCurve(order, measure, fractions, tuple(values.tolist()), torch.stack(random))


def _measured(output: Tensor, target: Target, measure: str) -> Tensor:
    """Give the mean over rows of the measure."""
    if measure == "probability":
        output = output.softmax(-1)
    score = target_score(output, target)
    if measure == "accuracy":
        position = target[0] if isinstance(target, tuple) else None
        score = (score >= (output if position is None else output[:, position]).amax(-1)).to(output.dtype)
    return score.mean()

"""Methods of explanation against each other, on the user's own model: which of them tells the truth about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor, nn

    from mambattn.explain.perturbation import PerturbationCurve
    from mambattn.explain.results import Attribution
    from mambattn.explain.targets import Target

__all__ = ["MethodScore", "methods_of", "score_methods", "scores_table"]

Method = Callable[["nn.Module"], "Attribution"]
"""Maps a model, or a copy of it with other weights, to scores (batch, source) of one input and output."""

_READING = (
    "gap: how much longer the output lasts when the sources of lowest score are taken away first than when those of "
    "highest score are; beyond the random gaps a method knows more than chance. A correlation near 0 says that the "
    "scores depend on what was learned; rollouts show where information flows, whatever is predicted, and keep one; "
    "gradient × map keeps one where a single token is read."
)


@dataclass(frozen=True)
class MethodScore:
    """What one method scored."""

    method: str
    attribution: Attribution
    positive: PerturbationCurve
    negative: PerturbationCurve
    completeness_error: float
    absorbed: float
    randomisation: float

    @property
    def gap(self) -> float:
        """Area under the negative perturbation curve minus that under the positive one."""
        return self.negative.auc - self.positive.auc

    @property
    def band(self) -> tuple[float, float]:
        """The lowest and the highest gap of random orders."""
        gaps = self.negative.random_auc - self.positive.random_auc
        return gaps.min().item(), gaps.max().item()

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it."""
        return {
            "method": self.method,
            "gap": self.gap,
            "random_gap": list(self.band),
            "completeness_error": self.completeness_error,
            "absorbed": self.absorbed,
            "randomisation_correlation": self.randomisation,
            "positive": self.positive.to_dict(),
            "negative": self.negative.to_dict(),
        }


def methods_of(
    x: Tensor, target: Target, baseline: Tensor | None, read_from: Callable[[nn.Module, Tensor], Tensor]
) -> Mapping[str, Method]:
    """Give every method by its name, those of captum if it is installed.

    `read_from` picks of a flow (batch, position, source) what the output reads.
    """
    from importlib.util import find_spec

    from mambattn.cli._group import note
    from mambattn.explain.attribution import gradient_times_input, integrated_gradients, occlusion
    from mambattn.explain.flow import rollout
    from mambattn.explain.gradient_map import gradient_times_map
    from mambattn.explain.relevance import lrp
    from mambattn.explain.results import Attribution

    def flow(kind: str, name: str) -> Method:
        def scored(model: nn.Module) -> Attribution:
            values = read_from(model, rollout(model, x, kind, baseline=None if kind == "paper" else baseline).total)
            nothing = values.new_full((len(values),), float("nan"))
            return Attribution(name, values, nothing, nothing)

        return scored

    methods: dict[str, Method] = {"lrp": lambda model: lrp(model, x, target, baseline)}
    if find_spec("captum"):
        methods["integrated gradients"] = lambda model: integrated_gradients(model, x, target, baseline)
        methods["occlusion"] = lambda model: occlusion(model, x, target, baseline)
    else:
        note("integrated gradients and occlusion are left out: they need `pip install 'mambattn[explain]'`.")
    methods["gradient × input"] = lambda model: gradient_times_input(model, x, target)
    methods["gradient × map"] = lambda model: gradient_times_map(model, x, target)
    for kind, name in (("norm", "rollout by norms"), ("alti", "rollout by ALTI"), ("paper", "rollout as published")):
        methods[name] = flow(kind, name)
    return methods


def score_methods(
    methods: Mapping[str, Method],
    model: nn.Module,
    x: Tensor,
    target: Target,
    baseline: Tensor | None,
    *,
    index: Target | None,
    seed: int,
    say: Callable[[str], None],
) -> tuple[MethodScore, ...]:
    """Perturb by the scores of each method, add them up, and compare them with those on shuffled weights.

    What perturbation changes is measured as the probability of `index`, or as the target itself where that is None.
    """
    from mambattn.explain.evaluation import completeness
    from mambattn.explain.perturbation import perturbation_curve
    from mambattn.explain.randomisation import randomisation_test

    measured, measure = (target, "score") if index is None else (index, "probability")
    scores = []
    for name, method in methods.items():
        say(f"testing {name}")
        found = method(model)
        positive, negative = (
            perturbation_curve(model, x, found.values, measured, baseline, order, measure=measure, seed=seed)
            for order in ("positive", "negative")
        )
        (promised,) = completeness(found)
        random = randomisation_test(lambda other, method=method: method(other).values, model, seed=seed)
        scores.append(
            MethodScore(name, found, positive, negative, promised.mean_error, promised.absorbed, random.correlation)
        )
    return tuple(scores)


def scores_table(scores: tuple[MethodScore, ...]) -> Table:
    """Lay the scores out for a terminal."""
    import math

    from rich.table import Table

    from mambattn.plots import format_number

    def cell(value: float, signed: bool = False) -> str:
        return "–" if math.isnan(value) else format_number(value, 3, signed=signed)

    table = Table(box=None, pad_edge=False, header_style="bold", caption=_READING, caption_justify="left")
    table.add_column("method", no_wrap=True)
    for name in ("gap", "random gaps", "completeness error", "absorbed", "correlation to random weights"):
        table.add_column(name, justify="right")
    for one in scores:
        low, high = one.band
        table.add_row(
            one.method,
            cell(one.gap, signed=True),
            f"{cell(low, signed=True)} to {cell(high, signed=True)}",
            "–" if math.isnan(one.completeness_error) else f"{one.completeness_error:.1e}",
            cell(one.absorbed),
            cell(one.randomisation, signed=True),
        )
    return table

"""What ``mambattn explain`` found, and where it goes: a page, figures, JSON, and a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambattn._plain import json_ready

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from mambattn.cli._explain_scores import MethodScore
    from mambattn.explain.joint import JointEffects
    from mambattn.explain.layer import Layer
    from mambattn.explain.order import OrderEffects
    from mambattn.explain.results import Attribution, Flow, LayerMap, Reach
    from mambattn.explain.tables import RowExplanation
    from mambattn.explain.trace import Trace

__all__ = ["Explained", "layer_maps"]

_MOST = 8_000_000
"""Numbers of maps of single heads that a page takes; with more it shows means alone."""

_LARGE = ("maps", "flow", "attribution")


@dataclass(frozen=True)
class Explained:
    """An explanation of rows of a table, called by `labels`, or of a text, of which there is one row."""

    title: str
    names: tuple[str, ...]
    maps: tuple[LayerMap, ...]
    flow: Flow
    attribution: Attribution
    reaches: tuple[Reach, ...]
    labels: tuple[str, ...]
    facts: Mapping[str, str]
    scores: tuple[MethodScore, ...] = ()
    rows: RowExplanation | None = None
    order: OrderEffects | None = None
    joint: JointEffects | None = None

    def to_json(self) -> str:
        """Give all but the maps and the flow as JSON; what is not a number there is null."""
        content: dict[str, Any] = {
            "title": self.title,
            "facts": dict(self.facts),
            "names": list(self.names),
            "attribution": self.attribution.to_dict(),
            "reaches": [reach.to_dict() for reach in self.reaches],
            "scores": [score.to_dict() for score in self.scores],
        }
        for name, part in (("rows", self.rows), ("order", self.order), ("joint", self.joint)):
            if part is not None:
                content[name] = {key: value for key, value in part.to_dict().items() if key not in _LARGE}
        return json.dumps(json_ready(content), allow_nan=False)

    def summary(self) -> Table:
        """Lay out the importance of each column, or the score of each token, for a terminal."""
        from rich.table import Table
        from rich.text import Text

        from mambattn.plots import decimals, format_number, shorten

        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("token" if self.rows is None else "column", no_wrap=True)
        if self.rows is None:
            table.add_column("relevance", justify="right")
            values = self.attribution.values[0].tolist()
            for name, value in zip(self.names, values, strict=True):
                table.add_row(Text(shorten(name, 40)), format_number(value, decimals(values), signed=True))
            return table
        table.add_column("importance", justify="right")
        table.add_column("95 % interval", justify="right")
        means, ends = self.rows.importance.tolist(), self.rows.interval.tolist()
        digits = decimals(means)
        for i in sorted(range(len(means)), key=lambda i: -means[i]):
            low, high = (format_number(end, digits) for end in ends[i])
            table.add_row(Text(self.rows.names[i]), format_number(means[i], digits), f"{low} to {high}")
        return table

    def figures(self) -> Mapping[str, Figure]:
        """Draw everything."""
        from mambattn import plots

        drawn = {
            "layers": plots.layer_grid(self.maps, names=self.names),
            "receptive_field": plots.receptive_field(self.reaches),
            "rollout": plots.rollout_layers(self.flow, names=self.names),
        }
        if self.scores:
            curves = {score.method: (score.positive, score.negative) for score in self.scores}
            drawn["perturbation"] = plots.perturbation(curves)
        if self.joint is not None:
            drawn["joint_effects"] = plots.interaction(self.joint.strength, self.joint.names, pairs=True)
        if self.rows is None:
            return drawn | {"tokens": plots.token_text(self.attribution, self.names)}
        low, high = self.rows.interval.T
        return drawn | {
            "importance": plots.importance(self.rows.importance, low, high, self.rows.names),
            "interaction": plots.interaction(self.rows.interaction, self.rows.tokens),
            "row_1": plots.attribution_row(self.attribution, 0, self.rows.names, self.rows.values[0]),
        }

    def write(self, out: Path) -> None:
        """Write ``explain.html``, ``results.json`` and the figures into a folder."""
        from mambattn.report.explain import explain_page

        others = [score.attribution for score in self.scores if score.attribution.method != self.attribution.method]
        page = explain_page(
            self.title,
            self.names,
            self.maps,
            self.flow,
            [self.attribution, *others],
            self.reaches,
            self.labels,
            self.facts,
            values=None if self.rows is None else self.rows.values,
            output=self.facts["explained"],
            explained=self.rows,
            joint=self.joint,
            order=self.order,
        )
        (out / "explain.html").write_text(page, encoding="utf-8")
        (out / "results.json").write_text(self.to_json() + "\n", encoding="utf-8")
        for name, figure in self.figures().items():
            figure.savefig(out / f"{name}.png", dpi=150, facecolor="white")


def layer_maps(traced: Trace) -> tuple[LayerMap, ...]:
    """Give the mean block map of each layer and, unless they are too many for a page, each head's of attention."""
    import torch

    from mambattn.explain.maps import chosen_layers, traced_maps
    from mambattn.explain.weights import Weights

    def heads_of(layer: Layer) -> int:
        """Count the heads of a layer that is attention and nothing else."""
        weights = [route.mixing for route in layer.routes if isinstance(route.mixing, Weights)]
        return sum(one.n_maps for one in weights) if len(weights) == len(layer.routes) else 0

    means = traced_maps(traced, what="block")
    layers = tuple(chosen_layers(traced.layers, None))
    attention = tuple(layer for layer in layers if heads_of(layer))
    if not attention or sum(map(heads_of, attention)) * means[0].values.numel() > _MOST:
        return means
    # A layer and a block beside it have one depth, so that heads are not to be found by the number of their layer.
    heads = iter(traced_maps(replace(traced, layers=attention), channels="all"))
    shown = []
    for mean, layer in zip(means, layers, strict=True):
        if heads_of(layer):
            one = next(heads)
            values = torch.cat([mean.values, one.values], dim=1)
            mean = replace(mean, labels=mean.labels + one.labels, values=values)
        shown.append(mean)
    return tuple(shown)

"""The figures of the page of a recall study, whose lines can be picked and read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from mambattn import plots
from mambattn.plots import arch_label, format_number, line_styles
from mambattn.report._markup import section
from mambattn.report._svg import inline_svg

if TYPE_CHECKING:
    from mambattn.recall.results import Results
    from mambattn.recall.summary import Summary

__all__ = ["arch_colors", "curves_section", "number", "swatch", "sweeps_section"]

_SIZE = (4.5, 3.0)
"""Inches of a panel: so few that its text can be read on a phone."""

_LONG = 12
"""Characters of a name that fit beside its values in half a panel."""

_WIDE = ' class="wide"'

_Spread = tuple[float, float, float]
"""Mean, lowest and highest."""


def number(value: float, *, signed: bool = False) -> str:
    """Write an accuracy, or a difference of two, with the decimals of the whole page; what is none as a dash."""
    return format_number(value, 3, signed=signed) if math.isfinite(value) else "–"


def arch_colors(archs: Sequence[str]) -> str:
    """Return the colours of the architectures as a style of variables, lighter where the page is dark."""
    colors = (look.color for look in line_styles(archs).values())
    return "".join(f"--arch{i}:light-dark({c},color-mix(in oklab,{c} 62%,white));" for i, c in enumerate(colors))


def swatch(i: int) -> str:
    """Return a patch of the colour of an architecture."""
    return f'<i class="swatch" style="background:var(--arch{i})"></i>'


def curves_section(results: Results, summary: Summary) -> str:
    """Return the section of accuracy over length, a panel a task, with the buttons that pick architectures."""
    places = [f"{length:,} tokens" for length in results.settings["lengths"]]
    panels = []
    for i, task in enumerate(results.settings["tasks"]):
        figure = Figure(figsize=_SIZE, layout="constrained")
        plots.length_curves(results, task, figure.add_subplot())
        values = {one.arch: [(at.mean, at.min, at.max) for at in one.lengths] for one in summary if one.task == task}
        panels.append(_panel(figure, f"curves-{i}", f"Accuracy over length on {task}", places, values))
    return section(
        "curves",
        "Accuracy over length",
        "<p>Lines are means over seeds, bands go from the lowest to the highest seed. The dotted upright is the "
        "training length, the dashed line the best guess without looking. Point at a figure to read its values; click "
        "on a name to take its lines off all figures.</p>",
        _picks(results.settings["archs"]),
        f'<div class="panels">{"".join(panels)}</div>',
    )


def sweeps_section(results: Results) -> str:
    """Return the section of accuracy over the delay, a panel a family of tasks."""
    panels = []
    for i, sweep in enumerate(plots.delay_sweeps(results)):
        figure = Figure(figsize=_SIZE, layout="constrained")
        names = list(sweep.values())
        plots.delay_sweep(results, names[0], figure.add_subplot())
        values: dict[str, list[_Spread | None]] = {
            arch: [(float(one.mean()), float(one.min()), float(one.max())) if len(one) else None for one in by_tau]
            for arch, by_tau in plots.sweep_accuracies(results, sweep).items()
        }
        label = f"Accuracy over the delay of {', '.join(names)}"
        panels.append(_panel(figure, f"delay-{i}", label, [f"τ = {tau}" for tau in sweep], values))
    return section(
        "delay",
        "Accuracy over the delay",
        "<p>Tasks that differ only in τ, the number of tokens from a marker to its answer. A seed counts with its mean "
        "accuracy over the lengths beyond the training length; lines and bands are as above.</p>",
        f'<div class="panels">{"".join(panels)}</div>',
    )


def _picks(archs: Sequence[str]) -> str:
    buttons = "".join(
        f'<button type="button" data-arch="{i}" aria-pressed="true">{swatch(i)}{escape(arch_label(arch))}</button>'
        for i, arch in enumerate(archs)
    )
    every = '<button type="button" class="all">all on or off</button>'
    return f'<div class="picks" role="group" aria-label="Architectures shown">{buttons}{every}</div>'


def _panel(
    figure: Figure, name: str, label: str, places: Sequence[str], values: Mapping[str, Sequence[_Spread | None]]
) -> str:
    """Return a figure with its values for the script, and below it those of one place, the last at first."""
    svg = inline_svg(figure, name=name, label=label)
    for i, look in enumerate(line_styles(list(values)).values()):
        svg = svg.replace(look.color, f"var(--arch{i})")
    lines = [[_spread(value) for value in line] or [None] * len(places) for line in values.values()]
    items = "".join(
        f'<li data-arch="{i}"{_WIDE if len(spelled) > _LONG else ""}>{swatch(i)}{escape(spelled)}'
        f"<output>{line[-1] or '–'}</output></li>"
        for i, (spelled, line) in enumerate(zip(map(arch_label, values), lines, strict=True))
    )
    data: dict[str, Any] = {"places": places, "values": lines}
    return (
        f'<figure id="figure-{name}" data-panel="{escape(json.dumps(data))}">{svg}<figcaption class="readout">'
        f'At <b class="place">{escape(places[-1])}</b><ul>{items}</ul></figcaption></figure>'
    )


def _spread(value: _Spread | None) -> str | None:
    if value is None:
        return None
    mean, low, high = map(number, value)
    return mean if low == high else f"{mean} ({low}–{high})"

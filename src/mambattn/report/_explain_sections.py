"""The sections of the page of an explanation; its script fills what depends on what is picked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mambattn import plots
from mambattn.plots import as_array, kind_color
from mambattn.report._markup import cell, section, table
from mambattn.report._svg import figure_block

if TYPE_CHECKING:
    from mambattn.explain.results import Attribution, Flow, LayerMap, Reach

__all__ = ["attribution_section", "controls", "flow_section", "maps_section", "reach_section", "reading"]

_METHODS = {
    "maps": ("what the tokens of one layer read from each other", "flow only", "keep most of their shape"),
    "rollout": ("what a position has gathered from the input through all layers", "flow only", "keeps most of it"),
    "receptive field": ("how far a head or channel reads", "flow only", "keeps most of it"),
    "lrp": ("shares of one output, by relevance passed backwards", "class-specific", "changes"),
    "gradient × map": ("maps of the layers, weighted by the gradient of one output", "mostly flow", "keeps part of it"),
    "integrated gradients": ("shares of one output's distance from a baseline", "class-specific", "change"),
    "occlusion": ("what one output loses without a source", "class-specific", "changes"),
}


def _select(name: str, label: str, options: Iterable[str]) -> str:
    choices = "".join(f'<option value="{i}">{escape(option)}</option>' for i, option in enumerate(options))
    return f'<label>{escape(label)} <select id="{name}">{choices}</select></label>'


def controls(rows: Sequence[str]) -> str:
    """Return what applies to all sections: the row, and the position that reads."""
    return (
        '<noscript><p class="verdict">The maps of this page need JavaScript.</p></noscript>'
        '<div class="controls" role="group" aria-label="What is shown">'
        f"{_select('pick-row', 'Row', rows)}{_select('pick-query', 'Position that reads', ())}</div>"
    )


def maps_section(maps: Sequence[LayerMap]) -> str:
    """Return the section of the maps: layers as buttons, the chosen map, and what the chosen position reads in it."""
    buttons = "".join(
        f'<button type="button" data-index="{i}"><i style="background:{kind_color(one.kind)}"></i>{one.layer} '
        f"{escape(one.kind)}</button>"
        for i, one in enumerate(maps))  # fmt: skip
    return section(
        "maps",
        "What each layer reads",
        "<p>Every line of a map is a position that reads, every column a source. A click on a line picks it; so do the "
        "arrow keys, and a click on a token below. Weights may be negative.</p>",
        f'<div class="buttons" id="pick-layer" role="group" aria-label="Layer">{buttons}</div>',
        f'<div class="controls">{_select("pick-map", "Map or head", [])}'
        '<label><input type="checkbox" id="by-line"> colour each line by itself</label></div>',
        '<div class="beside"><figure><canvas id="map" tabindex="0" role="slider" aria-orientation="vertical" '
        'aria-label="Position that reads, as a line of the map"></canvas>'
        '<figcaption><span class="scale" id="map-scale"></span><span id="map-hover"></span></figcaption></figure>'
        '<div><p id="map-says" role="status"></p><div class="scroll">'
        '<table id="map-table" class="ranking"></table></div></div></div>',
        '<div class="tokens" id="map-tokens"></div>',
    )


def flow_section(flow: Flow) -> str:
    """Return the section of the flow to the chosen position."""
    return section(
        "flow",
        "Where it has come from",
        f"<p>Rollout, kind {escape(flow.kind)}: what the position has gathered from each source of the input, up to "
        "and with each layer, residuals included. It shows where information could flow, whatever is predicted.</p>",
        '<div id="flow-shown"><figure><canvas id="flow-map" role="img"></canvas>'
        '<figcaption><span class="scale" id="flow-scale"></span><span id="flow-hover"></span></figcaption></figure>'
        '<div class="tokens" id="flow-tokens"></div></div>',
        '<p id="flow-says" role="status"></p>',
    )


def attribution_section(attributions: Sequence[Attribution], output: str) -> str:
    """Return the section of the scores of the chosen row."""
    return section(
        "attribution",
        "What counted for the output",
        f"<p>Scores of the sources of the row for {escape(output)}: orange speaks for it, blue against it.</p>",
        f'<div class="controls">{_select("pick-method", "Method", (one.method for one in attributions))}</div>',
        '<p id="attribution-says" role="status"></p>',
        '<div class="tokens" id="attribution-tokens"></div>',
        '<div class="scroll"><table id="attribution-table" class="ranking"></table></div>',
    )


def reach_section(reaches: Sequence[Reach]) -> str:
    """Return the section of how far each layer reads."""
    label = "Mean distance that each head or channel of each layer reads"

    def cells(reach: Reach) -> Iterable[str]:
        distance = as_array(reach.distance).mean(axis=0)
        yield cell(f"{reach.layer} {reach.kind}", value=reach.layer, head=True)
        yield cell(str(len(distance)), value=len(distance))
        for value in (distance.mean(), distance.min(), distance.max()):
            yield cell(f"{value:.2f}", value=float(value))

    columns = {
        "Layer": "Depth index and kind",
        "Maps": "Heads, channels or directions",
        "Mean": "Mean distance in positions, over maps and rows",
        "Least": "That of the map that reads nearest",
        "Most": "That of the map that reads farthest",
    }
    return section(
        "reach",
        "How far each layer reads",
        figure_block(plots.receptive_field(reaches), "reach", label, f"{label}, weighted by absolute weights."),
        f"<details><summary>As a table</summary>{table('Distances', label, columns, map(cells, reaches))}</details>",
    )


def reading() -> str:
    """Return the section that tells what the numbers are, and which methods speak of one output."""
    columns = {
        "Method": "Name",
        "Says": "What its numbers are",
        "Kind": "Whether it is of one output, such as a class, or of the flow alone",
        "With random weights": "What becomes of it when the weights are drawn at random",
    }
    rows = ((cell(name, head=True), *map(cell, says)) for name, says in _METHODS.items())
    return section(
        "reading",
        "How to read the numbers",
        "<p>Class-specific methods score the sources for one output. Maps and flow are the same whatever is predicted: "
        "they show where a model looks, with weights drawn at random they keep most of their shape, so they fail the "
        "test of weight randomisation and are no evidence of what the model has learned.</p>",
        table("Methods", "Which methods speak of one output.", columns, rows),
        "<p>Colours: orange above 0, blue below, as strong as the number is beside the largest absolute one of the "
        "map, or of the line where lines are coloured by themselves; tokens are always coloured by their own line. "
        "Numbers of maps and of the flow are rounded to 1/127 of the largest absolute one in their line, scores to "
        "five figures.</p>",
    )

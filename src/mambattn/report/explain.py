"""The page of an explanation, in which one picks a row, a layer, a map and a position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mambattn._errors import ConfigError, ShapeError
from mambattn.plots import as_array, kind_color, promise
from mambattn.report._explain_sections import (
    attribution_section,
    controls,
    flow_section,
    maps_section,
    reach_section,
    reading,
)
from mambattn.report._markup import facts as fact_list
from mambattn.report._markup import page, section
from mambattn.report._pack import pack

if TYPE_CHECKING:
    from mambattn.explain.results import Attribution, Flow, LayerMap, Reach

__all__ = ["explain_page"]

_LARGEST = 15_000_000
"""Characters of packed matrices that a page holds at most."""


def explain_page(
    title: str,
    names: Sequence[str] | Sequence[Sequence[str]],
    maps: Sequence[LayerMap],
    flow: Flow | None,
    attributions: Sequence[Attribution],
    reaches: Sequence[Reach],
    rows: Sequence[str] | None = None,
    facts: Mapping[str, str] | None = None,
    *,
    values: Sequence[Sequence[Any]] | None = None,
) -> str:
    """Return an explanation as one self-contained HTML page, from 2 to 512 positions.

    One picks a row of the batch, a layer, one of its maps and the position that reads, and sees the sources coloured by
    sign, with numbers; the flow to that position, the attributions of the row and the receptive field follow. Numbers
    of maps and flow are rounded to 1/127 of the largest in their line.

    Parameters
    ----------
    title : str
        Heading of the page.
    names : sequence of str, or a sequence of them for each row
        Token or column at each position.
    maps : sequence of LayerMap
        What `mambattn.explain.attention_maps` gives.
    flow : Flow or None
        What `mambattn.explain.rollout` gives of the same input.
    attributions : sequence of Attribution
        Scores of the same rows, called by their `method`; of the first positions, where there are fewer sources.
    reaches : sequence of Reach
        What `mambattn.explain.receptive_field` gives.
    rows : sequence of str or None, default None
        Name of each row of the batch; None numbers them.
    facts : mapping of str to str or None, default None
        What else to tell, by name.
    values : sequence of sequences or None, default None
        Value of each source in each row, written beside its name.

    Returns
    -------
    str
        The page.

    Raises
    ------
    ConfigError
        If there is no map, or the matrices are too large for a page.
    ShapeError
        If what is given is not of one batch and one number of positions.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import LayerMap
    >>> maps = [LayerMap(0, "Mamba", ("mean",), torch.eye(2)[None, None])]
    >>> explain_page("Two tokens", ["a", "b"], maps, None, [], []).startswith("<!DOCTYPE html>")
    True
    """
    if not maps:
        raise ConfigError("`maps` must hold at least one map, however it is empty. Use a model that mixes tokens.")
    batch, _, _, n_sources = maps[0].values.shape
    by_row = [list(map(str, row)) for row in ([names] if not names or isinstance(names[0], str) else names)]
    rows = [f"row {row}" for row in range(batch)] if rows is None else rows
    _check(batch, n_sources, by_row, maps, flow, attributions, rows, values)
    data = {
        "names": by_row,
        "values": None if values is None else [[_text(value) for value in row] for row in values],
        "layers": [_layer(one) for one in maps],
        "flow": None if flow is None else _flow(flow, maps),
        "attributions": [_attribution(one) for one in attributions],
    }
    # Of all characters of JSON only this one could end the element.
    packed = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    if len(packed) > _LARGEST:
        raise ConfigError(
            f"`maps` and `flow` must fit into {_LARGEST:,} characters of a page, however they take {len(packed):,}. "
            "Use fewer rows, layers or maps, such as the mean over heads."
        )
    body = [
        controls(rows),
        maps_section(maps),
        *([] if flow is None else [flow_section(flow)]),
        *([attribution_section(attributions)] if attributions else []),
        *([reach_section(reaches)] if reaches else []),
        reading(),
        *([section("facts", "Model, input, settings", fact_list(facts))] if facts else []),
    ]
    header = (
        f'<header><p class="kicker">mambattn · what a model looks at</p><h1>{escape(title)}</h1>'
        f'<p class="summary">{_count(batch, "row")}, {_count(n_sources, "position")}, {_count(len(maps), "layer")} '
        f"that mix them: {escape(' · '.join(f'{one.layer} {one.kind}' for one in maps))}.</p></header>"
    )
    holder = f'<script type="application/json" id="explain-data">{packed}</script>'
    footer = "<footer>Made by mambattn. This page fetches nothing.</footer>"
    return page(title, f"{header}\n<main>\n" + "\n".join(body) + f"\n</main>\n{footer}\n{holder}", extra="explain")


def _check(
    batch: int,
    n_sources: int,
    names: Sequence[Sequence[str]],
    maps: Sequence[LayerMap],
    flow: Flow | None,
    attributions: Sequence[Attribution],
    rows: Sequence[str],
    values: Sequence[Sequence[Any]] | None,
) -> None:
    """Raise `ShapeError` unless all are of one batch and one number of positions."""
    given: list[tuple[str, tuple[int, int]]] = [("names", (batch, len(row))) for row in names]
    given += [("names", (len(names), n_sources))] if len(names) > 1 else []
    given += [("maps", (len(one.values), size)) for one in maps for size in one.values.shape[2:]]
    given += [("flow", (flow.values.shape[1], flow.values.shape[3]))] if flow is not None else []
    given += [("rows", (len(rows), n_sources))]
    # A class token has no score and no value.
    short = [("attributions", len(one.values), one.values.shape[1]) for one in attributions]
    short += [("values", len(values), len(row)) for row in values] if values is not None else []
    given += [(name, (n_rows, n_sources if size <= n_sources else size)) for name, n_rows, size in short]
    for name, shape in given:
        if shape != (batch, n_sources):
            raise ShapeError(
                f"`{name}` must be of {batch} rows and {n_sources} positions, as the first map is, however it is of "
                f"{shape[0]} and {shape[1]}. Use results of one input."
            )


def _layer(one: LayerMap) -> dict[str, Any]:
    return {
        "layer": one.layer,
        "kind": one.kind,
        "color": kind_color(one.kind),
        "labels": list(one.labels),
        "maps": [[pack(matrix) for matrix in as_array(values)] for values in one.values],
    }


def _flow(flow: Flow, maps: Sequence[LayerMap]) -> dict[str, Any]:
    kinds = {one.layer: f"{one.layer} {one.kind}" for one in maps}
    return {
        "layers": [kinds.get(layer, str(layer)) for layer in flow.layers],
        "positions": list(flow.positions),
        "maps": [[pack(matrix) for matrix in as_array(layer)] for layer in flow.values],
    }


def _attribution(one: Attribution) -> dict[str, Any]:
    return {
        "method": one.method,
        "values": [[_number(value) for value in row] for row in as_array(one.values)],
        "promises": [promise(one, row) for row in range(len(one.values))],
    }


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if abs(value) < float("inf") else None


def _text(value: Any) -> str:
    return "missing" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

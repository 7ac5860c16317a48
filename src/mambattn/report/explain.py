"""The page of an explanation, in which one picks a row, a layer, a map and a position."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from mambattn._errors import ConfigError
from mambattn.report._explain_columns import importance_section, order_section
from mambattn.report._explain_data import check_one_input, script_data
from mambattn.report._explain_pairs import pairs_section
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

if TYPE_CHECKING:
    from mambattn.explain.joint import JointEffects
    from mambattn.explain.order import OrderEffects
    from mambattn.explain.results import Attribution, Flow, LayerMap, Reach
    from mambattn.explain.tables import RowExplanation

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
    output: str | None = None,
    explained: RowExplanation | None = None,
    joint: JointEffects | None = None,
    order: OrderEffects | None = None,
) -> str:
    """Return an explanation as one self-contained HTML page, from 2 to 512 positions.

    One picks a row of the batch, a layer, one of its maps and the position that reads, and sees the sources coloured by
    sign, with numbers; the flow to that position and the attributions of the row follow; then, of a table, what holds
    over all rows: importance, pairs of columns, other orders; then the receptive field. What is not given has no
    section. Numbers of maps and flow are rounded to 1/127 of the largest in their line.

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
    output : str or None, default None
        What the scores are parts of, such as "the log-odds of class yes".
    explained : RowExplanation or None, default None
        What `mambattn.explain.explain_rows` gives of the same rows, for the importance and the interaction.
    joint : JointEffects or None, default None
        What `mambattn.explain.joint_effects` gives of them.
    order : OrderEffects or None, default None
        What `mambattn.explain.order_effects` gives of them.

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
    check_one_input(
        batch, n_sources, by_row, maps, flow, attributions, rows, values, explained=explained, joint=joint, order=order
    )
    scored = "the output" if output is None else f"the output ({output})"
    unit = f"in the units of {scored}"
    packed = script_data(by_row, maps, flow, attributions, values)
    if len(packed) > _LARGEST:
        raise ConfigError(
            f"`maps` and `flow` must fit into {_LARGEST:,} characters of a page, however they take {len(packed):,}. "
            "Use fewer rows, layers or maps, such as the mean over heads."
        )
    body = [
        controls(rows),
        maps_section(maps),
        *([] if flow is None else [flow_section(flow)]),
        *([attribution_section(attributions, scored)] if attributions else []),
        *([] if explained is None else [importance_section(explained, unit)]),
        *filter(None, [pairs_section(joint, explained, unit)]),
        *([] if order is None or len(order.names) < 2 else [order_section(order, rows, unit)]),
        *([reach_section(reaches)] if reaches else []),
        reading(),
        *([section("facts", "Model, input, settings", fact_list(facts))] if facts else []),
    ]
    # Headings are escaped already.
    links = "".join(
        f'<a href="#{anchor}">{heading}</a>'
        for part in body
        for anchor, heading in re.findall(r'<h2 id="([a-z]+)">(.*?)</h2>', part)
    )
    header = (
        f'<header><p class="kicker">mambattn · what a model looks at</p><h1>{escape(title)}</h1>'
        f'<p class="summary">{_count(batch, "row")}, {_count(n_sources, "position")}, {_count(len(maps), "layer")} '
        f"that mix them: {escape(' · '.join(f'{one.layer} {one.kind}' for one in maps))}.</p>"
        f'<nav aria-label="Sections">{links}</nav></header>'
    )
    holder = f'<script type="application/json" id="explain-data">{packed}</script>'
    footer = "<footer>Made by mambattn. This page fetches nothing.</footer>"
    return page(title, f"{header}\n<main>\n" + "\n".join(body) + f"\n</main>\n{footer}\n{holder}", extra="explain")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"

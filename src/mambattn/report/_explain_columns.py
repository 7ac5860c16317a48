"""The sections of a table's explanation on single columns over all rows: their importance, and their order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mambattn.plots import as_array, figures_of_three
from mambattn.report._markup import cell, section
from mambattn.report._signed import bars, number, span
from mambattn.report._svg import bar_svg

if TYPE_CHECKING:
    from mambattn.explain.order import OrderEffects
    from mambattn.explain.tables import RowExplanation

__all__ = ["importance_section", "order_section"]

_N_NAMED = 12
"""Columns at most that are named in the order in which the model reads them."""


def importance_section(explained: RowExplanation, unit: str) -> str:
    """Return the section of the importance of each column, its interval, and what speaks for and against."""
    scores, intervals = as_array(explained.attribution.values), as_array(explained.interval)
    importance = as_array(explained.importance)
    farthest = float(intervals.max())

    def cells(column: int) -> Iterable[str]:
        mean, low, high = float(importance[column]), *map(float, intervals[column])
        speaks_for = float(scores[:, column].clip(min=0).mean())
        # Blue is drawn behind orange, from right to left, so that both together end at the mean.
        parts = [(0.0, speaks_for), (mean, speaks_for - mean)]
        yield cell(explained.names[column], head=True)
        yield cell("", value=mean, html=bar_svg(0.0, farthest, parts, (low, mean, high)))
        yield number(mean)
        yield span(low, high)
        yield number(float(scores[:, column].mean()), signed=True)

    return section(
        "importance",
        "What counts over all rows",
        "<p>The importance of a column is the mean size of its scores over all rows, by "
        f"{escape(explained.attribution.method)}, {escape(unit)}. Orange is the part that spoke for the output, blue "
        "the part against it. The line is a 95 % interval: where the importance may lie with other rows of the same "
        "kind; where the lines of two columns overlap, either may be the more important.</p>",
        bars(
            "Importance",
            f"Importance over {len(scores):,} rows, the largest first; a bar from end to end is "
            f"{figures_of_three(farthest)}.",
            {
                "Column": "Name of the column",
                "For and against": "What spoke for the output, then what spoke against it, and the interval",
                "Importance": "Mean absolute score over the rows",
                "95 % interval": "Of the importance, by drawing the rows again",
                "With sign": "Mean score over the rows; above 0 the column spoke more for the output than against it",
            },
            map(cells, np.argsort(-importance, kind="stable").tolist()),
        ),
    )


def order_section(order: OrderEffects, labels: Sequence[str], unit: str) -> str:
    """Return the section of what other orders of the columns change; `labels` are the names of the rows."""
    importance, outputs, ranks = as_array(order.importance), as_array(order.outputs), order.ranks.tolist()
    agreement, spread = as_array(order.agreement), as_array(order.spread)
    own = [order.names[column] for column in order.orders[0].tolist()]
    read = " → ".join(own[:_N_NAMED]) + (f" and {len(own) - _N_NAMED} more" if len(own) > _N_NAMED else "")
    moves = (
        f"the output moves by {figures_of_three(spread[0])}"
        if math.isnan(order.share)
        else f"the output of a row moves by {figures_of_three(100 * order.share)} % of the spread of outputs over rows"
    )
    by_rank = sorted(range(len(own)), key=lambda column: ranks[0][column])
    ranked = [[one[column] for one in ranks] for column in by_rank]
    told = {
        "In other orders": "From the least to the most over all orders, with a dot at the model's own",
        "Own order": "In the order of the model",
        "Least to most": "Over all orders",
    }
    return section(
        "order",
        "What the order of the columns does",
        f"<p>A causal scan reads the columns one after the other, though a table has no order; the model's own is "
        f"{escape(read)}. In {len(agreement)} other orders, drawn at random, {moves}, and the importance keeps a rank "
        f"correlation of {agreement.mean():.2f} with that in the own order, {agreement.min():.2f} at least. A model "
        "that does not mind the order has 0 % and 1 there.</p>"
        "<p>A dot is the importance by lrp in the own order, a line goes from the least to the most over all orders: "
        "the longer it is, the more a column's weight hangs on its place.</p>",
        bars(
            "Importance in other orders",
            f"Importance in other orders, {unit}.",
            {"Column": "Name of the column"} | told | {"Ranks": "Rank in the own order, and over all orders"},
            _spans(
                [order.names[column] for column in by_rank],
                importance[:, by_rank],
                [cell(f"{one[0]}, {min(one)} to {max(one)}", value=one[0]) for one in ranked],
            ),
        ),
        "<details><summary>The output of each row in other orders</summary>",
        bars(
            "Outputs in other orders",
            f"Outputs in other orders, {unit}.",
            {"Row": "Name of the row"} | told | {"Moves by": "Root mean square distance from that in the own order"},
            _spans(labels, outputs, map(number, spread)),
        ),
        "</details>",
    )


def _spans(names: Iterable[str], values: NDArray[np.float64], last: Iterable[str]) -> Iterable[Iterable[str]]:
    """Yield a row for each column of numbers, of which the first is the model's own."""
    left, right = min(0.0, float(values.min())), max(0.0, float(values.max()))
    for name, (own, *others), more in zip(names, values.T.tolist(), last, strict=True):
        low, high = min(own, *others), max(own, *others)
        bar = bar_svg(left, right, interval=(low, own, high))
        yield cell(name, head=True), cell("", value=own, html=bar), number(own), span(low, high), more

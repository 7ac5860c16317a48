"""The section of a table's explanation on pairs of columns: what they do together, and what one reads from another."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from mambattn.plots import as_array, figures_of_three
from mambattn.report._markup import cell, section
from mambattn.report._signed import bars, heat, number
from mambattn.report._svg import bar_svg

if TYPE_CHECKING:
    from mambattn.explain.joint import JointEffects
    from mambattn.explain.tables import RowExplanation

__all__ = ["pairs_section"]

_N_PAIRS = 10
_N_READ = 12
"""Columns at most, the most important ones, of which it is told what they have read from each other."""


def pairs_section(joint: JointEffects | None, explained: RowExplanation | None, unit: str) -> str | None:
    """Return the section, or None where there are no pairs."""
    parts = [
        *(_joint(joint, unit) if joint is not None and len(joint.names) > 1 else ()),
        *(_read(explained) if explained is not None and len(explained.tokens) > 1 else ()),
    ]
    return section("pairs", "Which columns act together", *parts) if parts else None


def _joint(joint: JointEffects, unit: str) -> Iterable[str]:
    """Yield the matrix of the joint effects and the strongest ones with their signs."""
    names, strength, effects = joint.names, as_array(joint.strength), as_array(joint.values)
    mean = effects.mean(axis=0)
    pairs = [(int(i), int(j)) for j, i in zip(*np.tril_indices(len(names), -1), strict=True)]
    pairs.sort(key=lambda pair: -strength[pair])
    shown = pairs[:_N_PAIRS]
    far = max(abs(float(mean[pair])) for pair in shown)

    def cells(pair: tuple[int, int]) -> Iterable[str]:
        value, above = float(mean[pair]), int((effects[:, *pair] > 0).sum())
        yield cell("\u00a0× ".join(names[i] for i in pair), head=True)
        yield cell("", value=value, html=bar_svg(-far, far, [(0.0, value)]))
        yield number(value, signed=True)
        yield number(strength[pair])
        yield cell(f"{above} of {len(effects)}", value=above)

    yield (
        "<p>Two columns act together where the effect of both is not the sum of the effect of each. A number of the "
        f"table is the size of the difference, a mean over the rows {escape(unit)}; 0 says that the two merely add up. "
        "On the diagonal, without colour, is the effect of a column alone.</p>"
    )
    yield heat(
        "Joint effects",
        f"Size of the joint effects; the strongest colour is {figures_of_three(strength[pairs[0]])}.",
        "↓ with →",
        {name: f"Pairs with {name}" for name in names},
        {
            name: [(value, figures_of_three(value), i != j) for j, value in enumerate(strength[i].tolist())]
            for i, name in enumerate(names)
        },
    )
    yield bars(
        "Strongest pairs",
        "The strongest pairs. Orange, above 0: with both the output is higher than their single effects add up to; "
        "blue, below 0: lower. A mean near 0 beside a large size has both signs among the rows.",
        {
            "Pair": "Two columns",
            "Joint effect": "Mean over the rows, with its sign",
            "Mean": "Mean over the rows, with its sign",
            "Size": "Mean absolute effect over the rows, as in the table above",
            "Rows above 0": "Rows in which the effect is above 0",
        },
        map(cells, shown),
    )


def _read(explained: RowExplanation) -> Iterable[str]:
    """Yield what the tokens of the most important columns have taken from each other."""
    values, n_columns = as_array(explained.interaction), len(explained.names)
    order = np.argsort(-as_array(explained.importance), kind="stable").tolist()
    shown, others = sorted(order[:_N_READ]), order[_N_READ:]
    # A class token, behind the columns, reads and is read as they are.
    shown += range(n_columns, len(values))
    sources = {explained.tokens[source]: values[:, source] for source in shown}
    if others:
        sources[f"… {len(others)} others"] = values[:, others].sum(axis=1)
    yield (
        "<h3>What columns have read from each other</h3><p>A line tells from which columns came what the token of its "
        "column holds after the last layer: shares in %, a mean over the rows, which add up to 100. They show where "
        "information flowed, not what it did to the output.</p>"
    )
    yield heat(
        "What columns have read",
        "Shares in %; a line is a column that reads, a heading a source.",
        "↓ from →",
        {name: f"Share that came from {name}" for name in sources},
        {
            explained.tokens[reader]: [
                (float(column[reader]), f"{100 * column[reader]:.1f}", True) for column in sources.values()
            ]
            for reader in shown
        },
    )

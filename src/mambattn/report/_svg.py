"""Inline SVG: bars drawn here, and matplotlib figures, the same bytes for the same figure, ids that no other has."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

from mambattn.plots import GRID, INK, MUTED

__all__ = ["bar_svg", "figure_block", "inline_svg"]

_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)')
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def inline_svg(figure: Figure, *, name: str, label: str) -> str:
    """Return a figure as an ``<svg>`` element to put into a page.

    Text stays text, and the colours of text and rules become the page's ``--ink``, ``--muted`` and ``--grid``, so that
    the figure follows a dark page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    name : str
        Prefix of every id inside, unique on the page.
    label : str
        What the figure shows, for those who do not see it.

    Returns
    -------
    str
        The element.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        # A figure without pyplot has no typed savefig keywords for the SVG canvas.
        figure.savefig(stream, format="svg", transparent=True, metadata=cast("dict[str, Any]", _NO_METADATA))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = _REFERENCE.sub(rf"\g<1>{name}-", svg)
    for color, variable in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid")):
        svg = svg.replace(color, f"var(--{variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def figure_block(figure: Figure, name: str, label: str, caption: str) -> str:
    """Return a figure with its caption as a ``<figure>`` element; see `inline_svg`.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    name : str
        What its ids are made of, unique on the page.
    label : str
        What the figure shows, for those who do not see it.
    caption : str
        Text below it.

    Returns
    -------
    str
        The element.
    """
    svg = inline_svg(figure, name=name, label=label)
    return (
        f'<figure id="figure-{name}" aria-labelledby="caption-{name}"><div class="scroll">{svg}</div>'
        f'<figcaption id="caption-{name}">{html.escape(caption)}</figcaption></figure>'
    )


def bar_svg(
    left: float,
    right: float,
    parts: Iterable[tuple[float, float]] = (),
    interval: tuple[float, float, float] | None = None,
) -> str:
    """Return a bar for the cell of a table, as wide as the cell; the numbers are to stand beside it.

    Parameters
    ----------
    left : float
        Value at the left end of the cell.
    right : float
        Value at the right end.
    parts : iterable of tuple of float, default ()
        Start and length of each part of the bar; of negative length it is blue, else orange.
    interval : tuple of float or None, default None
        Lower end, middle and upper end of a line with a dot.

    Returns
    -------
    str
        The element.
    """

    def at(value: float) -> str:
        return f"{100 * (value - left) / ((right - left) or 1):.2f}%"

    drawn = [
        f'<rect class="{"against" if length < 0 else "for"}" x="{at(min(start, start + length))}" '
        f'width="{at(left + abs(length))}" y="2" height="10"/>'
        for start, length in parts
    ]
    if left < 0 < right:
        drawn.append(f'<line class="zero" x1="{at(0)}" x2="{at(0)}" y1="0" y2="14"/>')
    if interval is not None:
        low, middle, high = map(at, interval)
        drawn.append(f'<line x1="{low}" x2="{high}" y1="7" y2="7"/><circle cx="{middle}" cy="7" r="3.5"/>')
    return f'<svg class="bar" aria-hidden="true">{"".join(drawn)}</svg>'

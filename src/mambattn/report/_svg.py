"""A matplotlib figure as inline SVG: the same bytes for the same figure, ids that no other figure has."""

from __future__ import annotations

import html
import io
import re
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

from mambattn.plots import GRID, INK, MUTED

__all__ = ["figure_block", "inline_svg"]

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

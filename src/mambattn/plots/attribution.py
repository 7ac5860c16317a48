"""Scores of the sources of one row, as bars or as coloured text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mambattn.plots._signed import (
    DIVERGING,
    NEGATIVE,
    POSITIVE,
    as_array,
    check_names,
    check_row,
    clear,
    figures_of_three,
    reach_of,
    shorten,
    title,
)
from mambattn.plots._style import INK, MUTED, SIZE, WIDTH, figure_of, new_axes

if TYPE_CHECKING:
    from mambattn.explain.results import Attribution

__all__ = ["attribution_row", "promise", "token_text"]

_STRENGTH = 0.62
"""Share of the full colour behind the strongest token, so that dark text stays readable on it."""
_MONO = 0.602
"""Width of a character of DejaVu Sans Mono, in units of its size."""


def promise(attribution: Attribution, row: int) -> str:
    """Say how well the scores of one row add up, and what biases absorbed.

    Parameters
    ----------
    attribution : Attribution
        The scores.
    row : int
        Row of the batch.

    Returns
    -------
    str
        A line of text.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import Attribution
    >>> promise(Attribution("lrp", torch.ones(1, 2), torch.tensor([1e-6]), torch.tensor([0.12])), 0)
    'completeness error 1e−6, absorbed by biases and constants 12 %'
    """
    error, absorbed = float(attribution.completeness_error[row]), float(attribution.absorbed[row])
    if math.isnan(error):
        return "the method promises no sum"
    share = "" if math.isnan(absorbed) else f", absorbed by biases and constants {figures_of_three(100 * absorbed)} %"
    return f"completeness error {figures_of_three(error)}{share}"


def attribution_row(
    attribution: Attribution,
    row: int,
    names: Sequence[str],
    values: Sequence[Any] | None = None,
    *,
    n_shown: int = 20,
    ax: Axes | None = None,
) -> Figure:
    """Draw the scores of one row as bars, the strongest on top: orange for the output, blue against it.

    Parameters
    ----------
    attribution : Attribution
        The scores.
    row : int
        Row of the batch.
    names : sequence of str
        Name of each source.
    values : sequence or None, default None
        Value of each source in this row, written beside its name.
    n_shown : int, default 20
        Bars at most; weaker sources are joined in a last one, by their sum.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no such row.
    ShapeError
        If there is not a name, or a value, for each source.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import Attribution
    >>> scores = Attribution("lrp", torch.tensor([[0.2, -0.7]]), torch.zeros(1), torch.zeros(1))
    >>> figure = attribution_row(scores, 0, ["age", "fare"], [34, 7.25])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['fare = 7.25', 'age = 34']
    """
    scores = _scores(attribution, row, names)
    check_names("values", values, len(scores))
    order = np.argsort(-np.abs(scores), kind="stable")
    shown, rest = order[:n_shown], order[n_shown:]
    labels = [shorten(names[i]) + ("" if values is None else f" = {_value(values[i])}") for i in map(int, shown)]
    heights = list(scores[shown])
    if len(rest):
        labels.append(f"{len(rest)} others, sum")
        heights.append(scores[rest].sum())
    if ax is None:
        _, (ax,) = new_axes(1.0 + 0.26 * len(labels))
    _bars(ax, labels, heights)
    title(ax, attribution.method)
    ax.set_xlabel(promise(attribution, row))
    return figure_of(ax)


def _scores(attribution: Attribution, row: int, names: Sequence[str]) -> NDArray[np.float64]:
    check_row(row, len(attribution.values))
    scores = as_array(attribution.values[row])
    check_names("names", names, len(scores))
    return scores


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return "missing" if value is None else shorten(str(value), 14)


def _bars(ax: Axes, labels: Sequence[str], widths: Sequence[float]) -> None:
    """Draw signed bars from 0, their numbers at the far ends."""
    clear(ax)
    places = range(len(labels))
    ax.barh(places, widths, height=0.68, color=[POSITIVE if width >= 0 else NEGATIVE for width in widths])
    ax.axvline(0, color=MUTED, linewidth=0.9)
    for y, width in zip(places, widths, strict=True):
        ax.annotate(
            figures_of_three(width), (width, y), xytext=(3 if width >= 0 else -3, 0), textcoords="offset points",
            ha="left" if width >= 0 else "right", va="center", fontsize=SIZE - 1, color=MUTED,
        )  # fmt: skip
    ax.margins(x=0.12)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(places, labels, fontsize=SIZE, color=INK, parse_math=False)


def token_text(attribution: Attribution, tokens: Sequence[str], *, row: int = 0, ax: Axes | None = None) -> Figure:
    """Draw the tokens of one row as text that their scores colour: orange for the output, blue against it.

    Parameters
    ----------
    attribution : Attribution
        The scores.
    tokens : sequence of str
        The token of each source.
    row : int, default 0
        Row of the batch.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no such row.
    ShapeError
        If there is not a token for each source.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import Attribution
    >>> scores = Attribution("lrp", torch.tensor([[0.2, -0.7]]), torch.zeros(1), torch.zeros(1))
    >>> [text.get_text() for text in token_text(scores, ["not", " bad"]).axes[0].texts]
    ['not', ' bad']
    """
    scores = _scores(attribution, row, tokens)
    inches = WIDTH - 0.3 if ax is None else ax.get_window_extent().width / figure_of(ax).dpi
    columns = max(int(inches * 72 / (_MONO * SIZE)), 20)
    words = [shorten(token, columns - 2) or " " for token in tokens]
    places, x, line = [], 0.0, 0
    for word in words:
        if x > 0 and x + len(word) > columns:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += len(word) + 0.4
    if ax is None:
        _, (ax,) = new_axes(0.75 + 0.25 * (line + 1))
    clear(ax)
    ax.grid(visible=False)
    reach = reach_of(scores)
    for word, score, (left, y) in zip(words, scores, places, strict=True):
        color = DIVERGING(0.5 + 0.5 * _STRENGTH * score / reach) if math.isfinite(score) else "none"
        ax.add_patch(Rectangle((left, y - 0.42), len(word), 0.84, facecolor=color, edgecolor="none"))
        ax.text(
            left + len(word) / 2, y, word, ha="center", va="center", fontsize=SIZE - 0.3, color=INK,
            family="DejaVu Sans Mono", parse_math=False,
        )  # fmt: skip
    ax.set_xlim(0, columns + 1)
    ax.set_ylim(line + 0.6, -0.6)
    ax.set_xticks([])
    ax.set_yticks([])
    title(ax, attribution.method, note=f"strongest ±{figures_of_three(reach)}")
    ax.set_xlabel(promise(attribution, row), loc="left")
    return figure_of(ax)

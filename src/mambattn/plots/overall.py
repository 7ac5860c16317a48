"""Figures over all rows: importance of columns, what they read from each other, and perturbation curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mambattn._errors import ConfigError
from mambattn.plots._signed import as_array, check_names, clear, figures_of_three, heatmap, name_axis, reach_of, shorten
from mambattn.plots._style import FAMILY_COLORS, INK, LETTER_COLORS, MUTED, SIZE, figure_of, new_axes

if TYPE_CHECKING:
    from mambattn.explain.perturbation import PerturbationCurve

__all__ = ["importance", "interaction", "perturbation"]

_LINES = (FAMILY_COLORS["both"], FAMILY_COLORS["mamba"], FAMILY_COLORS["attention"], FAMILY_COLORS["no mixer"],
          LETTER_COLORS["G"], LETTER_COLORS["L"], "#c94fa4", "#7c9a1c")  # fmt: skip


def importance(
    mean: Any, low: Any, high: Any, names: Sequence[str], *, n_shown: int = 30, ax: Axes | None = None
) -> Figure:
    """Draw the importance of each column of a table with its interval, the largest on top.

    Parameters
    ----------
    mean : array-like of shape (n_names,)
        Importance, such as `RowExplanation.importance`.
    low : array-like of shape (n_names,)
        Lower ends of the intervals, such as ``RowExplanation.interval[:, 0]``.
    high : array-like of shape (n_names,)
        Upper ends.
    names : sequence of str
        Name of each column.
    n_shown : int, default 30
        Columns at most.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ShapeError
        If the lengths differ.

    Examples
    --------
    >>> figure = importance([0.2, 0.7], [0.1, 0.6], [0.3, 0.9], ["age", "fare"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['fare', 'age']
    """
    mean, low, high = (as_array(values) for values in (mean, low, high))
    for name, given in (("low", low), ("high", high), ("names", names)):
        check_names(name, given, len(mean))
    order = np.argsort(-mean, kind="stable")[:n_shown]
    if ax is None:
        _, (ax,) = new_axes(0.8 + 0.26 * len(order))
    clear(ax)
    color = FAMILY_COLORS["both"]
    for y, i in enumerate(order):
        ax.plot([low[i], high[i]], [y, y], color=color, linewidth=2.4, solid_capstyle="round")
        ax.plot([mean[i]], [y], "o", color=color, markersize=6, markeredgewidth=0)
    ax.set_ylim(len(order) - 0.4, -0.6)
    labels = [shorten(names[i], 28) for i in map(int, order)]
    ax.set_yticks(range(len(order)), labels, fontsize=SIZE, color=INK, parse_math=False)
    ax.set_xlim(left=min(0.0, float(low.min())))
    largest = f"; the {len(order)} largest of {len(mean)}" if len(order) < len(mean) else ""
    ax.set_xlabel(f"mean absolute score over the rows, with its 95 % interval{largest}")
    return figure_of(ax)


def perturbation(curves: Mapping[str, Sequence[PerturbationCurve]], ax: Axes | None = None) -> Figure:
    """Draw perturbation curves: solid where the highest scores go first, dashed where the lowest do.

    The grey band reaches from the least to the most that random orders gave. The legend has the areas; their gap is
    negative minus positive.

    Parameters
    ----------
    curves : mapping of str to sequence of PerturbationCurve
        The curves of each method by its name, of one measure.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no curve, or their measures differ.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.perturbation import PerturbationCurve
    >>> curve = PerturbationCurve("positive", "accuracy", (0.0, 1.0), (1.0, 0.2), torch.tensor([[1.0, 0.2]]))
    >>> figure = perturbation({"lrp": [curve]})
    >>> figure.axes[0].get_legend().get_texts()[1].get_text()
    'lrp: area 0.6 positive'
    """
    every = [curve for group in curves.values() for curve in group]
    measures = sorted({curve.measure for curve in every})
    if len(measures) != 1:
        raise ConfigError(
            f"`curves` must hold at least one curve, all of one measure, however their measures are {measures}. Use "
            "one figure a measure."
        )
    if ax is None:
        _, (ax,) = new_axes(3.6)
    clear(ax, grid="both")
    handles: list[Artist] = [Rectangle((0, 0), 1, 1, facecolor=MUTED, alpha=0.22)]
    labels = ["random orders, least to most"]
    for fractions in dict.fromkeys(curve.fractions for curve in every):
        random = np.concatenate([as_array(curve.random) for curve in every if curve.fractions == fractions])
        ax.fill_between(fractions, random.min(axis=0), random.max(axis=0), color=MUTED, alpha=0.22, linewidth=0)
    for i, (name, group) in enumerate(curves.items()):
        color = _LINES[i % len(_LINES)]
        for curve in group:
            style = "-" if curve.order == "positive" else (0, (4, 2))
            ax.plot(curve.fractions, curve.values, color=color, linewidth=1.8, linestyle=style)
        areas = ", ".join(f"{figures_of_three(curve.auc)} {curve.order}" for curve in group)
        handles.append(Line2D([], [], color=color, linewidth=1.8))
        labels.append(f"{name}: area {areas}")
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of the sources taken away; solid: highest scores first, dashed: lowest first")
    ax.set_ylabel(measures[0])
    ax.legend(
        handles, labels, frameon=False, fontsize=SIZE - 0.5, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.01, 1)
    )
    return figure_of(ax)


def interaction(matrix: Any, names: Sequence[str], ax: Axes | None = None, *, pairs: bool = False) -> Figure:
    """Draw what each column of a table has taken from each other one: readers downwards, sources to the right.

    Or, with `pairs`, what two columns do together.

    Parameters
    ----------
    matrix : array-like of shape (n_names, n_names)
        Signed or not, such as `RowExplanation.interaction`; up to 12 columns have their numbers written in.
    names : sequence of str
        Name of each column.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.
    pairs : bool, default False
        Whether the matrix is symmetric, such as `JointEffects.strength`: neither axis then reads, and the diagonal, of
        single columns, has no colour.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ShapeError
        If there is not a name for each column.

    Examples
    --------
    >>> figure = interaction([[0.9, 0.1], [0.4, 0.6]], ["age", "fare"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.9', '0.1', '0.4', '0.6']
    """
    values = as_array(matrix)
    n = len(values)
    check_names("names", names, n)
    side = min(7.0, 1.6 + 0.42 * n)
    if ax is None:
        figure = Figure(figsize=(side + 1.8, side + 0.9), layout="constrained")
        ax = figure.add_subplot()
    colored = np.where(np.eye(n, dtype=bool) & pairs, 0.0, values)
    reach = reach_of(colored)
    heatmap(ax, colored, reach)
    name_axis(ax, "x", names, n, side, title=None if pairs else "source")
    name_axis(ax, "y", names, n, side, title=None if pairs else "reader")
    if n <= 12:
        for (y, x), value in np.ndenumerate(values):
            color = "white" if abs(colored[y, x]) > 0.7 * reach else INK
            ax.text(x, y, f"{value:.2g}".replace("-", "−"), ha="center", va="center", fontsize=SIZE - 1.5, color=color)
    return figure_of(ax)

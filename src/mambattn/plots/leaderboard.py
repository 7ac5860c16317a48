"""The leaderboard as figures: scores by fold, and paired differences with their intervals."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mambattn.plots._style import (
    FAMILY_COLORS,
    INK,
    MUTED,
    SIZE,
    decimals,
    figure_of,
    format_number,
    metric_label,
    new_axes,
    quiet,
)

if TYPE_CHECKING:
    from mambattn.compare.results import Comparison, ModelResult

__all__ = ["leaderboard_intervals", "scores_by_fold"]

_FAR = 10.0


def _far_rows(rows: tuple[ModelResult, ...]) -> set[str]:
    """Name the rows so far behind that showing them to scale would squeeze the others into a line.

    A row is far when it lies more than ten times as far behind the best row as the middle row does.
    """
    behind = [abs(row.mean - rows[0].mean) for row in rows]
    middle = statistics.median(behind)
    return {row.model for row, gap in zip(rows, behind, strict=True) if middle > 0 and gap > _FAR * middle}


def _row_axes(rows: tuple[ModelResult, ...], ax: Axes | None) -> Axes:
    if ax is None:
        _, (ax,) = new_axes(0.95 + 0.36 * len(rows))
    quiet(ax, grid="x")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [row.model for row in rows], fontsize=SIZE, color=INK)
    families = [family for family in FAMILY_COLORS if any(row.family == family for row in rows)]
    ax.legend(
        [Line2D([], [], marker="o", linestyle="", color=FAMILY_COLORS[family], markersize=6) for family in families],
        families,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(families),
        frameon=False,
        fontsize=SIZE - 0.5,
        labelcolor=MUTED,
        handletextpad=0.2,
        columnspacing=1.4,
        borderaxespad=0.2,
    )
    return ax


def scores_by_fold(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw the score of every fit as a dot and the mean as a bar, one model a row, best first.

    The dots of one fold and seed are joined by a line, since all models met the same rows there. Models far behind the
    others are written at the edge instead of drawn to scale.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    rows, far = comparison.rows, _far_rows(comparison.rows)
    ax = _row_axes(rows, ax)
    near = [row for row in rows if row.model not in far]
    place = {row.model: index for index, row in enumerate(rows)}
    scores = {(fit.model, fit.fold, fit.seed): fit.score for fit in comparison.folds}
    for fold, seed in sorted({(fit.fold, fit.seed) for fit in comparison.folds}):
        line = [(scores[row.model, fold, seed], place[row.model]) for row in near if (row.model, fold, seed) in scores]
        ax.plot([x for x, _ in line], [y for _, y in line], color=MUTED, alpha=0.3, linewidth=0.9, zorder=1)
    for row in near:
        color, y = FAMILY_COLORS[row.family], place[row.model]
        dots = [fit.score for fit in comparison.folds if fit.model == row.model]
        ax.plot(dots, [y] * len(dots), "o", color=color, alpha=0.6, markersize=5.5, markeredgewidth=0, zorder=3)
        ax.plot([row.mean, row.mean], [y - 0.26, y + 0.26], color=color, linewidth=2.6, zorder=4)
    _note_far(ax, comparison, far, {row.model: row.mean for row in rows}, signed=False)
    metric = metric_label(comparison.metric, comparison.data["target"])
    better = "higher" if comparison.greater_is_better else "lower"
    ax.set_xlabel(f"{metric}, {better} is better; a dot is a fold, a bar the mean")
    return figure_of(ax)


def leaderboard_intervals(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw each row's paired difference to the best row with its 95 % interval; the best row is the line at 0.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    rows, far = comparison.rows, _far_rows(comparison.rows)
    ax = _row_axes(rows, ax)
    ax.axvline(0, color=MUTED, linewidth=1.2, zorder=1)
    digits = decimals(row.mean for row in rows)
    for y, row in enumerate(rows):
        if row.model in far:
            continue
        color = FAMILY_COLORS[row.family]
        ax.plot([row.ci_low, row.ci_high], [y, y], color=color, linewidth=2.4, solid_capstyle="round", zorder=2)
        ax.plot([row.difference], [y], "o", color=color, markersize=6.5, markeredgewidth=0, zorder=3)
        low, high = (format_number(value, digits, signed=True) for value in (row.ci_low, row.ci_high))
        ax.text(
            1.01,
            y,
            "best row" if y == 0 else f"{format_number(row.difference, digits, signed=True)}  [{low}, {high}]",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=SIZE - 0.5,
            color=MUTED,
        )
    _note_far(ax, comparison, far, {row.model: row.difference for row in rows}, signed=True)
    ax.set_xlabel(
        f"Difference in {metric_label(comparison.metric, comparison.data['target'])} to the best row on the same "
        "held-out rows, 95 % interval; left is worse"
    )
    return figure_of(ax)


def _note_far(ax: Axes, comparison: Comparison, far: set[str], values: dict[str, float], *, signed: bool) -> None:
    """Write the value of each far row at the edge that it lies beyond."""
    at_left = signed or comparison.greater_is_better
    digits = decimals(row.mean for row in comparison.rows)
    for y, row in enumerate(comparison.rows):
        if row.model in far:
            text = format_number(values[row.model], digits, signed=signed)
            ax.text(
                0.004 if at_left else 0.996,
                y,
                f"◂ {text}, off the scale" if at_left else f"{text}, off the scale ▸",
                transform=ax.get_yaxis_transform(),
                ha="left" if at_left else "right",
                va="center",
                fontsize=SIZE - 0.5,
                color=FAMILY_COLORS[row.family],
            )

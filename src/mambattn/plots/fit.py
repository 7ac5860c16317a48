"""How the models fitted: learning curves, calibration of probabilities, residuals of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mambattn.plots._style import FAMILY_COLORS, INK, MUTED, SIZE, figure_of, new_axes, quiet

if TYPE_CHECKING:
    from mambattn.compare.results import Comparison, ModelResult

__all__ = ["calibration", "learning_curves", "residuals"]

_BINS = 10
_DOTS = 200
_REACH = 3.0
"""Height of the axis of losses at most, in units of the range that 90 % of them lie in."""


def learning_curves(comparison: Comparison, axes: Sequence[Axes] | None = None) -> Figure:
    """Draw the loss by epoch, one panel a network: validation solid with a dot at the epoch kept, training dashed.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result.
    axes : sequence of matplotlib.axes.Axes or None, default None
        One axes for each network, best first; None makes a figure of three panels a row.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    curves = {row.model: _curves(comparison, row.model) for row in comparison.rows}
    rows = [row for row in comparison.rows if curves[row.model]]
    if axes is None:
        _, axes = new_axes(0.5 + 2.0 * -(-len(rows) // 3), n=len(rows), columns=3)
    losses = np.concatenate([np.concatenate(lines[:2]) for fits in curves.values() for lines in fits])
    losses = losses[np.isfinite(losses)]
    # A first epoch far above the rest must not flatten the curves.
    low = float(losses.min())
    high = min(float(losses.max()), low + _REACH * (float(np.percentile(losses, 90)) - low))
    margin = 0.05 * (high - low) + 1e-9
    for i, (ax, row) in enumerate(zip(axes, rows, strict=True)):
        color = FAMILY_COLORS[row.family]
        for train_loss, val_loss, best_epoch in curves[row.model]:
            epochs = np.arange(1, len(val_loss) + 1)
            ax.plot(epochs, train_loss, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), alpha=0.7)
            ax.plot(epochs, val_loss, color=color, linewidth=1.5, alpha=0.85)
            ax.plot([best_epoch], [val_loss[best_epoch - 1]], "o", color=color, markersize=5, markeredgewidth=0)
        ax.set_title(row.model, loc="left", fontsize=SIZE + 0.5, color=INK)
        ax.set_ylim(low - margin, high + margin)
        ax.set_xlim(0.5, 0.5 + max(len(val_loss) for _, val_loss, _ in curves[row.model]))
        if i % 3 == 0:
            ax.set_ylabel("squared error (scaled)" if comparison.task == "regression" else "cross-entropy (nats)")
        if i >= len(rows) - 3:
            ax.set_xlabel("epoch")
        quiet(ax)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure_of(axes[0])


def _curves(comparison: Comparison, model: str) -> list[tuple[NDArray, NDArray, int]]:
    """Return the training losses, the validation losses and the epoch kept of each fit of a network."""
    return [
        (
            np.array(fit.history["train_loss"], dtype=float),
            np.array(fit.history["val_loss"], dtype=float),
            fit.best_epoch,
        )
        for fit in comparison.folds
        if fit.model == model and fit.history is not None and fit.best_epoch is not None
    ]


def _representatives(comparison: Comparison) -> list[ModelResult]:
    """Return the best row of each family, best first, of those whose predictions are numbers."""
    best: dict[str, ModelResult] = {}
    for row in comparison.rows:
        if np.isfinite(comparison.predictions["models"][row.model]).all():
            best.setdefault(row.family, row)
    return list(best.values())


def calibration(comparison: Comparison, ax: Axes | None = None) -> Figure:
    """Draw how often a class came true against how probable a model called it, for the best model of each family.

    For two classes the probability is that of the second; for more it is that of the class each row was given. The
    held-out rows are cut into ten groups of equal size by predicted probability, a point each.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result of a classification.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    if ax is None:
        _, (ax,) = new_axes(4.4)
    y = np.asarray(comparison.predictions["y"])
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    for row in _representatives(comparison):
        probabilities = np.asarray(comparison.predictions["models"][row.model])
        if comparison.task == "binary":
            claimed, came_true = probabilities[:, 1], y == 1
        else:
            claimed, came_true = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
        groups = np.array_split(np.argsort(claimed, kind="stable"), min(_BINS, len(claimed)))
        ax.plot(
            [claimed[group].mean() for group in groups],
            [came_true[group].mean() for group in groups],
            "o-",
            color=FAMILY_COLORS[row.family],
            linewidth=1.5,
            markersize=4.5,
            markeredgewidth=0,
            label=row.model,
        )
    positive = comparison.data["classes"][1] if comparison.task == "binary" else None
    ax.set_xlabel(
        f"predicted probability of {positive}" if positive is not None else "predicted probability of the class given"
    )
    ax.set_ylabel("share in which it came true")
    quiet(ax)
    ax.legend(frameon=False, fontsize=SIZE - 0.5, labelcolor=INK, loc="upper left")
    return figure_of(ax)


def residuals(comparison: Comparison, axes: Sequence[Axes] | None = None) -> Figure:
    """Draw observed minus predicted against predicted, one panel for the best model of each family.

    The line is the median and the band the middle 80 % of the residuals in ten groups of equal size; the dots are
    evenly chosen held-out rows, 200 at most.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result of a regression.
    axes : sequence of matplotlib.axes.Axes or None, default None
        One axes for each family present, best first; None makes a figure of three panels a row.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    rows = _representatives(comparison)
    if axes is None:
        _, axes = new_axes(0.5 + 2.2 * -(-len(rows) // 3), n=len(rows), columns=3)
    y = np.asarray(comparison.predictions["y"], dtype=float)
    errors = {row.model: y - np.asarray(comparison.predictions["models"][row.model], dtype=float) for row in rows}
    reach = max(float(np.percentile(np.abs(error), 99)) for error in errors.values()) * 1.05 + 1e-12
    for i, (ax, row) in enumerate(zip(axes, rows, strict=True)):
        color, error = FAMILY_COLORS[row.family], errors[row.model]
        predicted = y - error
        shown = np.unique(np.linspace(0, len(y) - 1, min(len(y), _DOTS)).round().astype(int))
        ax.plot(predicted[shown], error[shown], "o", color=color, alpha=0.25, markersize=2.6, markeredgewidth=0)
        ax.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        groups = np.array_split(np.argsort(predicted, kind="stable"), min(_BINS, len(y)))
        centre = [float(np.median(predicted[group])) for group in groups]
        low, median, high = np.array([np.percentile(error[group], (10, 50, 90)) for group in groups]).T
        ax.fill_between(centre, low, high, color=color, alpha=0.18, linewidth=0)
        ax.plot(centre, median, color=color, linewidth=2)
        ax.set_title(row.model, loc="left", fontsize=SIZE + 0.5, color=INK)
        ax.set_ylim(-reach, reach)
        if i % 3 == 0:
            ax.set_ylabel("observed − predicted")
        if i >= len(rows) - 3:
            ax.set_xlabel(f"predicted {comparison.data['target']}")
        quiet(ax, ticks=4)
    return figure_of(axes[0])

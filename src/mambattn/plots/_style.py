"""The looks that all figures share: one palette, quiet axes, and one way to write a number."""

from __future__ import annotations

import math
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

__all__ = [
    "FAMILY_COLORS",
    "GRID",
    "INK",
    "LETTER_COLORS",
    "MUTED",
    "SIZE",
    "decimals",
    "figure_of",
    "format_number",
    "metric_label",
    "new_axes",
    "quiet",
]

INK, MUTED, GRID = "#1d2733", "#5c6876", "#dfe4ea"
"""Text, secondary text and rules. No other element has these colours, so that a page can map them to its own."""

SIZE = 9.0
"""Text size, in points, at a figure width of `WIDTH` inches."""

WIDTH = 9.2

FAMILY_COLORS = {
    "mamba": "#11836f",
    "attention": "#c8650d",
    "both": "#6250c8",
    "no mixer": "#3f7cb5",
    "yardstick": "#8b8578",
}
LETTER_COLORS = {
    "M": FAMILY_COLORS["mamba"],
    "S": "#0d6478",
    "A": FAMILY_COLORS["attention"],
    "L": "#a8790a",
    "G": "#b23b3b",
    "-": "#6f7c8b",
}
_METRICS = {
    "roc_auc": "ROC AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "log_loss": "log loss (nats)",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
_IN_TARGET_UNITS = {"rmse", "mae"}


def metric_label(metric: str, target: str | None = None) -> str:
    """Spell the name of a metric for an axis or a heading.

    Parameters
    ----------
    metric : str
        Name of the metric, such as "roc_auc".
    target : str or None, default None
        Name of the target; given where the unit of an error should be said.

    Returns
    -------
    str
        The label.

    Examples
    --------
    >>> metric_label("roc_auc"), metric_label("rmse", "price")
    ('ROC AUC', 'RMSE (units of price)')
    """
    label = _METRICS.get(metric, metric.replace("_", " "))
    return f"{label} (units of {target})" if target is not None and metric in _IN_TARGET_UNITS else label


def decimals(values: Iterable[float]) -> int:
    """Say how many decimals show about five figures of the largest value, and four at most.

    Parameters
    ----------
    values : iterable of float
        Values of one column or axis.

    Returns
    -------
    int
        Decimals, from 0 to 4.

    Examples
    --------
    >>> decimals([0.98, 0.5]), decimals([2.2]), decimals([50148.0])
    (4, 4, 0)
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 4 if largest == 0 else min(4, max(0, 4 - math.floor(math.log10(largest))))


def format_number(value: float, n_decimals: int, *, signed: bool = False) -> str:
    """Write a number with a true minus sign and thin groups of thousands.

    Parameters
    ----------
    value : float
        The number.
    n_decimals : int
        Decimals.
    signed : bool, default False
        Whether a positive number gets a plus.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> format_number(-0.00421, 4), format_number(50148.2, 0), format_number(0.5, 2, signed=True)
    ('−0.0042', '50,148', '+0.50')
    """
    if math.isnan(value):
        return "nan"
    text = f"{value:{'+' if signed else ''},.{n_decimals}f}"
    unsigned = text.lstrip("+-")
    return unsigned if float(unsigned.replace(",", "")) == 0 and math.isfinite(value) else text.replace("-", "−")


def new_axes(height: float, *, n: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure of page width with `n` axes in rows of `columns`, `height` inches in all."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    rows = math.ceil(n / columns)
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(n)]


def _tick(value: float, _position: int) -> str:
    """Write the number at a tick: thousands in groups, no more decimals than it has."""
    return f"{value:,.10g}".replace("-", "−")


def figure_of(ax: Axes) -> Figure:
    """Return the figure that an axes lies in."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def quiet(ax: Axes, *, grid: str = "both", ticks: int = 6) -> None:
    """Leave an axes with a light grid, no box, and small grey numbers, in `ticks` steps at most from left to right."""
    for side in ax.spines.values():
        side.set_visible(False)
    ax.set_facecolor("none")
    figure_of(ax).set_facecolor("none")
    ax.grid(visible=True, axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=SIZE - 0.5, labelcolor=MUTED)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(MUTED)
        label.set_fontsize(SIZE)
    ax.xaxis.set_major_locator(MaxNLocator(ticks))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(_tick))

"""A schedule drawn as a strip of coloured boxes, one a layer."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mambattn.plots._style import INK, LETTER_COLORS, MUTED, SIZE, figure_of, new_axes, quiet
from mambattn.schedule import LETTERS, parse_schedule

__all__ = ["schedule_strip"]


def schedule_strip(schedules: str | Mapping[str, str], ax: Axes | None = None) -> Figure:
    """Draw one schedule, or several under each other, as labelled boxes from the first layer to the last.

    Parameters
    ----------
    schedules : str or mapping of str to str
        A schedule, or schedules by the name to write beside them, top to bottom.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If a schedule holds an unknown letter.

    Examples
    --------
    >>> figure = schedule_strip({"hybrid": "MMA", "Mamba alone": "MMM"})
    >>> len(figure.axes[0].patches)
    6
    """
    by_name = {"": schedules} if isinstance(schedules, str) else dict(schedules)
    longest = max(len(parse_schedule(schedule)) for schedule in by_name.values())
    if ax is None:
        figure, (ax,) = new_axes(0.55 + 0.36 * len(by_name))
    else:
        figure = figure_of(ax)
    quiet(ax)
    ax.grid(visible=False)
    for row, schedule in enumerate(by_name.values()):
        for position, letter in enumerate(schedule):
            ax.add_patch(
                FancyBboxPatch(
                    (position + 0.1, row - 0.31),
                    0.8,
                    0.62,
                    boxstyle="round,pad=0,rounding_size=0.12",
                    facecolor=LETTER_COLORS[letter],
                    edgecolor="none",
                )
            )
            ax.text(
                position + 0.5, row, letter.replace("-", "–"), ha="center", va="center", color="white", fontsize=SIZE,
                fontweight="bold",
            )  # fmt: skip
    # Boxes keep their width where schedules are short: twelve layers fill the page.
    ax.set_xlim(0, max(longest, 12))
    ax.set_ylim(len(by_name) - 0.5, -0.5)
    ax.set_yticks(range(len(by_name)), list(by_name), fontsize=SIZE, color=INK)
    ax.set_xticks([])
    used = dict.fromkeys("".join(by_name.values()))
    ax.set_xlabel(
        "first layer → last layer:  " + " · ".join(f"{letter.replace('-', '–')} {LETTERS[letter]}" for letter in used),
        color=MUTED,
        fontsize=SIZE - 0.5,
        loc="left",
    )
    return figure

"""Panels of the recall study: what they show, their axes, their lines, and the legend above them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.plots._lines import arch_label, line_styles
from mambattn.plots._style import INK, MUTED, SIZE, figure_of, new_axes, quiet
from mambattn.tasks import Task, parse_task

if TYPE_CHECKING:
    from mambattn.recall.results import Results

__all__ = [
    "accuracies",
    "chosen_tasks",
    "draw_lines",
    "known_task",
    "lengths_beyond",
    "lengths_of",
    "log_axis",
    "mark_chance",
    "name_axes",
    "name_panel",
    "new_panels",
    "share_axis",
    "with_legend",
]

_COLUMNS = 2
_PANEL = 2.6
"""Height of a row of panels, in inches."""

_LETTERS = 48
"""In a line above a panel, so that it ends where a panel of a page does."""

_NEAR = 1 / 9
"""Share of a log axis below which two ticks would touch."""


def known_task(name: str) -> Task | None:
    """Return the task of that name; rows may come from a file, with names of their own."""
    try:
        return parse_task(name)
    except ConfigError:
        return None


def lengths_of(results: Results) -> list[int]:
    return [int(length) for length in results.settings["lengths"]]


def lengths_beyond(results: Results) -> list[int]:
    """Return the lengths beyond the training length; all, where the results do not say it."""
    train_length = results.settings.get("train_length") or 0
    return [length for length in lengths_of(results) if length > train_length]


def accuracies(results: Results, task: str, arch: str, lengths: Sequence[int]) -> NDArray[np.float64]:
    """Return the accuracy (seed, length) of a cell, of no seed where it is unfinished."""
    rows = results.rows_of(task, arch) if results.is_finished(task, arch) else ()
    return np.array([[row.accuracy[length] for length in lengths] for row in rows]).reshape(-1, len(lengths))


def chosen_tasks(task: str | None, tasks: list[str], ax: Axes | None) -> list[str]:
    """Return the task, or all; refuse one that is not there, and several for one axes."""
    if task is not None and task not in tasks:
        hint = did_you_mean(task, tasks)
        raise ConfigError(f"`task` must be one of {', '.join(map(repr, tasks))}, however task={task!r}.{hint}")
    chosen = tasks if task is None else [task]
    if ax is not None and len(chosen) > 1:
        raise ConfigError(
            f"`task` must be named where `ax` is given for one of several, however task=None. Use task={chosen[0]!r}."
        )
    return chosen


def new_panels(n: int, ax: Axes | None) -> list[Axes]:
    """Return the axes given, or those of a new figure, two a row."""
    if ax is not None:
        return [ax]
    columns = min(n, _COLUMNS)
    return new_axes(0.9 + _PANEL * -(-n // columns), n=n, columns=columns)[1]


def log_axis(ax: Axes, lengths: Sequence[int], train_length: int | None) -> None:
    """Give an axes a base-2 axis with ticks at the lengths that have room, the training length, named so, first."""
    first = [] if train_length is None else [train_length]
    low, high = math.log2(min([*first, *lengths])), math.log2(max([*first, *lengths]))
    ticks: list[int] = []
    for length in [*first, max(lengths), *lengths]:
        if all(abs(math.log2(length / tick)) > _NEAR * (high - low) for tick in ticks):
            ticks.append(length)
    ax.set_xscale("log", base=2)
    margin = 0.05 * (high - low) or 0.5
    ax.set_xlim(2 ** (low - margin), 2 ** (high + margin))
    ax.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}\ntrained" if round(x) == train_length else f"{x:,.0f}")


def share_axis(ax: Axes) -> None:
    """Give an axes the quiet look and an upright axis of accuracy, the same in every figure."""
    quiet(ax)
    ax.set_ylim(-0.03, 1.04)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])


def mark_chance(ax: Axes, chance: float) -> None:
    """Draw the accuracy of the best guess without looking, its name outside where no line passes."""
    ax.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, (5, 4)), zorder=1)
    ax.annotate(
        "chance",
        (1, chance),
        xycoords=ax.get_yaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=SIZE - 1,
        color=MUTED,
    )


def draw_lines(ax: Axes, panel: int, xs: Sequence[int], by_arch: Mapping[str, Sequence[NDArray[np.float64]]]) -> None:
    """Draw of each architecture the mean of its values at each x, and the band that they span.

    Later lines are thinner, so that those below them stay in sight where they agree.
    """
    ax.patch.set_gid(f"panel{panel}-frame")
    looks = line_styles(list(by_arch))
    for i, (arch, by_x) in enumerate(by_arch.items()):
        look, behind, gid = looks[arch], 1 - i / len(by_arch), f"panel{panel}-arch{i}"
        there = [(x, values) for x, values in zip(xs, by_x, strict=True) if len(values)]
        means, low, high = ([float(pick(values)) for _, values in there] for pick in (np.mean, np.min, np.max))
        if low != high:
            ax.fill_between([x for x, _ in there], low, high, color=look.color, alpha=0.13, lw=0, gid=f"{gid}-band")
        ax.plot(
            [x for x, _ in there],
            means,
            color=look.color,
            linestyle=look.dash,
            marker=look.marker,
            linewidth=1.3 + 0.9 * behind,
            markersize=4 + 1.6 * behind,
            markeredgewidth=0,
            label=arch_label(arch),
            gid=f"{gid}-line",
        )


def name_axes(ax: Axes, x: str, y: str, i: int, n: int) -> None:
    """Name the axes at the rim of the figure only."""
    if i % _COLUMNS == 0:
        ax.set_ylabel(y)
    if i >= n - _COLUMNS:
        ax.set_xlabel(x)


def name_panel(ax: Axes, name: str, unfinished: Sequence[str]) -> None:
    """Name a panel, and above the name what is unfinished, in as many lines as they need."""
    lines = textwrap.wrap(name, _LETTERS)
    ax.set_title("\n".join(lines), loc="left", fontsize=SIZE + 0.5, color=INK)
    if unfinished:  # with semicolons, since labels hold commas
        ax.annotate(
            textwrap.fill(f"unfinished: {'; '.join(unfinished)}", _LETTERS),
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 9 + 1.3 * SIZE * len(lines)),
            textcoords="offset points",
            ha="right",
            fontsize=SIZE - 1,
            color=MUTED,
        )


def with_legend(axes: Sequence[Axes], given: Axes | None) -> Figure:
    """Return the figure, with a legend where it is ours."""
    figure = figure_of(axes[0])
    if given is None:
        _legend_above(figure, axes[0], "band: lowest to highest seed" if any(ax.collections for ax in axes) else None)
    return figure


def _legend_above(figure: Figure, ax: Axes, band: str | None) -> None:
    """Put the labelled lines of an axes, and what a band is, above all axes of a figure, where they cover nothing."""
    handles, labels = ax.get_legend_handles_labels()
    if band is not None:
        handles, labels = [*handles, Patch(color=MUTED, alpha=0.25, linewidth=0)], [*labels, band]
    options: dict[str, Any] = {"loc": "outside upper left", "ncols": min(4, len(labels)), "frameon": False}
    figure.legend(handles, labels, **options, fontsize=SIZE, labelcolor=INK, handlelength=3.2, columnspacing=1.8)

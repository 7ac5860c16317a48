"""The recall study as figures: accuracy over length, and accuracy over the delay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from mambattn._errors import ConfigError
from mambattn.plots._lines import arch_label
from mambattn.plots._recall_panels import (
    accuracies,
    chosen_tasks,
    draw_lines,
    known_task,
    lengths_beyond,
    lengths_of,
    log_axis,
    mark_chance,
    name_axes,
    name_panel,
    new_panels,
    share_axis,
    with_legend,
)
from mambattn.plots._style import MUTED

if TYPE_CHECKING:
    from mambattn.recall.results import Results

__all__ = ["delay_sweep", "delay_sweeps", "length_curves", "sweep_accuracies"]


def length_curves(results: Results, task: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw accuracy over length, one line an architecture, a panel a task.

    A line is the mean over seeds, the band goes from the lowest to the highest seed. The dotted upright is the training
    length, the dashed line the accuracy of the best guess without looking. Unfinished cells are named, not drawn. In
    panel p the line and the band of architecture i of the settings have the gids "panel<p>-arch<i>-line" and
    "panel<p>-arch<i>-band", and the ground has "panel<p>-frame".

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.
    task : str or None, default None
        The task to draw; None draws all.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw one task, its lines labelled for a legend of one's own; None makes a figure with a legend.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no such task, or several to draw on one `ax`.

    Examples
    --------
    >>> from mambattn.recall.results import Results, Row
    >>> rows = [Row("recall", "mamba", seed, 1e-3, 4000, True, {32: 1.0, 64: 0.9 + seed / 50}) for seed in (0, 1)]
    >>> (ax,) = length_curves(Results.from_rows(rows)).axes
    >>> [list(map(float, line.get_ydata())) for line in ax.lines if line.get_gid() == "panel0-arch0-line"]
    [[1.0, 0.91]]
    """
    tasks = chosen_tasks(task, list(results.settings["tasks"]), ax)
    lengths, train_length = lengths_of(results), results.settings.get("train_length")
    axes = new_panels(len(tasks), ax)
    for i, (one, name) in enumerate(zip(axes, tasks, strict=True)):
        share_axis(one)
        log_axis(one, lengths, train_length)
        if train_length is not None:
            one.axvline(train_length, color=MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        if (drawn := known_task(name)) is not None:
            mark_chance(one, drawn.chance)
        by_arch = {arch: accuracies(results, name, arch, lengths) for arch in results.settings["archs"]}
        draw_lines(one, i, lengths, {arch: list(values.T) for arch, values in by_arch.items()})
        name_panel(one, name, [arch_label(arch) for arch, values in by_arch.items() if not len(values)])
        name_axes(one, "length (tokens)", "accuracy", i, len(tasks))
    return with_legend(axes, ax)


def delay_sweep(results: Results, task: str | None = None, ax: Axes | None = None) -> Figure:
    """Draw accuracy over the delay tau, one line an architecture, a panel a family of tasks that differ in tau only.

    The accuracy is the mean over the lengths beyond the training length. A line is the mean over seeds, the band goes
    from the lowest to the highest seed. Unfinished cells are named, not drawn. The gids are those of `length_curves`.

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.
    task : str or None, default None
        A task whose family to draw; None draws every family with two delays or more.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw one family, its lines labelled for a legend of one's own; None makes a figure with a legend.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If no tasks differ in tau only, no length is beyond the training length, there is no such task, or there are
        several families to draw on one `ax`.

    Examples
    --------
    >>> from mambattn.recall.results import Results, Row
    >>> rows = [Row(task, "mamba", 0, 1e-3, 4000, True, {32: 1.0, 64: 0.9}) for task in ("induction", "delay")]
    >>> delay_sweep(Results.from_rows(rows, {"train_length": 32})).axes[0].get_ylabel()
    'mean accuracy, length 64'
    """
    sweeps = delay_sweeps(results)
    if not sweeps:
        raise ConfigError(
            "`tasks` must hold two that differ in tau only, however "
            f"tasks={','.join(results.settings['tasks'])}. Use such as induction,induction:tau=3,delay."
        )
    if not (lengths := lengths_beyond(results)):
        raise ConfigError(
            f"`lengths` must reach beyond train_length={results.settings['train_length']}, however "
            f"lengths={','.join(map(str, lengths_of(results)))}. Use longer ones as well."
        )
    span = f"s {lengths[0]:,}–{lengths[-1]:,}" if len(lengths) > 1 else f" {lengths[0]:,}"
    family = {name: sweep for sweep in sweeps for name in sweep.values()}
    first = [next(iter(sweep.values())) for sweep in sweeps]
    chosen = [family[name] for name in chosen_tasks(task, first if task is None else list(family), ax)]
    axes = new_panels(len(chosen), ax)
    for i, (one, sweep) in enumerate(zip(axes, chosen, strict=True)):
        share_axis(one)
        one.xaxis.set_major_locator(FixedLocator(list(sweep)))
        by_arch = sweep_accuracies(results, sweep)
        draw_lines(one, i, list(sweep), by_arch)
        name_panel(one, " · ".join(sweep.values()), _unfinished(by_arch, sweep))
        y = f"mean accuracy, length{span}"
        name_axes(one, "delay τ (tokens from the marker to its answer)", y, i, len(chosen))
    return with_legend(axes, ax)


def delay_sweeps(results: Results) -> list[dict[int, str]]:
    """Find the families of tasks that differ in tau only.

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.

    Returns
    -------
    list of dict of int to str
        Of each family of two or more, the task at each tau, in the order of tau.

    Examples
    --------
    >>> from mambattn.recall.results import Results, Row
    >>> rows = [Row(task, "mamba", 0, 1e-3, 4000, True, {32: 1.0, 64: 0.9}) for task in ("induction", "delay")]
    >>> delay_sweeps(Results.from_rows(rows))
    [{1: 'induction', 5: 'delay'}]
    """
    families: dict[tuple[object, ...], dict[int, str]] = {}
    for name in results.settings["tasks"]:
        settings = {} if (task := known_task(name)) is None else task.to_dict()
        tau = settings.pop("tau", None)
        if tau is not None:
            families.setdefault(tuple(sorted(settings.items())), {})[tau] = name
    return [dict(sorted(family.items())) for family in families.values() if len(family) > 1]


def sweep_accuracies(results: Results, sweep: Mapping[int, str]) -> dict[str, list[NDArray[np.float64]]]:
    """Return what a delay sweep draws.

    Parameters
    ----------
    results : mambattn.recall.Results
        The result.
    sweep : mapping of int to str
        The task at each tau, as `delay_sweeps` gives it.

    Returns
    -------
    dict of str to list of numpy.ndarray, (n_seeds,)
        By architecture and in the order of tau each seed's mean accuracy over the lengths beyond the training length;
        of no seed where the cell is unfinished.

    Examples
    --------
    >>> from mambattn.recall.results import Results, Row
    >>> rows = [Row(task, "mamba", 0, 1e-3, 4000, True, {32: 1.0, 64: 0.9}) for task in ("induction", "delay")]
    >>> sweep_accuracies(Results.from_rows(rows, {"train_length": 32}), {1: "induction", 5: "delay"})
    {'mamba': [array([0.9]), array([0.9])]}
    """
    return {
        arch: [accuracies(results, name, arch, lengths_beyond(results)).mean(axis=1) for name in sweep.values()]
        for arch in results.settings["archs"]
    }


def _unfinished(by_arch: Mapping[str, list[NDArray[np.float64]]], taus: Iterable[int]) -> list[str]:
    """Name the architectures of which a sweep lacks cells, each with the delays."""
    lacking = {
        arch: [tau for tau, seeds in zip(taus, by_tau, strict=True) if not len(seeds)]
        for arch, by_tau in by_arch.items()
    }
    return [f"{arch_label(arch)} at τ {', '.join(map(str, where))}" for arch, where in lacking.items() if where]

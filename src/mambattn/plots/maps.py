"""Maps, flow and reach of a model's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase

from mambattn._errors import ConfigError
from mambattn.plots._signed import (
    DIVERGING,
    as_array,
    check_names,
    check_row,
    clear,
    figures_of_three,
    heatmap,
    kind_color,
    name_axis,
    reach_of,
    room_of,
    title,
)
from mambattn.plots._style import INK, MUTED, SIZE, WIDTH, figure_of, new_axes

if TYPE_CHECKING:
    from mambattn.explain.results import Flow, LayerMap, Reach

__all__ = ["layer_grid", "receptive_field", "rollout_layers"]

_COLUMNS = 8
_SIDE = 2.6
"""Inches of a panel at most."""


def layer_grid(
    maps: Sequence[LayerMap],
    *,
    row: int = 0,
    names: Sequence[str] | None = None,
    shared: bool = False,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw every map of every layer as a heatmap: queries downwards, sources to the right, orange above 0, blue below.

    Layers follow each other downwards, their maps to the right; where none has more than two, they fill lines.

    Parameters
    ----------
    maps : sequence of LayerMap
        What `mambattn.explain.attention_maps` gives.
    row : int, default 0
        Row of the batch.
    names : sequence of str or None, default None
        Name of each position; None writes its number.
    shared : bool, default False
        Whether all panels have one scale; otherwise each has its own, and its largest absolute weight is written above.
    ax : matplotlib.axes.Axes or None, default None
        A subplot to draw into, which the panels replace; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no map, no such row, or `ax` is no subplot.
    ShapeError
        If there is not a name for each position.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import LayerMap
    >>> maps = [LayerMap(0, "Mamba", ("mean",), torch.eye(4)[None, None])]
    >>> figure = layer_grid(maps, names=["a", "b", "c", "d"])
    >>> figure.axes[0].get_title(loc="left").split("\n")
    ['0 Mamba', 'mean']
    """
    if not maps:
        raise ConfigError("`maps` must hold at least one map, however it is empty. Use a model that mixes tokens.")
    check_row(row, len(maps[0].values))
    seq_len = maps[0].values.shape[-1]
    check_names("names", names, seq_len)
    panels = [
        [(one, label, as_array(values)) for label, values in zip(one.labels, one.values[row], strict=True)]
        for one in maps
    ]
    if all(len(layer) <= 2 for layer in panels):
        panels = [[panel for layer in panels for panel in layer]]
    reach = max(reach_of(values) for layer in panels for *_, values in layer)
    # A panel has room for its label and its largest weight side by side, and the first one for names beside it.
    margin = room_of(names)
    longest = max(len(text) for layer in panels for one, label, _ in layer for text in (label, _heading(one)[:20]))
    columns = max(1, min(_COLUMNS, int((WIDTH - margin) * 72 / (4.6 * (longest + 9))), max(map(len, panels))))
    lines = [layer[start : start + columns] for layer in panels for start in range(0, len(layer), columns)]
    side = min(_SIDE, (WIDTH - margin) / columns - 0.15)
    figure, grid = _grid(ax, len(lines), columns, side, margin)
    for y, line in enumerate(lines):
        for x, (one, label, values) in enumerate(line):
            panel = figure.add_subplot(grid[y, x])
            heatmap(panel, values, reach if shared else reach_of(values))
            is_first = x == 0 or one is not line[x - 1][0]
            title(panel, f"{_heading(one) if is_first else ''}\n{label}", size=SIZE - 0.5)
            if not shared:
                panel.set_title(f"±{figures_of_three(reach_of(values))}", loc="right", fontsize=SIZE - 1.5, color=MUTED)
            if x == 0:
                name_axis(panel, "y", names, seq_len, side, title="query")
            else:
                panel.set_yticks([])
            if y == len(lines) - 1:
                name_axis(panel, "x", names, seq_len, side, title="source")
            else:
                panel.set_xticks([])
    bar = figure.colorbar(
        ScalarMappable(Normalize(-reach, reach) if shared else Normalize(-1, 1), DIVERGING),
        cax=figure.add_subplot(grid[len(lines), :]),
        orientation="horizontal",
        label="weight" if shared else "weight, in units of the ± above the panel",
        ticks=[-reach, 0, reach] if shared else [-1, 0, 1],
        format=lambda value, _: figures_of_three(value),
    )
    _quiet_bar(bar)
    return figure


def _quiet_bar(bar: Colorbar) -> None:
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, labelsize=SIZE - 1.5, labelcolor=MUTED)
    bar.ax.xaxis.label.set(color=MUTED, fontsize=SIZE - 0.5)


def _heading(one: LayerMap) -> str:
    return f"{one.layer} {one.kind}"


def _grid(ax: Axes | None, n_lines: int, columns: int, side: float, margin: float) -> tuple[Figure, GridSpecBase]:
    """Give a grid of panels, with a thin line for the scale below them, in a new figure or in place of a subplot."""
    heights = [*[side] * n_lines, 0.1]
    if ax is None:
        size = max(4.2, columns * (side + 0.15) + margin), n_lines * (side + 0.42) + margin + 0.8
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.add_gridspec(n_lines + 1, columns, height_ratios=heights)
    spec = ax.get_subplotspec()
    if spec is None:
        raise ConfigError("`ax` must be a subplot, however its place is free. Use figure.add_subplot().")
    figure = figure_of(ax)
    ax.remove()
    return figure, spec.subgridspec(n_lines + 1, columns, height_ratios=heights)


def rollout_layers(
    flow: Flow,
    *,
    row: int = 0,
    position: int | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw what one position has gathered from each source, layer by layer: first layer on top.

    Parameters
    ----------
    flow : Flow
        What `mambattn.explain.rollout` gives.
    row : int, default 0
        Row of the batch.
    position : int or None, default None
        The position that reads; None is the last of the flow's.
    names : sequence of str or None, default None
        Name of each source; None writes its number.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ConfigError
        If there is no such row, or the flow was not followed to that position.
    ShapeError
        If there is not a name for each source.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import Flow
    >>> figure = rollout_layers(Flow("norm", (0, 1), (0, 1, 2), torch.rand(2, 1, 3, 3)))
    >>> figure.axes[0].images[0].get_array().shape
    (2, 3)
    """
    check_row(row, flow.values.shape[1])
    check_names("names", names, flow.values.shape[-1])
    position = flow.positions[-1] if position is None else position
    if position not in flow.positions:
        raise ConfigError(
            f"`position` must be one that the flow was followed to, however position={position!r}. They are "
            f"{', '.join(map(str, flow.positions))}. Use rollout(…, positions=[{position!r}])."
        )
    values = as_array(flow.values[:, row, flow.positions.index(position)])
    n_layers, n_sources = values.shape
    if ax is None:
        _, (ax,) = new_axes(0.8 + room_of(names) + 0.3 * n_layers)
    image = heatmap(ax, values, reach_of(values), square=False)
    name_axis(ax, "y", [f"layer {layer}" for layer in flow.layers], n_layers, 0.3 * n_layers)
    name_axis(ax, "x", names, n_sources, WIDTH - 1.6, title="source")
    reader = f"position {position}" if names is None or len(names) <= position else names[position]
    title(ax, f"What {reader} has gathered, up to and with each layer", note=f"rollout, kind {flow.kind}")
    signed = bool((values < 0).any())
    bar = figure_of(ax).colorbar(image, ax=ax, pad=0.01, fraction=0.03)
    bar.ax.set_ylim(-reach_of(values) if signed else 0, reach_of(values))
    _quiet_bar(bar)
    return figure_of(ax)


def receptive_field(reaches: Sequence[Reach], ax: Axes | None = None) -> Figure:
    """Draw how far each layer reads: a dot a head or channel, a bar for their mean, both means over the batch.

    Parameters
    ----------
    reaches : sequence of Reach
        What `mambattn.explain.receptive_field` gives.
    ax : matplotlib.axes.Axes or None, default None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Examples
    --------
    >>> import torch
    >>> from mambattn.explain.results import Reach
    >>> figure = receptive_field([Reach(0, "Mamba", ("channel 0", "channel 1"), torch.tensor([[1.0, 3.0]]))])
    >>> figure.axes[0].get_yticklabels()[0].get_text()
    '0 Mamba'
    """
    if ax is None:
        _, (ax,) = new_axes(0.8 + 0.36 * len(reaches))
    clear(ax)
    for y, reach in enumerate(reaches):
        color, distance = kind_color(reach.kind), np.sort(as_array(reach.distance).mean(axis=0))
        # Neighbours in size take turns between three heights, so that many dots do not hide each other.
        heights = y + 0.13 * (np.arange(len(distance)) % 3 - 1) * (len(distance) > 8)
        ax.plot(distance, heights, "o", color=color, alpha=0.45, markersize=4.5, markeredgewidth=0)
        ax.plot([distance.mean()] * 2, [y - 0.32, y + 0.32], color=color, linewidth=2.6)
    ax.set_ylim(len(reaches) - 0.4, -0.6)
    ax.set_yticks(range(len(reaches)), [f"{reach.layer} {reach.kind}" for reach in reaches], fontsize=SIZE, color=INK)
    ax.set_xlim(left=0)
    ax.set_xlabel("mean distance read, in positions; a dot is a head or channel, a bar their mean")
    return figure_of(ax)

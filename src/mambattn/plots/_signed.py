"""Signed numbers over named positions: one diverging scale, heatmaps, and names that keep out of each other's way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from mambattn._errors import ConfigError, ShapeError
from mambattn.plots._style import FAMILY_COLORS, GRID, INK, LETTER_COLORS, MUTED, SIZE, figure_of, quiet
from mambattn.schedule import LETTERS

__all__ = [
    "DIVERGING",
    "NEGATIVE",
    "POSITIVE",
    "as_array",
    "check_names",
    "check_row",
    "clear",
    "figures_of_three",
    "heatmap",
    "kind_color",
    "name_axis",
    "reach_of",
    "room_of",
    "shorten",
    "title",
]

NEGATIVE, POSITIVE = "#1f5f99", "#c2570c"
"""Blue and orange, which everyone who sees colours badly can still tell apart."""

DIVERGING = LinearSegmentedColormap.from_list("mambattn", [NEGATIVE, "#ffffff", POSITIVE], N=257)
"""Blue below 0, white at 0, orange above; an odd number of steps, so that 0 has one of its own."""

_LETTER_OF = {kind: letter for letter, kind in LETTERS.items()}
_ROOM = 0.125
"""Inches that a name needs along its axis."""


def as_array(values: Any) -> NDArray[np.float64]:
    """Return numbers as an array, wherever a tensor lies.

    Parameters
    ----------
    values : Tensor or array-like
        The numbers.

    Returns
    -------
    numpy.ndarray of float64
        The same numbers.
    """
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)


def check_row(row: int, n_rows: int) -> None:
    """Raise `ConfigError` unless the batch has such a row."""
    if not 0 <= row < n_rows:
        raise ConfigError(f"`row` must be from 0 to {n_rows - 1}, however row={row!r}. Use a row of the batch.")


def check_names(name: str, given: Sequence[Any] | None, wanted: int) -> None:
    """Raise `ShapeError` unless there are as many as there are positions."""
    if given is not None and len(given) != wanted:
        raise ShapeError(f"`{name}` must have {wanted} entries, however it has {len(given)}. Give one a position.")


def reach_of(values: NDArray[np.float64]) -> float:
    """Return the largest absolute value that is finite, or 1 where all are 0."""
    return float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values))) or 1.0


def figures_of_three(value: float) -> str:
    """Write a number with three figures and a true minus sign.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> figures_of_three(-0.00012345), figures_of_three(12.0)
    ('−0.000123', '12')
    """
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")


def shorten(name: str, longest: int = 18) -> str:
    """Cut a long name, and show the line breaks in it.

    Parameters
    ----------
    name : str
        The name.
    longest : int, default 18
        Its letters, a mark for what is cut included.

    Returns
    -------
    str
        One line.

    Examples
    --------
    >>> shorten("a column with a long name", 10)
    'a column …'
    """
    name = name.replace("\n", "↵").replace("\t", "⇥")
    return name if len(name) <= longest else name[: longest - 1] + "…"


def room_of(names: Sequence[str] | None) -> float:
    """Return the inches that the longest name takes, written beside or below an axes."""
    return 0.3 if names is None else 0.2 + 0.07 * max(len(shorten(name)) for name in names)


def kind_color(kind: str) -> str:
    """Return the colour of a layer's kind: its letter's, or that of the family its name tells.

    Parameters
    ----------
    kind : str
        What the layer is, as results have it.

    Returns
    -------
    str
        The colour.

    Examples
    --------
    >>> kind_color("Mamba") == LETTER_COLORS["M"], kind_color("Mamba-2 beside attention") == FAMILY_COLORS["both"]
    (True, True)
    """
    if kind in _LETTER_OF:
        return LETTER_COLORS[_LETTER_OF[kind]]
    words = kind.lower()
    families = [family for family in ("mamba", "attention") if family in words]
    return FAMILY_COLORS[families[0] if len(families) == 1 else "both" if families else "no mixer"]


def clear(ax: Axes, *, grid: str = "x") -> None:
    """Leave an axes quiet, on white: signed colours end in white, and have to end in the paper."""
    quiet(ax, grid=grid)
    figure_of(ax).set_facecolor("white")


def heatmap(ax: Axes, values: NDArray[np.float64], reach: float, *, square: bool = True) -> AxesImage:
    """Draw a matrix on the diverging scale from −reach to reach, in a thin frame."""
    figure_of(ax).set_facecolor("white")
    image = ax.imshow(
        values, cmap=DIVERGING, norm=Normalize(-reach, reach), interpolation="nearest",
        aspect="equal" if square else "auto",
    )  # fmt: skip
    ax.tick_params(length=0, labelsize=SIZE - 1.5, labelcolor=MUTED, pad=2)
    for side in ax.spines.values():
        side.set_color(GRID)
    return image


def name_axis(
    ax: Axes, which: str, names: Sequence[str] | None, n: int, inches: float, *, title: str | None = None
) -> None:
    """Name the positions along "x" or "y", as many as there is room for."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    step = max(1, math.ceil(n * _ROOM / max(inches, _ROOM)))
    places = list(range(0, n, step))
    labels = [shorten(names[place]) if names is not None else str(place) for place in places]
    axis.set_ticks(places, labels, parse_math=False)  # a name may have dollars in it
    if which == "x" and max(map(len, labels)) * 0.09 > inches / max(len(labels), 1):
        ax.tick_params(axis="x", labelrotation=90)
    if title is not None:
        axis.set_label_text(title, color=MUTED, fontsize=SIZE - 0.5)
    axis.label.set_color(MUTED)


def title(ax: Axes, text: str, *, note: str = "", size: float = SIZE) -> None:
    """Write a name above an axes on the left, and a quiet note on the right."""
    ax.set_title(text, loc="left", fontsize=size, color=INK, pad=4, parse_math=False)
    ax.set_title(note, loc="right", fontsize=size - 1, color=MUTED, pad=4)

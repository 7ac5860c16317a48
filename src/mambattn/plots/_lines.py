"""How architectures look as lines: a name to read, and a colour, dash and marker that stay the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LineStyle", "arch_label", "line_styles"]

_LABELS = {
    "nope": "No PE",
    "learned": "Learned PE",
    "rotary": "Rotary PE",
    "mamba": "Mamba",
    "hybrid_a": "Hybrid A",
    "hybrid_b": "Hybrid B",
}
_OPTIONS = {
    "log_scaling=test": "log-length scaling",
    "log_scaling=always": "log-length scaling in training too",
    "positions=learned": "Learned PE",
    "positions=rotary": "Rotary PE",
}


@dataclass(frozen=True)
class LineStyle:
    """Look of a line; colour and marker each tell the first seven apart, so that they survive a grey print.

    Parameters
    ----------
    color : str
        Colour, as "#rrggbb".
    dash : tuple
        Dashes, as matplotlib takes them; attention alone is broken, what holds Mamba is solid.
    marker : str
        Marker, as matplotlib names it.
    """

    color: str
    dash: tuple[float, tuple[float, ...]]
    marker: str


_SOLID: tuple[float, tuple[float, ...]] = (0, ())
_CANONICAL = {
    "nope": LineStyle("#cc8800", (0, (1.2, 1.4)), "o"),
    "learned": LineStyle("#cc4a22", (0, (3, 1.5)), "s"),
    "rotary": LineStyle("#6e2f10", (0, (5, 1.4, 1.2, 1.4)), "^"),
    "mamba": LineStyle("#0f8a73", _SOLID, "D"),
    "hybrid_a": LineStyle("#3f2fa6", _SOLID, "v"),
    "hybrid_b": LineStyle("#3d8fe0", _SOLID, "P"),
}
_SPARE_COLORS = ("#c94fa4", "#5a6470", "#7c9a1c", "#8c5cc9", "#0d6478", "#b23b3b")
_SPARE_MARKERS = ("X", "*", "p", "<", ">", "h", "d")
_SPARE_DASHES = (_SOLID, (0, (6, 2)), (0, (2, 1)))


def arch_label(arch: str) -> str:
    """Spell the name of an architecture for a legend.

    Parameters
    ----------
    arch : str
        Name, such as "hybrid_a:log_scaling=test", or a schedule.

    Returns
    -------
    str
        The label; schedules stay as they are.

    Examples
    --------
    >>> arch_label("nope"), arch_label("hybrid_a:log_scaling=test"), arch_label("MA:window=32")
    ('No PE', 'Hybrid A, log-length scaling', 'MA, window 32')
    """
    name, *options = arch.split(":")
    extras = [_OPTIONS.get(option, option.replace("=", " ").replace("_", " ")) for option in options]
    return ", ".join([_LABELS.get(name, name), *extras])


def line_styles(archs: Sequence[str]) -> dict[str, LineStyle]:
    """Give each architecture its look: the six named ones always the same, others in the order they come.

    Parameters
    ----------
    archs : sequence of str
        Names.

    Returns
    -------
    dict of str to LineStyle
        The look of each.

    Examples
    --------
    >>> styles = line_styles(["MAM", "mamba"])
    >>> styles["mamba"] == line_styles(["mamba"])["mamba"], styles["MAM"].color
    (True, '#c94fa4')
    """
    others = [arch for arch in archs if arch not in _CANONICAL]
    spare = {
        arch: LineStyle(
            _SPARE_COLORS[i % len(_SPARE_COLORS)],
            _SPARE_DASHES[i // len(_SPARE_COLORS) % len(_SPARE_DASHES)],
            _SPARE_MARKERS[i % len(_SPARE_MARKERS)],
        )
        for i, arch in enumerate(others)
    }
    return {arch: _CANONICAL.get(arch) or spare[arch] for arch in archs}

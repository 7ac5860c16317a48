"""From a letter of a schedule and its settings to a mixer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.mixers import MLP, Attention, GlobalLocalAttention, Mamba, Mamba2, Mixer
from mambattn.nn._checks import check_one_of
from mambattn.schedule import LETTERS

__all__ = ["make_mixer"]

_MIXERS: dict[str, type[Mixer]] = {
    "M": Mamba,
    "S": Mamba2,
    "A": Attention,
    "L": Attention,
    "G": GlobalLocalAttention,
    "-": MLP,
}
_DEFAULTS: dict[str, dict[str, Any]] = {"L": {"window": 64}}


def make_mixer(letter: str, d_model: int, settings: Mapping[str, Any] | None = None) -> Mixer:
    """Make the mixer of a letter.

    Parameters
    ----------
    letter : str
        ``M``, ``S``, ``A``, ``L``, ``G`` or ``-``; see `mambattn.schedule`.
    d_model : int
        Width of a token.
    settings : mapping or None, default None
        Keyword arguments of the mixer. ``L`` has a window of 64 tokens unless it is set; ``A`` takes none.

    Returns
    -------
    Mixer
        The mixer, freshly initialised.

    Raises
    ------
    ConfigError
        If the letter is unknown, the mixer does not know a setting, or a value cannot hold.

    Examples
    --------
    >>> make_mixer("L", 16, {"n_heads": 2}).window
    64
    >>> make_mixer("M", 16, {"d_stat": 8})
    Traceback (most recent call last):
    ...
    mambattn._errors.ConfigError: Layer M (Mamba) has no setting 'd_stat'. Did you mean 'd_state'?
    """
    check_one_of("letter", letter, tuple(LETTERS))
    values = {**_DEFAULTS.get(letter, {}), **(settings or {})}
    mixer = _MIXERS[letter]
    known = [name for name in inspect.signature(mixer).parameters if name != "d_model"]
    for name, value in values.items():
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"Known: {', '.join(known)}.")
            raise ConfigError(f"Layer {letter} ({LETTERS[letter]}) has no setting {name!r}.{hint}")
        if name == "window" and (value is None) != (letter == "A"):
            raise ConfigError(
                f"`window` makes the difference between layers A (global) and L (local), however the settings of "
                f"{letter} have window={value!r}. Use {'L' if letter == 'A' else 'A'} in the schedule, or change it."
            )
    return mixer(d_model, **values)

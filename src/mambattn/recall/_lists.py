"""Checks of the lists of a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mambattn._errors import ConfigError

__all__ = ["check_different", "check_lists"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63


_LISTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tasks": ("names", lambda value: isinstance(value, str)),
    "archs": ("names", lambda value: isinstance(value, str)),
    "seeds": ("whole numbers from 0 to 2**63 - 1", lambda value: _is_whole(value, 0)),
    "lrs": ("positive numbers", lambda value: _is_number(value) and 0 < value < math.inf),
    "lengths": ("whole numbers of at least 1", lambda value: _is_whole(value, 1)),
    "betas": ("numbers in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1),
}
"""What the lists hold, in words and as a test."""


def check_lists(study: Any) -> None:
    """Raise `ConfigError` for a list that is none, is empty, holds something else or, but for betas, the same twice."""
    for name, (kind, good) in _LISTS.items():
        values = getattr(study, name)
        if not isinstance(values, tuple) or not values:
            raise ConfigError(f"`{name}` must be a list of {kind}, one at least, however {name}={values!r}.")
        for value in values:
            if not good(value):
                raise ConfigError(f"`{name}` must hold {kind}, however one is {value!r}.")
        if name != "betas":
            check_different(name, values, values)
    if len(study.betas) != 2:
        raise ConfigError(f"`betas` must be two numbers in [0, 1), however betas={study.betas!r}. Use (0.9, 0.98).")


def check_different(name: str, values: Sequence[Any], meanings: Sequence[Any]) -> None:
    """Raise `ConfigError`, with the values, where two of the meanings are the same."""
    for i, meaning in enumerate(meanings):
        if meaning in meanings[:i]:
            twice = f"{values[meanings.index(meaning)]!r} and {values[i]!r}"
            raise ConfigError(f"`{name}` must be different from each other, however {twice} are the same. Use one.")

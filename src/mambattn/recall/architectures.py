"""Architectures of a study: a schedule and how its attention knows positions and length."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.schedule import LETTERS, parse_schedule

__all__ = ["ARCHITECTURES", "Architecture", "parse_architecture"]

_OPTIONS = ("positions", "log_scaling", "window")
_LOCAL_WINDOW = 64  # of L in a stack; a test compares the two
_ACTS_ON = {"window": "AL", "log_scaling": "AL", "rotary": "ALG"}


@dataclass(frozen=True)
class Architecture:
    """One contestant of a study.

    Parameters
    ----------
    schedule : str
        One letter a layer; see `mambattn.schedule`.
    positions : {None, "learned", "rotary"}, default None
        None: nothing says where a token stands but the causal mixers. "learned": a vector a position is added to the
        embedding (arXiv 1706.03762, section 3.5). "rotary": queries and keys are turned (arXiv 2104.09864).
    log_scaling : {None, "test", "always"}, default None
        Whether attention's logits grow with log i / log n_train at the i-th token: "test" only beyond the training
        length, with the factor max(1, ·), "always" at every token, in training too.
    window : int or None, default None
        Tokens that attention sees: ``A`` instead of all, ``L`` instead of 64.
    label : str, default ""
        Name of a known architecture; "" is the schedule.

    Examples
    --------
    >>> parse_architecture("hybrid_a:log_scaling=test").name
    'hybrid_a:log_scaling=test'
    """

    schedule: str
    positions: str | None = None
    log_scaling: str | None = None
    window: int | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The text that `parse_architecture` takes back."""
        known = ARCHITECTURES.get(self.label)
        changed = [
            f"{option}={getattr(self, option)}"
            for option in _OPTIONS
            if getattr(self, option) != (getattr(known, option) if known else None)
        ]
        return ":".join([self.label or self.schedule, *changed])

    def settings(self, *, n_heads: int, d_state: int, train_length: int) -> dict[str, dict[str, Any]]:
        """Give the settings of the stack's layers.

        Parameters
        ----------
        n_heads : int
            Heads of attention.
        d_state : int
            States of Mamba and Mamba-2.
        train_length : int
            Tokens of a training sequence.

        Returns
        -------
        dict
            Keyword arguments of the mixer of each letter of `layers`.
        """
        attention: dict[str, Any] = {"n_heads": n_heads, "causal": True}
        if self.positions == "rotary":
            attention["positions"] = "rotary"
        scaling = {} if self.log_scaling is None else {"log_length": train_length}
        if self.log_scaling == "always":
            scaling["log_floor"] = False
        window = {} if self.window is None else {"window": self.window}
        all_letters = {
            "M": {"d_state": d_state},
            "S": {"d_state": d_state},
            "A": attention | scaling,
            "L": attention | scaling | window,
            "G": attention,
        }
        return {letter: all_letters[letter] for letter in dict.fromkeys(self.layers) if letter in all_letters}

    @property
    def meaning(self) -> Architecture:
        """The architecture without its label and with its windows spelled out: the same for all its names."""
        window = self.window or (_LOCAL_WINDOW if "L" in self.schedule else None)
        return dataclasses.replace(self, schedule=self.layers, window=window, label="")

    @property
    def layers(self) -> str:
        """The schedule with the window acted on: global attention becomes local."""
        return self.schedule if self.window is None else self.schedule.replace("A", "L")


ARCHITECTURES: dict[str, Architecture] = {
    "nope": Architecture("AA", label="nope"),
    "learned": Architecture("AA", positions="learned", label="learned"),
    "rotary": Architecture("AA", positions="rotary", label="rotary"),
    "mamba": Architecture("MM", label="mamba"),
    "hybrid_a": Architecture("MA", label="hybrid_a"),
    "hybrid_b": Architecture("MAM", label="hybrid_b"),
}
"""The six architectures of the published comparison, by name."""


def parse_architecture(text: str) -> Architecture:
    """Read an architecture: a name or a schedule, with options after colons.

    Parameters
    ----------
    text : str
        Such as "hybrid_a", "MAM", "AA:positions=rotary", "hybrid_a:log_scaling=test" or "MA:window=32".

    Returns
    -------
    Architecture
        What it names.

    Raises
    ------
    ConfigError
        If a name, a letter, an option or a value is unknown, an option is there twice or would act on nothing.

    Examples
    --------
    >>> parse_architecture("hybrid_b").schedule
    'MAM'
    >>> parse_architecture("mamba:window=8")
    Traceback (most recent call last):
    ...
    mambattn._errors.ConfigError: Architecture 'mamba:window=8' has no layer for `window` to act on (its schedule \
is 'MM'). Leave it out.
    """
    if not isinstance(text, str):
        raise ConfigError(f"An architecture must be text, however it is {text!r}. Use a name or a schedule as 'MAM'.")
    name, *options = text.strip().split(":")
    architecture = ARCHITECTURES.get(name) or Architecture(_schedule(name))
    changes: dict[str, Any] = {}
    for option, value in (_option(option, text) for option in options):
        if option in changes:
            raise ConfigError(f"`{option}` must be given once, however the architecture is {text!r}. Use one of them.")
        changes[option] = value
    if "positions" in changes and architecture.positions is not None:
        raise ConfigError(
            f"`positions` must be left out where the name says them, however the architecture is {text!r}. Use "
            f"{architecture.schedule}:positions={changes['positions']}."
        )
    for option, value in changes.items():
        letters = _ACTS_ON.get(value, _ACTS_ON.get(option, ""))
        if letters and not set(letters) & set(architecture.schedule):
            raise ConfigError(
                f"Architecture {text!r} has no layer for `{option}` to act on (its schedule is "
                f"{architecture.schedule!r}). Leave it out."
            )
    return dataclasses.replace(architecture, **changes)


def _schedule(name: str) -> str:
    hint = did_you_mean(name, ARCHITECTURES)
    if name.islower() or (hint and not set(name) <= set(LETTERS)):
        hint = hint or f" Known: {', '.join(ARCHITECTURES)}; or a schedule as 'MAM'."
        raise ConfigError(f"There is no architecture {name!r}.{hint}")
    return parse_schedule(name)


def _option(option: str, text: str) -> tuple[str, Any]:
    key, _, value = option.partition("=")
    if key == "window" and value.isdecimal() and int(value) > 0:
        return key, int(value)
    choices = {"positions": ("learned", "rotary"), "log_scaling": ("test", "always")}
    if value in choices.get(key, ()):
        return key, value
    if key not in _OPTIONS:
        hint = did_you_mean(key, _OPTIONS, otherwise=f"Known: {', '.join(_OPTIONS)}.")
        raise ConfigError(f"Architecture {text!r} has the unknown option {key!r}.{hint}")
    wanted = f"one of {', '.join(choices[key])}" if key in choices else "a number of tokens of at least 1"
    example = choices.get(key, (32,))[0]
    raise ConfigError(f"`{key}` must be {wanted}, however it is {value!r} in {text!r}. Use {key}={example}.")

"""What every config shares: frozen, checked, saved as plain JSON, unknown keys refused."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError

__all__ = ["Config", "check_choice", "check_number"]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Config:
    """Base of the configs: a frozen dataclass whose fields are checked when it is made."""

    def __repr__(self) -> str:
        """Show the fields that differ from their defaults, as scikit-learn shows estimators."""
        changed = (f"{name}={getattr(self, name)!r}" for name in self.field_names() if not self.is_default(name))
        return f"{type(self).__name__}({', '.join(changed)})"

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Return the names of the fields.

        Returns
        -------
        tuple of str
            The names, in order.
        """
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def check_keys(cls, keys: Iterable[str]) -> None:
        """Refuse keys that are no fields.

        Parameters
        ----------
        keys : iterable of str
            The names to check.

        Raises
        ------
        ConfigError
            If one is unknown; the message names the nearest field.
        """
        for key in keys:
            if key not in cls.field_names():
                hint = did_you_mean(key, cls.field_names(), otherwise=f"Known: {', '.join(cls.field_names())}.")
                raise ConfigError(f"{cls.__name__} has no setting {key!r}.{hint}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a config from plain values, as `to_dict` gives them.

        Parameters
        ----------
        values : mapping of str to object
            Some or all of the fields.

        Returns
        -------
        Config
            A config of this class.

        Raises
        ------
        ConfigError
            If a key is unknown or a value cannot hold.
        """
        cls.check_keys(values)
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values.

        Returns
        -------
        dict
            A value for each field; tuples become lists.
        """
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.field_names()
            for value in [getattr(self, name)]
        }

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        Parameters
        ----------
        **changes : object
            New values, by field.

        Returns
        -------
        Config
            The changed copy, checked anew.

        Raises
        ------
        ConfigError
            If a name is unknown or the fields do not go together.
        """
        self.check_keys(changes)
        return dataclasses.replace(self, **changes)

    def is_default(self, name: str) -> bool:
        """Say whether a field still has its default value.

        Parameters
        ----------
        name : str
            A field.

        Returns
        -------
        bool
            True if the value equals the default.
        """
        default = {field.name: field.default for field in dataclasses.fields(self)}[name]
        return getattr(self, name) == default

    def _to_builtin(self) -> None:
        """Turn NumPy scalars into Python numbers and lists into tuples, so that a config saves and compares plainly."""

        def builtin(value: Any) -> Any:
            return value.item() if isinstance(value, np.generic) else value

        for name in self.field_names():
            value = getattr(self, name)
            plain = tuple(map(builtin, value)) if isinstance(value, (list, tuple)) else builtin(value)
            object.__setattr__(self, name, plain)


def check_number(
    config: Config,
    name: str,
    *,
    low: float,
    high: float = math.inf,
    integer: bool = False,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise `ConfigError` unless the field is a number in the range (an integer where asked)."""
    value = getattr(config, name)
    kind = "an integer" if integer else "a number"
    wanted = int if integer else (int, float)
    in_range = (
        isinstance(value, wanted)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (low < value if open_low else low <= value)
        and (value < high if open_high else value <= high)
    )
    if not in_range:
        left, right = ("(" if open_low else "["), (")" if open_high or high == math.inf else "]")
        raise ConfigError(f"`{name}` must be {kind} in {left}{low}, {high}{right}, however {name}={value!r}.")


def check_choice(config: Config, name: str, choices: tuple[Any, ...]) -> None:
    """Raise `ConfigError` unless the field is one of the choices."""
    value = getattr(config, name)
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        hint = did_you_mean(value, choices)
        raise ConfigError(f"`{name}` must be one of {', '.join(map(repr, choices))}, however {name}={value!r}.{hint}")

"""Checks of settings that the norms, mixers and stacks share."""

from torch import Tensor

from mambattn._errors import ConfigError, ShapeError
from mambattn.ops._checks import is_integer

__all__ = [
    "check_counts",
    "check_dropout",
    "check_one_of",
    "check_token",
    "check_tokens",
    "is_count",
]


def is_count(value: object) -> bool:
    """Say whether the value is an integer of at least 1."""
    return is_integer(value, at_least=1)


def check_counts(**settings: int | None) -> None:
    """Raise `ConfigError` for a setting that is no integer of at least 1."""
    for name, value in settings.items():
        if not is_count(value):
            raise ConfigError(f"`{name}` must be an integer of at least 1, however {name}={value!r}.")


def check_dropout(dropout: float) -> None:
    """Raise `ConfigError` unless the share lies in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ConfigError(f"`dropout` must be in [0, 1), however dropout={dropout!r}.")


def check_one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise `ConfigError` unless the value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"`{name}` must be one of {', '.join(map(repr, choices))}, however {name}={value!r}.")


def check_tokens(x: Tensor, d_model: int, owner: str) -> None:
    """Raise `ShapeError` unless `x` is (batch, seq_len, d_model), with a token at least."""
    if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != d_model:
        raise ShapeError(
            f"`x` must be (batch, seq_len, d_model) with d_model={d_model}, however its shape is {tuple(x.shape)}. "
            f"Give at least one token, each a vector of width {d_model}, or make the {owner} with another d_model."
        )


def check_token(x_t: Tensor, d_model: int) -> None:
    """Raise `ShapeError` unless `x_t` is (batch, d_model)."""
    if x_t.ndim != 2 or x_t.shape[-1] != d_model:
        raise ShapeError(
            f"`x_t` must be (batch, d_model) with d_model={d_model}, however its shape is {tuple(x_t.shape)}. "
            "Give one token a sequence, x[:, t]."
        )

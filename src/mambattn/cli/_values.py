"""Settings written as text: ``model.d_model=32``, ``last_layer=attn,mamba``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mambattn.configs import PreprocessingConfig, TrainerConfig
    from mambattn.configs._base import Config

__all__ = ["configs_from", "parse_ablations", "parse_settings", "parse_value"]

_WORDS = {"none": None, "true": True, "false": False}
_SECTIONS = ("model", "trainer", "preprocessing")


def parse_value(text: str) -> Any:
    """Read a value as None, a bool, an integer or a float where it looks like one, else as text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_ablations(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read each ``FIELD=value,value`` of `--ablate`."""
    fields: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        if not equals or not field or "" in values.split(","):
            raise click.BadParameter(
                f"{text!r} must be FIELD=value,value, such as last_layer=attn,mamba.", param_hint="--ablate"
            )
        if field in fields:
            raise click.BadParameter(f"{field!r} is given twice. Put all its values into one.", param_hint="--ablate")
        fields[field] = [parse_value(value) for value in values.split(",")]
    return fields


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read each ``section.field=value`` of `--set`; values stay text until the field is known."""
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for text in texts:
        path, equals, value = text.partition("=")
        section, dot, field = path.partition(".")
        if not equals or not dot or section not in _SECTIONS or not field:
            raise click.BadParameter(
                f"{text!r} must be SECTION.FIELD=value with section model, trainer or preprocessing, such as "
                "model.d_model=32.",
                param_hint="--set",
            )
        if field in sections[section]:
            raise click.BadParameter(f"{path!r} is given twice. Give it once.", param_hint="--set")
        sections[section][field] = value
    return sections


def configs_from(
    settings: dict[str, dict[str, str]],
    model_config: type[Config],
    *,
    schedule: str | None,
    categorical: Sequence[str],
    device: str,
) -> tuple[Config, PreprocessingConfig, TrainerConfig]:
    """Make the three configs of a fit from `--set` and the options that stand for a setting."""
    from mambattn._errors import ConfigError
    from mambattn.configs import PreprocessingConfig, TrainerConfig

    model = _typed(settings["model"], model_config)
    if schedule is not None:
        if "schedule" not in model_config.field_names():
            raise ConfigError(
                f"--schedule is for --model mambattention, since {model_config.__name__} has a stack of its own. "
                "Leave out one of the two."
            )
        _refuse_twice("--schedule", "model.schedule", model)
        model["schedule"] = schedule
    preprocessing = _typed(settings["preprocessing"], PreprocessingConfig)
    if categorical:
        _refuse_twice("--categorical", "preprocessing.categorical_columns", preprocessing)
        preprocessing["categorical_columns"] = tuple(categorical)
    trainer = _typed(settings["trainer"], TrainerConfig)
    if device != "auto":
        _refuse_twice("--device", "trainer.device", trainer)
        trainer["device"] = device
    return (
        model_config.from_dict(model),
        PreprocessingConfig.from_dict(preprocessing),
        TrainerConfig.from_dict(trainer),
    )


def _refuse_twice(option: str, setting: str, values: dict[str, Any]) -> None:
    """Raise if an option and `--set` speak of the same setting."""
    if setting.partition(".")[2] in values:
        raise click.BadParameter(f"{setting!r} is given by {option} too. Give it once.", param_hint="--set")


def _typed(texts: dict[str, str], config: type[Config]) -> dict[str, Any]:
    """Read texts as values; a field whose default is a tuple takes values with commas between."""
    config.check_keys(texts)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return {
        name: tuple(parse_value(part) for part in text.split(",") if part)
        if isinstance(defaults[name], tuple)
        else parse_value(text)
        for name, text in texts.items()
    }

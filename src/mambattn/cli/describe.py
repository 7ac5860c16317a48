"""``mambattn describe``: what is in a model file, or what a schedule would build."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambattn._errors import ConfigError
from mambattn.schedule import LETTERS

if TYPE_CHECKING:
    from mambattn.models._base import TabularEstimator
    from mambattn.stack import StackDescription

__all__ = ["describe"]

_WIDTH, _LENGTH = 64, 16


@click.command(short_help="Show what a model file holds, or what a schedule builds.")
@click.argument("what", metavar="MODEL|SCHEDULE")
@click.option("--d-model", type=click.IntRange(min=1), help=f"Width of a token, for a schedule.  [default: {_WIDTH}]")
@click.option("--seq-len", type=click.IntRange(min=1), help=f"Tokens, for a schedule.  [default: {_LENGTH}]")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def describe(what: str, d_model: int | None, seq_len: int | None, as_json: bool) -> None:
    """Show the layers, columns, settings and training of a model file, or the layers that a schedule builds.

    \b
    mambattn describe model.safetensors
    mambattn describe MMA --d-model 128 --seq-len 30
    """  # noqa: D301 - click reads the \b
    if not Path(what).exists() and set(what) <= set(LETTERS):
        stack = _stack_of(what, d_model or _WIDTH, seq_len or _LENGTH)
        if as_json:
            click.echo(json.dumps(stack.to_dict(), indent=1))
        else:
            _print(stack)
        return
    if d_model is not None or seq_len is not None:
        raise ConfigError(
            f"--d-model and --seq-len are for a schedule, however {what!r} is a model file. Leave them out."
        )
    if not Path(what).exists():
        raise ConfigError(
            f"{what!r} is neither a file nor a schedule. Give a model file, or letters out of {', '.join(LETTERS)}."
        )

    from mambattn.models import load

    estimator = load(what)
    facts = _facts(estimator)
    stack = _fitted_stack(estimator)
    if as_json:
        click.echo(json.dumps(facts | {"stack": None if stack is None else stack.to_dict()}, indent=1))
        return
    _print_facts(facts, estimator)
    if stack is not None:
        _print(stack)


def _stack_of(schedule: str, d_model: int, seq_len: int) -> StackDescription:
    """Describe the stack that MambAttention would build."""
    from mambattn.configs import MambAttentionConfig
    from mambattn.stack import Stack

    config = MambAttentionConfig(schedule=schedule, d_model=d_model)
    return Stack(d_model, schedule, settings=config.layer_settings()).describe(seq_len)


def _fitted_stack(estimator: TabularEstimator) -> StackDescription | None:
    """Describe the stack of a fitted model at the length of its tables; None if it has none."""
    from mambattn.tabular import TokenBackbone

    backbone = estimator.network_.backbone
    if not isinstance(backbone, TokenBackbone):
        return None
    n_tokens = estimator.preprocessor_.schema.n_columns + (backbone.cls_token is not None)
    return backbone.stack.describe(n_tokens)


def _facts(estimator: TabularEstimator) -> dict[str, Any]:
    schema = estimator.preprocessor_.schema
    history = estimator.history_
    classes = getattr(estimator, "classes_", None)
    return {
        "model": type(estimator).__name__,
        "schedule": estimator.schedule_,
        "n_parameters": estimator.n_parameters_,
        "classes": None if classes is None else classes.tolist(),
        "columns": [
            {"name": column.name, "kind": column.kind, "n_categories": len(column.categories)}
            for column in schema.columns
        ],
        "settings": {
            "model": estimator.model_config_.to_dict(),
            "preprocessing": estimator.preprocessor_.config.to_dict(),
            "trainer": estimator.trainer_config_.to_dict(),
        },
        "training": {
            "n_epochs": len(history.val_loss),
            "best_epoch": history.best_epoch,
            "val_loss": history.val_loss[history.best_epoch - 1],
            "stopped_by": history.stopped_by,
            "fit_seconds": estimator.fit_seconds_,
        },
    }


def _print_facts(facts: dict[str, Any], estimator: TabularEstimator) -> None:
    columns, training = facts["columns"], facts["training"]
    click.echo(f"{facts['model']}, {facts['n_parameters']:,} parameters")
    click.echo(f"schedule       {facts['schedule'] or 'none: it has no mixer'}")
    if facts["classes"] is not None:
        click.echo(f"classes        {', '.join(map(str, facts['classes']))}")
    click.echo(
        f"training       {training['n_epochs']} epochs in {training['fit_seconds']:.1f} s, stopped by "
        f"{training['stopped_by']}; best epoch {training['best_epoch']}, validation loss {training['val_loss']:.4f}"
    )
    configs = (estimator.model_config_, estimator.preprocessor_.config, estimator.trainer_config_)
    for (section, settings), config in zip(facts["settings"].items(), configs, strict=True):
        changed = [f"{name}={_short(value)}" for name, value in settings.items() if not config.is_default(name)]
        click.echo(f"{section:<14} {', '.join([*changed, 'the rest at the defaults' if changed else 'the defaults'])}")
    click.echo(f"columns        {len(columns)}")
    for column in columns:
        what = "number" if column["kind"] == "number" else f"category, {column['n_categories']} known"
        click.echo(f"  {column['name']}: {what}")


def _short(value: Any) -> str:
    return "()" if value == [] else ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _print(stack: StackDescription) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 110, highlight=False).print(stack)

"""Options that more than one command has, written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["categorical", "device", "drop", "random_state", "task"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

task: Decorator = click.option(
    "--task",
    type=click.Choice(["auto", "classification", "regression"]),
    default="auto",
    show_default=True,
    help="What to predict; auto looks at the target.",
)
drop: Decorator = click.option("--drop", metavar="COL", multiple=True, help="Leave a column out (repeatable).")
categorical: Decorator = click.option(
    "--categorical", metavar="COL", multiple=True, help="Treat a column of numbers as categories (repeatable)."
)
device: Decorator = click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
random_state: Decorator = click.option(
    "--random-state", type=int, default=0, show_default=True, help="Seed of every random draw."
)

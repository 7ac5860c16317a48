"""The options of ``mambattn recall`` that are settings of a study, each named as its field of `Study`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from mambattn.cli import _options
from mambattn.cli._values import parse_value

__all__ = ["given_settings", "study_options"]

_MOST_SEEDS = 1000


class Listed(click.ParamType):
    """Values with commas between; one may follow the last."""

    name = "list"

    def __init__(self, kind: Callable[[str], Any], what: str) -> None:
        self.kind, self.what = kind, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Read the values."""
        parts = [part.strip() for part in value.removesuffix(",").split(",")]
        try:
            if "" not in parts:
                return self.read(tuple(map(self.kind, parts)), is_list="," in value)
        except ValueError:
            pass
        return self.fail(f"{value!r} must be {self.what}.", param, ctx)

    def read(self, values: tuple[Any, ...], *, is_list: bool) -> tuple[Any, ...]:
        """Give what the values mean, or raise ValueError."""
        return values


class Seeds(Listed):
    """How many seeds, from 0 on; or a list of them, which has a comma."""

    def read(self, values: tuple[int, ...], *, is_list: bool) -> tuple[int, ...]:
        """Give the seeds; thousands of them would be one seed without its comma."""
        if not is_list and not 1 <= values[0] <= _MOST_SEEDS:
            raise ValueError
        return values if is_list else tuple(range(values[0]))


def _number_or_none(text: str) -> float | None:
    """Read a number, or the word none."""
    value = parse_value(text)
    if isinstance(value, (str, bool)):
        raise click.BadParameter(f"{text!r} must be a number, or none.")
    return value


_NAMES = Listed(str, "names with commas between")
_COUNTS = Listed(int, "whole numbers with commas between")
_NUMBERS = Listed(float, "numbers with commas between")
_SEEDS = Seeds(
    int, f"how many seeds, 1 to {_MOST_SEEDS}, or a list of them with commas, 10,11; seed 7 alone is 7, with its comma"
)

_option = partial(click.option, show_default=True)
# Defaults are those of `Study`, written out since it is not imported for --help; a test compares the two. They are only
# shown: what does not stand on the command line is left to `Study`, or to the preset.
_SETTINGS: tuple[_options.Decorator, ...] = (
    _option(
        "--tasks",
        type=_NAMES,
        metavar="A,B",
        default="induction",
        help="Out of induction, recall, delay, recall_delay, mqar and selective_copy; options follow a colon: "
        "recall:tau=3:vocab=64.",
    ),
    click.option(
        "--archs",
        type=_NAMES,
        metavar="A,B",
        default="nope,learned,rotary,mamba,hybrid_a,hybrid_b",
        help="Out of nope, learned, rotary, mamba, hybrid_a and hybrid_b, all by default, or a schedule such as MAM; "
        "options follow a colon: hybrid_a:log_scaling=test, MA:window=32, AA:positions=rotary.",
    ),
    _option(
        "--seeds",
        type=_SEEDS,
        metavar="N|A,B",
        default="5",
        help="How many, from 0 on; or a list: 10,11. Seed 7 alone is 7, with its comma.",
    ),
    _option(
        "--lrs",
        type=_NUMBERS,
        metavar="A,B",
        default="0.001,0.003",
        help="Learning rates, of which the best is chosen for each task and architecture.",
    ),
    _option("--steps", type=int, default=4000, help="Training steps."),
    _option("--train-length", type=int, default=32, help="Tokens of a training sequence, queries included."),
    _option(
        "--lengths",
        type=_COUNTS,
        metavar="A,B",
        default="32,64,128,256,512,1024",
        help="Tokens of the test sequences; the training length is always one of them.",
    ),
    _option("--d-model", type=int, default=64, help="Width of a token."),
    _option("--n-heads", type=int, default=1, help="Heads of attention."),
    _option("--d-state", type=int, default=16, help="States of Mamba and Mamba-2."),
    _option(
        "--norm-position",
        type=click.Choice(["post", "pre"]),
        default="post",
        help="Where the norm of a layer stands: after its residual sum, or before its mixer.",
    ),
    _option("--mlp/--no-mlp", default=False, help="Whether a gated MLP follows every mixer."),
    _option("--batch", type=int, default=64, help="Sequences a step."),
    _option("--betas", type=_NUMBERS, metavar="A,B", default="0.9,0.98", help="Decays of Adam."),
    _option("--clip", type=_number_or_none, metavar="NORM", default="1.0", help="Largest norm of a gradient, or none."),
    _option(
        "--lr-schedule",
        type=click.Choice(["cosine", "constant"]),
        default="cosine",
        help="Course of the learning rate.",
    ),
    _option("--n-validation", type=int, default=1024, help="Sequences by which the learning rate is chosen."),
    _option("--n-test", type=int, default=1024, help="Sequences of each test length."),
    _option(
        "--n-threads",
        type=int,
        default=1,
        help="Threads of each task and architecture on a CPU; the last bits of the results depend on it.",
    ),
    _options.device,
)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def given_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave those that stand on the command line."""
    context, default = click.get_current_context(), click.core.ParameterSource.DEFAULT
    return {name: value for name, value in settings.items() if context.get_parameter_source(name) is not default}

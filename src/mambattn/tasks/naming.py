"""Tasks by name: ``recall``, ``recall:tau=3:vocab=64``."""

from __future__ import annotations

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError
from mambattn.tasks.associative import AssociativeRecall
from mambattn.tasks.base import Task
from mambattn.tasks.copying import SelectiveCopy
from mambattn.tasks.mqar import MultiQueryRecall

__all__ = ["TASKS", "parse_task"]

TASKS: dict[str, Task] = {
    name: task(**changes)
    for task in (AssociativeRecall, MultiQueryRecall, SelectiveCopy)
    for name, changes in task.NAMED.items()
}
"""The named tasks."""


def parse_task(text: str) -> Task:
    """Make a task from its name and the options that differ from it.

    Parameters
    ----------
    text : str
        ``induction``, ``recall``, ``delay``, ``recall_delay``, ``mqar`` or ``selective_copy``, and behind it any of the
        options of that task, as ``:option=value``.

    Returns
    -------
    Task
        The task; its `name` may be shorter than the text.

    Raises
    ------
    ConfigError
        If there is no such task or option, or a value cannot hold.

    Examples
    --------
    >>> parse_task("recall:tau=3:vocab=64")
    AssociativeRecall(vocab=64, markers=16, queries=4, tau=3)
    >>> parse_task("recall:tau=5").name
    'recall_delay'
    >>> parse_task("recall:tua=3")
    Traceback (most recent call last):
    ...
    mambattn._errors.ConfigError: The task recall has no option 'tua'. Did you mean 'tau'?
    """
    if not isinstance(text, str):
        raise ConfigError(f"`text` must be the name of a task, however text={text!r}. Use text='recall:tau=3'.")
    name, *options = text.split(":")
    if name not in TASKS:
        hint = did_you_mean(name, TASKS, otherwise=f"There are {', '.join(TASKS)}.")
        raise ConfigError(f"There is no task {name!r}.{hint}")
    known = TASKS[name].field_names()
    changes: dict[str, int | float] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in known:
            hint = did_you_mean(key, known, otherwise=f"There are {', '.join(known)}.")
            raise ConfigError(f"The task {name} has no option {key!r}.{hint}")
        if key in changes:
            raise ConfigError(f"`{key}` must be given once, however the task is {text!r}. Use one of them.")
        default = getattr(TASKS[name], key)
        try:
            changes[key] = type(default)(value)
        except ValueError:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise ConfigError(
                f"`{key}` must be {kind}, however the task is {text!r}. Use {name}:{key}={default}."
            ) from None
    return TASKS[name].replace(**changes)

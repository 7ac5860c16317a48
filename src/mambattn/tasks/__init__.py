"""Tasks that ask a sequence model to recall, drawn from an explicit seed.

A task is a frozen dataclass with a pure `Task.draw`; training, validation and test draws share no sequence.
`TASKS` holds the named ones, and `parse_task` makes any other: ``parse_task("recall:tau=3:vocab=64")``.
"""

from mambattn.tasks.associative import AssociativeRecall
from mambattn.tasks.base import Batch, Task
from mambattn.tasks.copying import SelectiveCopy
from mambattn.tasks.mqar import MultiQueryRecall
from mambattn.tasks.naming import TASKS, parse_task

__all__ = ["TASKS", "AssociativeRecall", "Batch", "MultiQueryRecall", "SelectiveCopy", "Task", "parse_task"]

"""One seed of a study, as plain data."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from mambattn._checks import did_you_mean
from mambattn._errors import DataError
from mambattn._plain import PlainData

__all__ = ["Row"]


@dataclass(frozen=True)
class Row(PlainData):
    """One seed of one architecture on one task.

    Parameters
    ----------
    task, arch : str
        Names.
    seed : int
        Seed of its initialisation and its batches.
    lr : float
        The learning rate that was chosen, on a separate draw at the training length; NaN where none was yet.
    steps : int
        Training steps.
    solved : bool
        Whether its accuracy at the training length is at least 0.99.
    accuracy : mapping of int to float
        Accuracy on the test draw, by length.
    finished : bool, default True
        False where the time limit cut the training; such a row is never ranked.

    Raises
    ------
    DataError
        If a field cannot be what it stands for.
    """

    task: str
    arch: str
    seed: int
    lr: float
    steps: int
    solved: bool
    accuracy: Mapping[int, float]
    finished: bool = True

    def __post_init__(self) -> None:
        """Check the fields, and order the accuracies by length."""
        for name in ("task", "arch"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                self._refuse(name, "be a name", "Use one such as 'recall' or 'mamba'.")
        for name in ("seed", "steps"):
            if not _is_whole(getattr(self, name)):
                self._refuse(name, "be an integer from 0", "Use the one of the run.")
        for name in ("solved", "finished"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "be true or false", "Use true or false.")
        lr, given = self.lr, self.accuracy
        if not _is_number(lr) or not (0 < lr < math.inf or (math.isnan(lr) and not self.finished)):
            self._refuse("lr", "be a number above 0", "Use the learning rate that was chosen.")
        if not isinstance(given, Mapping) or not all(
            _is_whole(length) and _is_number(value) and 0 <= value <= 1 for length, value in given.items()
        ):
            self._refuse("accuracy", "map lengths to numbers from 0 to 1", "Use a mapping such as {32: 0.99}.")
        for name, kind in (("seed", int), ("steps", int), ("lr", float)):  # JSON knows no numpy
            object.__setattr__(self, name, kind(getattr(self, name)))
        object.__setattr__(self, "accuracy", {int(length): float(given[length]) for length in sorted(given)})

    def _refuse(self, name: str, must: str, mend: str) -> NoReturn:
        raise DataError(f"`{name}` must {must}, however {name}={getattr(self, name)!r}. {mend}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a row again from what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The fields; `finished` may be missing.

        Returns
        -------
        Row
            The row.

        Raises
        ------
        DataError
            If a field is missing, unknown, or cannot be what it stands for.
        """
        fields = cls.__dataclass_fields__
        if not isinstance(values, Mapping):
            raise DataError(
                f"A row must be a mapping, however it is {values!r}. Use an object with {', '.join(fields)}."
            )
        for name in values:
            if name not in fields:
                hint = did_you_mean(name, fields, otherwise=f"There are {', '.join(fields)}.")
                raise DataError(f"A row has no field {name!r}.{hint}")
        missing = [name for name in fields if name not in values and name != "finished"]
        if missing:
            raise DataError(f"A row must have {missing[0]!r}, however it has {', '.join(values)}. Use the whole row.")
        given: dict[str, Any] = dict(values)
        if isinstance(given["accuracy"], Mapping):
            given["accuracy"] = {int(k) if str(k).isdecimal() else k: value for k, value in given["accuracy"].items()}
        given["lr"] = math.nan if given["lr"] is None else given["lr"]
        return cls(**given)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and _is_number(value) and int(value) >= 0

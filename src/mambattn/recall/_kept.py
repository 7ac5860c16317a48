"""The state of a cell under way, in a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambattn._errors import DataError
from mambattn.recall.cell import CellTraining, Tally
from mambattn.training.checkpoint import ModelFile

__all__ = ["KeptCell"]

_MODEL = "RecallCell"


class KeptCell:
    """Training and tests of a cell so far, kept in a file now and then; where it exists, they go on from there.

    Parameters
    ----------
    training : CellTraining
        The training; it is brought to the state of the file.
    identity : mapping
        JSON-ready values that tell the cell from all others.
    path : Path or None
        The file; None keeps nothing.
    save_every : float
        Seconds between two times.

    Raises
    ------
    DataError
        If the file is damaged or of another cell.
    """

    def __init__(
        self, training: CellTraining, identity: Mapping[str, Any], path: Path | None, save_every: float
    ) -> None:
        self.training = training
        self.identity = identity
        self.path = path
        self.save_every = save_every
        self.tests: dict[str, Tally] = {}
        """What the tests have counted so far, by the name of the test."""
        self._before = 0.0
        if path is not None and path.exists():
            self._restore(path)
        self._start = self._saved = time.monotonic()
        self._n_saved = self._n_done

    @property
    def seconds(self) -> float:
        """Time spent on the cell, over all runs."""
        return self._before + time.monotonic() - self._start

    @property
    def _n_done(self) -> tuple[int, int]:
        return self.training.n_done, sum(tally.n for tally in self.tests.values())

    def save_if_due(self) -> None:
        """Save if it is time to."""
        if time.monotonic() - self._saved > self.save_every:
            self.save()

    def save(self) -> None:
        """Write the file, if there is anything new."""
        if self.path is not None and self._n_done != self._n_saved:
            facts = {**self.identity, "tests": self.tests, "seconds": self.seconds}
            ModelFile(model=_MODEL, facts=facts, tensors=self.training.adam.state()).write(self.path)
        self._saved, self._n_saved = time.monotonic(), self._n_done

    def _restore(self, path: Path) -> None:
        mend = "Remove it, and its cell is trained again from the first step; or use another directory."
        try:
            file = ModelFile.read(path)
        except DataError as error:
            raise DataError(
                f"{str(path)!r} must be a checkpoint, however it is damaged or of a newer mambattn. {mend}"
            ) from error
        if file.model != _MODEL or {key: file.facts.get(key) for key in self.identity} != self.identity:
            raise DataError(f"{str(path)!r} is a checkpoint of another study or device. {mend}")
        self.training.load_state(file.tensors)
        self.tests = {name: Tally(*tally) for name, tally in file.facts["tests"].items()}
        self._before = file.facts["seconds"]

"""The directory of a study: every finished cell at once, and the state of those under way."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mambattn._errors import DataError
from mambattn.recall.outcome import Outcome
from mambattn.recall.row import Row
from mambattn.recall.study import Study
from mambattn.training.files import make_directory, write_text

__all__ = ["Store"]


class Store:
    """A directory that holds one study: `settings.json`, `cells.jsonl` and `checkpoints/`.

    Cells do not depend on each other, so a directory can go on with more tasks or architectures, but not with fewer,
    whose results would be lost from its files, nor with other settings or another kind of device, which draws other
    sequences.

    Parameters
    ----------
    out : Path
        The directory; made where it is missing.
    study : Study
        The study.
    device : str
        Where cells that are not there yet will be trained: the type of the device.

    Raises
    ------
    DataError
        If it is a file, or holds a study with other settings or none that can be read.
    """

    def __init__(self, out: Path, study: Study, device: str) -> None:
        self.out = out
        self.device = device
        self._cells = out / "cells.jsonl"
        self._checkpoints = out / "checkpoints"
        make_directory(out)
        settings = out / "settings.json"
        if settings.exists() or self._cells.exists():
            self._check(study, settings)
        self._checkpoints.mkdir(exist_ok=True)
        write_text(settings, json.dumps({**study.to_dict(), "device": self.device}, indent=1))

    def _check(self, study: Study, settings: Path) -> None:
        try:
            before = dict(json.loads(settings.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{str(settings)!r} must hold the settings of the study in its directory, however {error!r}. "
                "Use another directory."
            ) from error
        for name, value in study.identity().items():
            if before.get(name) != value:
                raise DataError(
                    f"{str(self.out)!r} holds a study with {name}={before.get(name)!r}, however this one has "
                    f"{name}={value!r}. Use another directory, or the same settings to go on."
                )
        for name in ("tasks", "archs"):
            missing = [value for value in before.get(name) or () if value not in getattr(study, name)]
            if missing:
                raise DataError(
                    f"{str(self.out)!r} holds a study with {missing[0]!r} among its {name}, however this one has "
                    f"{name}={getattr(study, name)!r}. Use another directory, or add what is missing."
                )
        cells = {(task, arch) for task in study.tasks for arch in study.archs}
        if before.get("device", self.device) != self.device:
            if cells - self.read().keys():
                raise DataError(
                    f"{str(self.out)!r} holds a study trained on {before['device']}, however this machine would go on "
                    f"on {self.device}, with other sequences. Use device={before['device']!r}, or another directory."
                )
            self.device = before["device"]

    def checkpoint(self, task: str, arch: str) -> Path:
        """Give the file for the state of a cell.

        Parameters
        ----------
        task, arch : str
            The cell.

        Returns
        -------
        Path
            Its file.
        """
        # "-" is a letter of schedules, so it is kept; what no file system takes well becomes "_".
        name = "".join(c if c.isalnum() or c in "-=." else "_" for c in f"{task}__{arch}")
        return self._checkpoints / f"{name}.safetensors"

    def read(self) -> dict[tuple[str, str], Outcome]:
        """Read the finished cells; a last line that a killed run left half written is forgotten.

        Returns
        -------
        dict
            Outcomes by task and architecture.

        Raises
        ------
        DataError
            If a line is none of a study.
        """
        if not self._cells.exists():
            return {}
        text = self._cells.read_text(encoding="utf-8", errors="replace")  # what is no text is no cell
        whole, _, rest = text.rpartition("\n")
        if rest:
            write_text(self._cells, whole + "\n" if whole else "")
        found = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                values = json.loads(line)
                rows = tuple(Row.from_dict(row) for row in values["rows"])
                outcome = Outcome(rows, tuple(values["members"]), values["seconds"])
                found[rows[0].task, rows[0].arch] = outcome
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(
                    f"{str(self._cells)!r}: line {number} must be a finished cell, however {error!r}. Remove the line; "
                    "its cell is then trained again."
                ) from error
        return found

    def add(self, outcome: Outcome) -> None:
        """Keep what came of a cell; its checkpoint is no longer needed.

        Parameters
        ----------
        outcome : Outcome
            A finished one.
        """
        with self._cells.open("a", encoding="utf-8") as file:
            file.write(json.dumps(outcome.to_dict()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        checkpoint = self.checkpoint(outcome.rows[0].task, outcome.rows[0].arch)
        for path in self._checkpoints.glob(f"{checkpoint.name}*"):  # with what a run left that was killed as it wrote
            path.unlink(missing_ok=True)

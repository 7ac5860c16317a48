"""The directory of a comparison: every finished fit at once, so that an interrupted run can go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mambattn._errors import DataError
from mambattn.compare._fitting import Fit, Outcome
from mambattn.compare.results import Comparison, FoldResult
from mambattn.training.files import reserved, whole_file, write_text

__all__ = ["Store", "open_store"]

_SETTINGS = "settings.json"


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


@contextmanager
def open_store(out: Path | None, settings: Mapping[str, Any], *, resume: bool) -> Iterator[Store | None]:
    """Give the store of a directory, which other runs are kept out of while the block runs; None for no directory."""
    if out is None:
        yield None
        return
    with reserved(out):
        yield Store(out, settings, resume=resume)


class Store:
    """A directory `out` that holds one comparison.

    `settings` are what the fits depend on, as JSON-ready values. A directory that holds fits made with others is
    refused, unless `resume` is False: then they are removed.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.out = out
        self.fits = out / "fits"
        # As JSON gives them back, so that a tuple equals the list that it became.
        wanted = json.loads(json.dumps(settings))
        if self.fits.is_dir():
            if resume:
                self._check(wanted)
            else:
                shutil.rmtree(self.fits)
        self.fits.mkdir(parents=True, exist_ok=True)
        write_text(self.fits / _SETTINGS, json.dumps(wanted, indent=1))

    def _check(self, wanted: Mapping[str, Any]) -> None:
        path = self.fits / _SETTINGS
        if not path.is_file():
            return
        before, now = _flat(_read_json(path)), _flat(wanted)
        different = [name for name in (*now, *before) if before.get(name) != now.get(name)]
        if different:
            name = different[0]
            said = "another table" if name == "table" else f"{name}={_short(before.get(name))}"
            change = "" if name == "table" else f", and now {name}={_short(now.get(name))}"
            raise DataError(
                f"{str(self.out)!r} holds a comparison of {said}{change}. Use another directory, or remove this "
                "one (resume=False) to start again."
            )

    def _path(self, fit: Fit) -> Path:
        name = "".join(letter if letter.isalnum() else "_" for letter in fit.candidate.name)
        # "-" is a letter of schedules, so the name alone could stand for two rows.
        schedule = (fit.candidate.schedule or "").replace("-", "x")
        return self.fits / f"{name}.{schedule}.seed{fit.seed}.fold{fit.fold}"

    def read(self, fit: Fit) -> Outcome | None:
        """Return a fit made earlier; None if there is none."""
        path = self._path(fit)
        described = path.with_name(f"{path.name}.json")
        if not described.is_file():
            return None
        values = _read_json(described)
        with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as arrays:
            return Outcome(FoldResult.from_dict(values["result"]), arrays["prediction"])

    def write(self, fit: Fit, outcome: Outcome, elapsed: float) -> None:
        """Keep a fit, and how much of the time limit was used up with it."""
        path = self._path(fit)
        _write_arrays(path.with_name(f"{path.name}.npz"), {"prediction": outcome.prediction})
        values = {"result": outcome.result.to_dict(), "elapsed": elapsed}
        # The JSON comes last: where it is, the fit is whole.
        write_text(path.with_name(f"{path.name}.json"), json.dumps(values))

    def elapsed(self) -> float:
        """Return the time that the runs so far used up, in seconds."""
        files = (path for path in self.fits.glob("*.json") if path.name != _SETTINGS)
        return max((_read_json(path)["elapsed"] for path in files), default=0.0)

    @property
    def model_path(self) -> Path:
        """Where the best network goes."""
        return self.out / "model.safetensors"

    def refitted(self) -> str | None:
        """Return the row that the saved network is of; None if there is none."""
        path = self.fits / "refit.txt"
        return path.read_text(encoding="utf-8") if path.is_file() and self.model_path.is_file() else None

    def note_refitted(self, name: str) -> None:
        """Note the row that the saved network is of."""
        write_text(self.fits / "refit.txt", name)

    def write_results(self, comparison: Comparison, page: str) -> None:
        """Write the JSON, the predictions and the page."""
        write_text(self.out / "comparison.json", json.dumps(comparison.to_dict(), indent=1, allow_nan=False))
        write_text(self.out / "report.html", page)
        given = comparison.predictions
        arrays = {name: np.asarray(given[name]) for name in ("index", "fold", "y", "classes")}
        arrays["models"] = np.array(list(given["models"]))
        for i, prediction in enumerate(given["models"].values()):
            arrays[f"prediction_{i}"] = prediction
        _write_arrays(self.out / "predictions.npz", arrays)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{str(path)!r} is damaged. Remove it, and its fit is made again; or remove the whole directory."
            if path.name != _SETTINGS
            else f"{str(path)!r} is damaged, so the fits beside it cannot be used. Remove {str(path.parent)!r}."
        ) from error


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put the settings of a section beside those outside, so that a difference is named by its field."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= (
            {f"{name}.{field}": inner for field, inner in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

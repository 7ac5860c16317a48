"""What a comparison found, as plain data."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from mambattn._errors import DataError
from mambattn._plain import PlainData, as_text, json_ready
from mambattn.compare import _board, _verdict

__all__ = ["Comparison", "FoldResult", "ModelResult"]

FORMAT = "mambattn comparison"
FORMAT_VERSION = 1
_WIDTH = 140  # columns that `print` gives the leaderboard


class _Plain(PlainData):
    """What the flat dataclasses share: to and from JSON-ready values."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make it again from what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The fields.

        Returns
        -------
        Self
            The result; a float that was None is NaN again.
        """
        floats = {field.name for field in dataclasses.fields(cls) if field.type == "float"}  # type: ignore[arg-type]
        return cls(**{name: math.nan if value is None and name in floats else value for name, value in values.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldResult(_Plain):
    """One fit of one model on one fold with one seed.

    Parameters
    ----------
    model : str
        Name of the row of the leaderboard.
    fold, seed : int
        Which split, and which repetition of it.
    score : float
        The comparison's metric on the held-out rows.
    scores : dict of str to float
        Every metric of the task on the held-out rows.
    fit_seconds, predict_seconds : float
        Wall-clock times.
    n_parameters : int or None
        Trained numbers of a network; None for yardsticks.
    n_epochs : int or None
        Epochs run; None for yardsticks.
    best_epoch : int or None
        Epoch (from 1) whose weights were kept; None for yardsticks.
    cut_by_time : bool
        Whether the time limit ended the fit.
    budget_seconds : float or None
        Time the fit was allowed; None where there was no limit.
    history : dict of str to list of float, or None
        Learning curves by epoch ("train_loss", "val_loss", "lr"); None for yardsticks.
    """

    model: str
    fold: int
    seed: int
    score: float
    scores: dict[str, float]
    fit_seconds: float
    predict_seconds: float
    n_parameters: int | None = None
    n_epochs: int | None = None
    best_epoch: int | None = None
    cut_by_time: bool = False
    budget_seconds: float | None = None
    history: dict[str, list[float]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult(_Plain):
    """One row of the leaderboard: a model over all folds and seeds.

    Parameters
    ----------
    model : str
        Name.
    family : {"mamba", "attention", "both", "no mixer", "yardstick"}
        What the model mixes its tokens with.
    schedule : str or None
        Schedule of its stack; None where it has none.
    mean, sd : float
        Mean and standard deviation of the score over folds and seeds.
    difference, ci_low, ci_high : float
        Score minus the best row's score, paired on the same held-out rows, and its 95 % bootstrap interval (all 0 for
        the best row itself). Negative is worse whatever the metric: errors are negated.
    n_parameters : int or None
        Trained numbers.
    fit_seconds, predict_seconds : float
        Mean over folds and seeds.
    n_cut : int
        Fits that the time limit ended.
    n_fits : int
        Fits in all.
    """

    model: str
    family: str
    schedule: str | None
    mean: float
    sd: float
    difference: float
    ci_low: float
    ci_high: float
    n_parameters: int | None
    fit_seconds: float
    predict_seconds: float
    n_cut: int
    n_fits: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `mambattn.compare.run` found.

    Parameters
    ----------
    task : {"binary", "multiclass", "regression"}
        The task.
    metric : str
        Name of the metric, such as "roc_auc" or "rmse".
    greater_is_better : bool
        Its direction.
    data : dict
        Name, target, n_rows, n_features, n_categorical, n_missing, classes.
    settings : dict
        Folds, seeds, time limit, epochs, random state, thread and process counts.
    machine : dict
        Versions, processor, cores.
    rows : tuple of ModelResult
        The leaderboard, best first.
    folds : tuple of FoldResult
        Every fit.
    contrasts : dict of str to dict
        Paired differences: "both - mamba", "both - attention", "mamba - attention", and "best mixer - X" with X
        "boosting", "linear", "dummy" and "network without mixer", as far as such rows are there. Each has the names of
        its two rows "a" and "b", "difference", "ci_low", "ci_high" as in `ModelResult`, and "a_of" and "b_of": out of
        how many rows a and b were chosen as the best, on these very rows (1: nothing was chosen).
    seconds : float
        Wall-clock time of the fits, those of earlier runs that were resumed included.
    notes : tuple of str
        What was assumed or merged, one sentence each.
    predictions : dict of str to Any, not in the JSON
        Held-out predictions of the first seed, for figures: "index" (row numbers), "fold" (the fold of each), "y" (the
        targets; for classes their positions in "classes"), "classes" (labels; empty for regression), and "models": a
        dict of each row's name to predictions (n,) or probabilities (n, n_classes).
    """

    task: str
    metric: str
    greater_is_better: bool
    data: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    rows: tuple[ModelResult, ...]
    folds: tuple[FoldResult, ...]
    contrasts: dict[str, dict[str, Any]]
    seconds: float
    notes: tuple[str, ...] = ()
    predictions: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def table(self, *, stacked: bool = False) -> Table:
        """Draw the leaderboard.

        Parameters
        ----------
        stacked : bool, default False
            Whether a row takes three lines, which fits most terminals of 60 columns.

        Returns
        -------
        rich.table.Table
            A row a model, best first; the caption says what the interval covers.
        """
        return _board.leaderboard_table(self, stacked=stacked)

    def __str__(self) -> str:
        return f"{as_text(self.table(), _WIDTH)}\n\n{self.verdict()}"

    def verdict(self) -> str:
        """Answer "Mamba, attention, or both?" in one line, with one more about the yardsticks.

        Returns
        -------
        str
            The answer: "Undecided" where an interval includes 0.
        """
        return _verdict.verdict(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the predictions as JSON-ready values.

        Returns
        -------
        dict of str to Any
            The fields, with the verdict, and the format's name and version.
        """
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "verdict": self.verdict(),
            **{name: json_ready(getattr(self, name)) for name in _SIMPLE_FIELDS},
            "rows": [row.to_dict() for row in self.rows],
            "folds": [fold.to_dict() for fold in self.folds],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make a comparison again from what `to_dict` gave.

        Parameters
        ----------
        values : mapping
            The values, such as a comparison's JSON file holds.

        Returns
        -------
        Comparison
            The comparison, without predictions.

        Raises
        ------
        DataError
            If the values are no comparison, or of a newer format.
        """
        if values.get("format") != FORMAT:
            raise DataError(
                f"This is no comparison: its `format` must be {FORMAT!r}, however it is {values.get('format')!r}."
            )
        if values["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"This comparison has format_version={values['format_version']}, and this mambattn reads up to "
                f"{FORMAT_VERSION}. Update mambattn."
            )
        return cls(
            **{name: values[name] for name in _SIMPLE_FIELDS if name != "notes"},
            notes=tuple(values["notes"]),
            rows=tuple(ModelResult.from_dict(row) for row in values["rows"]),
            folds=tuple(FoldResult.from_dict(fold) for fold in values["folds"]),
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a comparison from its JSON file.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Comparison
            The comparison, without predictions.

        Raises
        ------
        DataError
            If the file is not there, or holds no comparison.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read as the JSON of a comparison: {error}.") from error
        if not isinstance(values, dict):
            raise DataError(f"{path} holds no comparison, but {type(values).__name__}.")
        return cls.from_dict(values)


_SIMPLE_FIELDS = (
    "task",
    "metric",
    "greater_is_better",
    "data",
    "settings",
    "machine",
    "contrasts",
    "seconds",
    "notes",
)

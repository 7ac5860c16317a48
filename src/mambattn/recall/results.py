"""What a recall study measured, as plain data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mambattn._checks import did_you_mean
from mambattn._errors import ConfigError, DataError
from mambattn._plain import json_ready
from mambattn.recall.links import Links, measure_links
from mambattn.recall.row import Row
from mambattn.recall.summary import Summary, summarise_cell
from mambattn.tasks import parse_task

__all__ = ["Results", "Row"]

FORMAT = "mambattn recall study"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Results:
    """What a recall study measured: a row for each task, architecture and seed.

    Parameters
    ----------
    rows : tuple of Row
        The rows.
    settings : mapping of str to Any
        The study, as JSON-ready values. Read here: `tasks` and `archs`, names in the order in which they are shown;
        `lengths`; and `train_length`, where it is given.

    Raises
    ------
    DataError
        If rows and settings do not belong together, or two rows are of the same seed.

    Examples
    --------
    >>> curves = {"rotary": {32: 1.0, 64: 0.7}, "mamba": {32: 1.0, 64: 1.0}}
    >>> rows = [Row("recall", arch, 0, 1e-3, 100, True, curve) for arch, curve in curves.items()]
    >>> results = Results.from_rows(rows, {"train_length": 32})
    >>> print(results.table())
    recall: accuracy by length, trained at 32, chance .062
            solved         32         64
    rotary     1/1       1.00       .700
    mamba      1/1       1.00       1.00
    >>> [link.verdict for link in results.links()]
    ['undecided']
    """

    rows: tuple[Row, ...]
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check that rows and settings belong together."""
        object.__setattr__(self, "rows", tuple(self.rows))
        for name in ("tasks", "archs", "lengths"):
            if not isinstance(self.settings.get(name), Sequence) or isinstance(self.settings[name], str):
                raise DataError(
                    f"`settings` must have the list {name!r}, however {name}={self.settings.get(name)!r}. "
                    "Use the settings of the study."
                )
        seen = set()
        for row in self.rows:
            where = f"the row of task={row.task!r}, arch={row.arch!r}, seed={row.seed}"
            for name, value in (("tasks", row.task), ("archs", row.arch)):
                if value not in self.settings[name]:
                    known = ", ".join(self.settings[name])
                    raise DataError(f"`{name}` must have all that the rows have, however {where} is none of {known}.")
            lacking = [length for length in self.settings["lengths"] if row.finished and length not in row.accuracy]
            if lacking:
                raise DataError(
                    f"`accuracy` must have every length of a study, however {where} has none at {lacking[0]}. "
                    "Use rows of one study."
                )
            if where in seen:
                raise DataError(f"`rows` must have each seed once, however {where} is there twice. Use one of them.")
            seen.add(where)

    def is_finished(self, task: str, arch: str) -> bool:
        """Say whether a cell was trained to its end.

        Parameters
        ----------
        task, arch : str
            Names.

        Returns
        -------
        bool
            False if it was cut by the time limit, or never begun.
        """
        return bool(self.rows_of(task, arch)) and all(row.finished for row in self.rows_of(task, arch))

    def rows_of(self, task: str, arch: str) -> tuple[Row, ...]:
        """Return the rows of a cell, by seed.

        Parameters
        ----------
        task, arch : str
            Names.

        Returns
        -------
        tuple of Row
            The rows; none where the cell was never begun.
        """
        return tuple(sorted((r for r in self.rows if (r.task, r.arch) == (task, arch)), key=lambda row: row.seed))

    def table(self, task: str | None = None) -> Summary:
        """Summarise the seeds of every architecture on every task, or on one.

        Parameters
        ----------
        task : str or None, default None
            Name of a task; all by default.

        Returns
        -------
        Summary
            For each cell how many seeds solved it, and by length their mean, range and bootstrap interval. Unfinished
            cells have no figures.

        Raises
        ------
        ConfigError
            If there is no such task here.

        Examples
        --------
        >>> row = Row("recall", "mamba", 0, 1e-3, 100, True, {32: 1.0, 64: 0.9})
        >>> Results.from_rows([row]).table("recall").cells[0].lengths[1].mean
        0.9
        """
        tasks = self.settings["tasks"]
        if task is not None and task not in tasks:
            hint = did_you_mean(task, tasks, otherwise=f"There are {', '.join(tasks)}.")
            raise ConfigError(f"`task` must be one of this study, however task={task!r}.{hint}")
        cells = []
        for name in tasks if task is None else [task]:
            for arch in self.settings["archs"]:
                rows = self.rows_of(name, arch) if self.is_finished(name, arch) else ()
                cells.append(summarise_cell(name, arch, rows, self.settings["lengths"]))
        chance = {}
        for name in dict.fromkeys(cell.task for cell in cells):
            with contextlib.suppress(ConfigError):  # a task of one's own
                chance[name] = parse_task(name).chance
        return Summary(tuple(cells), self.settings.get("train_length"), chance)

    def links(self, chain: str | None = None, lengths: Sequence[int] | None = None) -> Links:
        """Judge each link of a claimed order of the architectures, on every task.

        A seed's score is its mean accuracy over `lengths`. The verdict comes from the 95 % interval, by Student's t, of
        the differences between the scores of the same seeds; see `judge`. It takes five seeds.

        Parameters
        ----------
        chain : str or None, default None
            The claim, such as ``"rotary < mamba ≈ hybrid_a"``, worst first. By default the published one,
            ``nope < learned < rotary < mamba < hybrid_a ≈ hybrid_b``, as far as both sides of a link are in the study.
        lengths : sequence of int or None, default None
            Lengths to score by; by default all beyond the training length.

        Returns
        -------
        Links
            A link with its verdict for each claim and task.

        Raises
        ------
        ConfigError
            If the chain cannot be read or names an architecture that is not in the study, or a length was not tested.

        Examples
        --------
        >>> scores = {"rotary": (0.5, 0.6, 0.4, 0.5, 0.5), "mamba": (0.9, 1.0, 0.9, 1.0, 0.9)}
        >>> rows = [Row("recall", a, i, 1e-3, 9, True, {64: x}) for a in scores for i, x in enumerate(scores[a])]
        >>> [link] = Results.from_rows(rows).links("rotary < mamba", lengths=[64])
        >>> link.verdict, round(link.difference, 2), round(link.low, 2), round(link.high, 2)
        ('holds', 0.44, 0.37, 0.51)
        """
        return measure_links(self, chain, lengths)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values.

        Returns
        -------
        dict of str to Any
            The format's name and version, `settings`, `rows`, and as they follow from these `table` and, if the
            training length is known, `links`.
        """
        links = {} if self.settings.get("train_length") is None else {"links": self.links().to_dict()}
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": json_ready(self.settings),
            "rows": [row.to_dict() for row in self.rows],
            "table": self.table().to_dict(),
            **links,
        }

    @classmethod
    def from_rows(cls, rows: Sequence[Row | Mapping[str, Any]], settings: Mapping[str, Any] | None = None) -> Self:
        """Make results of rows, as a `results.json` lists them.

        Parameters
        ----------
        rows : sequence of Row or of mapping
            The rows.
        settings : mapping or None, default None
            The study. Those of `tasks`, `archs`, `seeds` and `lengths` that are missing are taken from the rows, in
            their order.

        Returns
        -------
        Results
            The results.

        Raises
        ------
        DataError
            If a row is malformed, or they do not belong together; the message says which one.
        """
        made = []
        for i, row in enumerate(rows, 1):
            try:
                made.append(row if isinstance(row, Row) else Row.from_dict(row))
            except DataError as error:
                raise DataError(f"Row {i}: {error}") from error
        found = {
            "tasks": list(dict.fromkeys(row.task for row in made)),
            "archs": list(dict.fromkeys(row.arch for row in made)),
            "seeds": sorted({row.seed for row in made}),
            "lengths": sorted({length for row in made for length in row.accuracy}),
        }
        return cls(tuple(made), found | dict(settings or {}))

    @classmethod
    def read(cls, path: str | Path, settings: Mapping[str, Any] | None = None) -> Self:
        """Read the results of a study from its JSON.

        Parameters
        ----------
        path : str or Path
            A list of rows, or what `to_dict` gave; or a directory with a `results.json`. The settings of a list are in
            the `settings.json` beside it, if there is one.
        settings : mapping or None, default None
            Settings that go before those of the file.

        Returns
        -------
        Results
            The results.

        Raises
        ------
        DataError
            If there is no such file, or it holds no results; the message says where.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        given = _read_json(path)
        if isinstance(given, list):
            beside = path.with_name("settings.json")
            given = {"format": FORMAT, "rows": given, "settings": _read_json(beside) if beside.is_file() else {}}
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            raise DataError(
                f"{str(path)!r} must hold a list of rows or the results of a study, however it holds other JSON. "
                "Use the results.json of `mambattn recall --out`, or the file of its --json."
            )
        try:
            if given.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
                raise DataError(
                    f"it has format_version={given['format_version']}, and this mambattn reads up to {FORMAT_VERSION}. "
                    "Update mambattn."
                )
            return cls.from_rows(given["rows"], {**given["settings"], **(settings or {})})
        except DataError as error:
            raise DataError(f"{str(path)!r}: {error}") from error
        except (KeyError, TypeError) as error:
            raise DataError(f"{str(path)!r} is damaged: {error!r}. Use the file as it was written.") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read as JSON: {error}. Use the files of `mambattn recall --out`."
        ) from error

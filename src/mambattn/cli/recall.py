"""``mambattn recall``: which architecture recalls beyond the length it was trained at?"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambattn.cli._group import note, say_how_to_resume
from mambattn.cli._recall_options import given_settings, study_options

if TYPE_CHECKING:
    from mambattn.recall import Results, Study

__all__ = ["recall"]

_PIPE_WIDTH = 110
_PLACE = "recall"


@click.command(short_help="Which architecture recalls beyond the length it was trained at?")
@click.option(
    "--preset",
    type=click.Choice(["quick", "study", "published"]),
    help="Settings to begin with, in place of the defaults below; every option given goes before them.",
)
@study_options
@click.option(
    "--chain",
    "chains",
    metavar="'A < B ≈ C'",
    multiple=True,
    help="Judge this order, the better one on the right, in place of the published one (repeatable); ~ is ≈.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop training then; what it cut is marked unfinished, and goes on with the same command.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes; as many as the cores allow by default, one on a GPU. The results do not depend on it.",
)
@click.option(
    "--ray", metavar="ADDRESS", help="Train on a Ray cluster: auto, local, or host:port. Needs mambattn[ray]."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Write a list of rows, one a task, architecture and seed; - is standard output.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    show_default=f"{_PLACE}, or {_PLACE}-2 and so on where that holds another study",
    help="Write results, figures and report.html; a run that was interrupted goes on from here.",
)
def recall(
    preset: str | None,
    chains: tuple[str, ...],
    time_limit: float | None,
    workers: int | None,
    ray: str | None,
    json_file: str | None,
    out: Path | None,
    **settings: Any,
) -> None:
    """Train architectures on recall tasks at one length, and test them far beyond, over seeds.

    A task and an architecture are a cell: all its seeds and learning rates train together. Every cell is kept as it
    comes, with the state of the one under way, so that the same command goes on after an interruption.

    \b
    mambattn recall --preset quick
    mambattn recall --preset study --device cuda --out study
    mambattn recall --tasks induction,recall:tau=3:vocab=64 --archs rotary,mamba,MAM --seeds 5 --time-limit 3600
    """  # noqa: D301 - click reads the \b
    from mambattn.cli._recall_progress import Narrator
    from mambattn.recall import Results, Study, run

    given = given_settings(settings)
    study = Study(**given) if preset is None else Study.from_preset(preset, **given)
    for chain in chains:
        Results((), study.to_dict()).links(chain)  # refuses what it cannot judge before anything is trained
    out = _place(study) if out is None else out
    if json_file not in (None, "-"):
        _check_file(Path(json_file), out)
    say_how_to_resume(f"Run the same command again: it goes on from {out}.")
    with Narrator(study.train_length, study.steps) as narrator:
        results = run(study, out, workers=workers, ray=ray, time_limit=time_limit, watcher=narrator)
    if narrator.n_cut:
        note(f"Cells cut by the time limit: {narrator.n_cut}. Run the same command again: it goes on from {out}.")
    _write(results, chains, out)

    from rich.console import Console

    text = sys.stderr if json_file == "-" else sys.stdout
    console = Console(file=text, width=None if text.isatty() else _PIPE_WIDTH, highlight=False)
    console.print(results.table())
    for chain in chains or (None,):
        console.print()
        console.print(results.links(chain))
    if json_file is not None:
        rows = json.dumps([row.to_dict() for row in results.rows], indent=1, allow_nan=False)
        if json_file == "-":
            click.echo(rows)
        else:
            Path(json_file).write_text(rows + "\n", encoding="utf-8")
    click.echo(f"\nReport: {out / 'report.html'}", file=text)


def _check_file(path: Path, out: Path) -> None:
    """Refuse what cannot be written once `out` is there, before anything is trained."""
    file, place = path.resolve(), out.resolve()
    fault = ""
    if not file.parent.is_dir() and not place.is_relative_to(file.parent):
        fault = f"there is no directory {str(path.parent)!r}."
    elif file.is_dir() or place.is_relative_to(file):
        fault = f"{str(path)!r} is a directory."
    if fault:
        raise click.BadParameter(fault, param_hint="--json")


def _place(study: Study) -> Path:
    """Give the first of recall, recall-2, … that is new or holds this study."""
    places = (Path(_PLACE if n == 1 else f"{_PLACE}-{n}") for n in itertools.count(1))
    return next(place for place in places if not place.exists() or _holds(place, study))


def _holds(place: Path, study: Study) -> bool:
    try:
        before = json.loads((place / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (
        isinstance(before, dict)
        and before | study.identity() == before
        and all(set(before.get(name) or ()) <= set(getattr(study, name)) for name in ("tasks", "archs"))
    )


def _write(results: Results, chains: tuple[str, ...], out: Path) -> None:
    """Write the figures and the page."""
    from mambattn import plots
    from mambattn.report import write_recall_report

    figures = {"length_curves": plots.length_curves(results)}
    if plots.delay_sweeps(results) and results.settings["train_length"] < max(results.settings["lengths"]):
        figures["delay_sweep"] = plots.delay_sweep(results)
    else:
        (out / "delay_sweep.png").unlink(missing_ok=True)
    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=150, facecolor="white")
    write_recall_report(results, out / "report.html", chains=chains)

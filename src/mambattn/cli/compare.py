"""``mambattn compare``: which mixer suits this table?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mambattn.cli import _options
from mambattn.cli._group import say_how_to_resume
from mambattn.cli._values import parse_ablations

__all__ = ["compare"]

_PIPE_WIDTH = 140
_WIDEST = 1000


@click.command(short_help="Which mixer suits this table: Mamba, attention, or both?")
@click.argument("data")
@click.option("--target", metavar="COL", help="Column to predict; a bundled table knows its own.")
@click.option(
    "--folds", type=click.IntRange(min=2), default=3, show_default=True, help="Folds of the cross-validation."
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Repetitions, each with other folds."
)
@click.option("--max-epochs", type=click.IntRange(min=1), help="Epochs of each network at most.")
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wall-clock limit of the whole comparison, shared fairly over the models.",
)
@click.option("--models", metavar="A,B", help="Which models, with commas between; all of them by default.")
@click.option(
    "--schedule",
    "schedules",
    metavar="MMA",
    multiple=True,
    help="Add a stack of your own (repeatable): M Mamba, S Mamba-2, A attention, L local, G global + local, - MLP.",
)
@click.option(
    "--ablate",
    metavar="FIELD=V1,V2",
    multiple=True,
    help="Add MambAttention with each value of a setting, a row for each distinct stack (repeatable).",
)
@_options.task
@click.option("--metric", help="Such as roc_auc, accuracy, log_loss, rmse, mae, r2; chosen by the task by default.")
@_options.drop
@_options.categorical
@_options.device
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; chosen by the machine by default.")
@_options.random_state
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Write every fold as JSON; - is standard output.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the best model, the JSON and report.html; a run that was interrupted goes on from here.",
)
def compare(
    data: str,
    target: str | None,
    folds: int,
    seeds: int,
    max_epochs: int | None,
    time_limit: float | None,
    models: str | None,
    schedules: tuple[str, ...],
    ablate: tuple[str, ...],
    task: str,
    metric: str | None,
    drop: tuple[str, ...],
    categorical: tuple[str, ...],
    device: str,
    jobs: int | None,
    random_state: int,
    json_file: str | None,
    out: Path | None,
) -> None:
    """Train every model on the same folds of a table under an equal budget, and say which one suits it.

    DATA is a CSV or Parquet file, or one of breast_cancer, wine, digits and diabetes.

    \b
    mambattn compare breast_cancer --time-limit 120 --out result
    mambattn compare houses.csv --target price --folds 5 --schedule MMA --json -
    """  # noqa: D301 - click reads the \b
    ablations = parse_ablations(ablate)
    if json_file not in (None, "-") and not Path(json_file).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {str(Path(json_file).parent)!r}.", param_hint="--json")

    from mambattn.cli._oddities import note_oddities
    from mambattn.cli._tables import read_target_table
    from mambattn.compare import run
    from mambattn.configs import PreprocessingConfig

    table = read_target_table(data, target, drop=drop, categorical=categorical)
    note_oddities(table)
    say_how_to_resume(
        "Give --out DIR, and a run that was interrupted can go on."
        if out is None
        else f"Run the same command again: it goes on from {out}."
    )
    comparison = run(
        table.X,
        table.y,
        models=None if models is None else [name.strip() for name in models.split(",")],
        task=task,
        metric=metric,
        folds=folds,
        seeds=seeds,
        time_limit=time_limit,
        max_epochs=max_epochs,
        schedules=schedules,
        ablate=ablations or None,
        preprocessing_config=PreprocessingConfig(categorical_columns=categorical) if categorical else None,
        device=device,
        n_jobs=jobs,
        random_state=random_state,
        out=out,
        data_name=table.name,
        target_name=table.target,
    )

    from rich.console import Console

    text = sys.stderr if json_file == "-" else sys.stdout
    console = Console(file=text, width=None if text.isatty() else _PIPE_WIDTH, highlight=False)
    board = comparison.table()
    is_wide = console.measure(board, options=console.options.update(width=_WIDEST)).maximum <= console.width
    console.print(board if is_wide else comparison.table(stacked=True))
    click.echo(f"\n{comparison.verdict()}", file=text)
    if json_file is not None:
        content = json.dumps(comparison.to_dict(), indent=1, allow_nan=False)
        if json_file == "-":
            click.echo(content)
        else:
            Path(json_file).write_text(content + "\n", encoding="utf-8")
    if out is not None:
        click.echo(f"\nReport: {out / 'report.html'}", file=text)

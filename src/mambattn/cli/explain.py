"""``mambattn explain``: what a saved model looks at."""

from __future__ import annotations

import sys
from pathlib import Path

import click

__all__ = ["explain"]

_PIPE_WIDTH = 110


@click.command(short_help="Show what a saved model looks at.")
@click.argument("model")
@click.argument("data", required=False)
@click.option("--text", metavar="TEXT", help="Explain the token that a language model of transformers puts next.")
@click.option("--ids", metavar="1,2,3", help="Token ids in place of a text.")
@click.option(
    "--target", metavar="CLASS", help="Class to explain, or next token (its text or id); what is predicted by default."
)
@click.option(
    "--method",
    type=click.Choice(["lrp", "integrated_gradients", "occlusion"]),
    default="lrp",
    show_default=True,
    help="How columns or tokens get their scores.",
)
@click.option(
    "--rows",
    "n_rows",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="How many rows to explain, spread evenly over the table.",
)
@click.option("--background", metavar="FILE", help="Table whose mean a row is compared with; DATA by default.")
@click.option("--evaluate", is_flag=True, help="Test every method on these rows or this text.")
@click.option(
    "--random-state",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the intervals, the other orders, and what --evaluate draws.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the results as JSON to standard output.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write explain.html, results.json and the figures.",
)
def explain(
    model: str,
    data: str | None,
    text: str | None,
    ids: str | None,
    target: str | None,
    method: str,
    n_rows: int,
    background: str | None,
    evaluate: bool,
    random_state: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show which columns of DATA, or which tokens of a text, a model's output comes from, and what its layers read.

    MODEL is a file that `mambattn fit` wrote, with DATA a CSV or Parquet file; or the folder of a language model of
    transformers, with --text or --ids.

    \b
    mambattn explain price.safetensors houses.csv --out why
    mambattn explain ill.safetensors patients.csv --target yes --evaluate
    mambattn explain ./mamba-130m --text "The capital of France is" --out why
    """  # noqa: D301 - click reads the \b
    if sum(one is not None for one in (data, text, ids)) != 1:
        raise click.UsageError("Give one of DATA, --text and --ids, to say what is to be explained.")

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is told before the work

    from rich.console import Console

    from mambattn.cli._explain_scores import scores_table

    progress = Console(stderr=True)
    with progress.status("") as status:

        def say(doing: str) -> None:
            status.update(f"{doing} …")

        if data is not None:
            from mambattn.cli._explain_table import explain_table

            found = explain_table(
                model,
                data,
                target=target,
                method=method,
                n_rows=n_rows,
                background=background,
                evaluate=evaluate,
                seed=random_state,
                say=say,
            )
        else:
            from mambattn.cli._explain_text import explain_text

            _refuse_table_options()
            found = explain_text(
                model, text, ids, target=target, method=method, evaluate=evaluate, seed=random_state, say=say
            )
        if out is not None:
            say("writing the page and the figures")
            found.write(out)

    stream = sys.stderr if as_json else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)
    for name, fact in found.facts.items():
        console.print(f"{name:<34}{fact}", markup=False, soft_wrap=True)
    console.print()
    console.print(found.summary())
    if found.scores:
        console.print()
        console.print(scores_table(found.scores))
    if as_json:
        click.echo(found.to_json())
    if out is not None:
        click.echo(f"\nPage: {out / 'explain.html'}", file=stream)


def _refuse_table_options() -> None:
    """Raise if an option that is for tables was given."""
    context = click.get_current_context()
    for name, option in (("n_rows", "--rows"), ("background", "--background")):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} is for rows of a table. Leave it out.")

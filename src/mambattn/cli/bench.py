"""``mambattn bench``: check the kernels on this machine, then time them."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["bench"]


@click.command(short_help="Check the kernels on this machine, then time them.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Run this case; can be given again.")
@click.option("--op", "ops", multiple=True, metavar="OP", help="Run the cases of this op; can be given again.")
@click.option("--all", "everything", is_flag=True, help="Run the cases that take minutes too.")
@click.option("--list", "only_list", is_flag=True, help="Name the cases of the device, and run none.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the CPU.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Runs of each; medians count.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure here.")
@click.pass_context
def bench(
    context: click.Context,
    cases: tuple[str, ...],
    ops: tuple[str, ...],
    everything: bool,
    only_list: bool,
    device: str,
    threads: int,
    rounds: int,
    json_file: Path | None,
) -> None:
    """Compare every kernel with its definition, then time it beside plain loops, the torch backend and peers.

    A peer is what other libraries offer, where it is installed: mamba.py, transformers, DeepTab, mamba_ssm. A wrong
    result ends the run with exit code 1 and without a time.
    """
    import torch
    from rich.console import Console

    from mambattn.bench.cases import select
    from mambattn.bench.measure import WrongResultError
    from mambattn.bench.suite import run
    from mambattn.bench.tables import notes, ops_tables, training_table
    from mambattn.training.device import resolve_device

    where = resolve_device(device)
    picked = select(cases, ops, where.type, everything=everything or only_list)
    if only_list:
        for case in picked:
            click.echo(f"{case}; {case.why}{'' if case.is_default else ' (with --all)'}")
        return
    out, progress = Console(), Console(stderr=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with progress.status("") as status:
            result = run(
                picked, device=where, rounds=rounds, report=lambda case: status.update(f"{case.name}: {case.op}")
            )
    except WrongResultError as error:
        click.echo(f"wrong result: {error}", err=True)
        context.exit(1)
    finally:
        torch.set_num_threads(before)
    about, limits, *missing = notes(result)
    out.print(about, limits, sep="\n", highlight=False)
    for table in (*ops_tables(result), training_table(result)):
        if table is not None:
            out.print(table)
    for line in missing:
        out.print(line, highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(result.to_dict(), indent=1) + "\n", encoding="utf-8")

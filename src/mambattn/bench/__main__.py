"""``python -m mambattn.bench``: check and time the selective scan on this machine, on one thread."""

import json
import sys
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from mambattn.bench.cases import CASES, contenders
from mambattn.bench.machine import machine
from mambattn.bench.measure import Measurement, WrongResultError, measure


def table_of(rows: list[Measurement]) -> Table:
    """Lay the measurements out, a block for each case."""
    table = Table(title="Selective scan, float32, one thread, ms of CPU time")
    for heading in ("batch, d_inner, seq_len, d_state", "runs"):
        table.add_column(heading)
    for heading in ("forward", "forward\n+ backward", "best", "ratio to\nunbind loop", "error"):
        table.add_column(heading, justify="right")
    previous = None
    for row in rows:
        if previous is not None and row.case != previous:
            table.add_section()
        times = (f"{ms:.1f}" for ms in (row.forward_ms, row.total_ms, row.best_ms))
        label = "" if row.case == previous else f"{', '.join(map(str, row.shape))}\n{row.case}"
        table.add_row(label, row.contender, *times, f"{row.ratio:.2f}", f"{row.error:.0e}")
        previous = row.case
    return table


@click.command()
@click.option("--all", "run_all", is_flag=True, help="Run the long cases too.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1), help="Runs of each; medians count.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def main(run_all: bool, rounds: int, json_file: Path | None) -> None:
    """Check the backends of the selective scan against its definition, then time them against an unbind loop."""
    torch.set_num_threads(1)
    console = Console()
    about = machine()
    console.print(" · ".join(f"{name} {value}" for name, value in about.items()))
    rows: list[Measurement] = []
    for case in CASES:
        if case.is_default or run_all:
            try:
                rows += measure(case, contenders(), rounds)
            except WrongResultError as error:
                console.print(f"wrong result: {error}", style="red")
                sys.exit(1)
    console.print(table_of(rows))
    if json_file is not None:
        result = {"machine": about, "rounds": rounds, "rows": [row.to_dict() for row in rows]}
        json_file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

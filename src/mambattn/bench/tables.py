"""The figures of a run for people to read."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mambattn.bench.cases import SIZES, Case
from mambattn.bench.measure import Measurement
from mambattn.bench.suite import BenchResult
from mambattn.bench.training import TrainingMeasurement

__all__ = ["notes", "ops_tables", "training_table"]

_HEADINGS = ("fwd", "f+b", "graph", "÷loop", "÷torch", "exp", "mem", "MiB", "error")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def ops_tables(result: BenchResult) -> list[Table]:
    """Lay out what was measured of ops, a table a case.

    Milliseconds of the forward and of forward + backward, and of one of them as a CUDA graph; how many times faster
    than the first run and than the torch backend; shares of the measured limits; peak memory; largest error.

    Parameters
    ----------
    result : BenchResult
        The figures.

    Returns
    -------
    list of rich.table.Table
        Without the columns that would be empty.
    """
    return [_table(case, rows) for case in result.cases if (rows := _rows_of(case, result))]


def _rows_of(case: Case, result: BenchResult) -> list[Measurement]:
    return [row for row in result.rows if isinstance(row, Measurement) and row.case == case.name]


def _table(case: Case, rows: list[Measurement]) -> Table:
    cells = [
        (
            *(_number(x) for x in (row.forward_ms, row.total_ms, row.graph_ms)),
            *(_number(row.ratios.get(other)) for other in (rows[0].contender, "torch")),
            *(_percent(share) for share in (row.exponential_share, row.memory_share)),
            _number(row.extra_mib),
            f"{row.error:.0e}",
        )
        for row in rows
    ]
    used = [i for i in range(len(_HEADINGS)) if any(line[i] for line in cells)]
    sizes = ", ".join(f"{name} {size}" for name, size in zip(SIZES[case.op], case.sizes, strict=True))
    title = f"{case.name}: {case.op}, {case.dtype}, ms\n{sizes}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for i in used:
        table.add_column(_HEADINGS[i], justify="right", no_wrap=True)
    for row, line in zip(rows, cells, strict=True):
        table.add_row(row.contender, *(line[i] for i in used))
    return table


def training_table(result: BenchResult) -> Table | None:
    """Lay out the training steps.

    Parameters
    ----------
    result : BenchResult
        The figures.

    Returns
    -------
    rich.table.Table or None
        None if none was measured.
    """
    rows = [row for row in result.rows if isinstance(row, TrainingMeasurement)]
    if not rows:
        return None
    table = Table(title="Training steps of the default MambAttention, batch 128")
    for heading in ("case", "backend"):
        table.add_column(heading)
    for heading in ("ms a step", "steps a second", "ratio to torch"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (row.step_ms, row.steps_per_second, row.ratios.get("torch"))
        table.add_row(row.case, row.contender, *(_number(x) for x in figures))
    return table


def notes(result: BenchResult) -> list[str]:
    """Give the lines above and below the tables: machine, limits, peers left out.

    Parameters
    ----------
    result : BenchResult
        The figures.

    Returns
    -------
    list of str
        One sentence each.
    """
    rate = result.limits.exponentials
    exponentials = "unknown" if rate is None else f"{rate / 1e9:.3g} G/s"
    lines = [
        " · ".join(f"{name} {value}" for name, value in result.machine.items()),
        f"limits: exponentials {exponentials}, memory {result.limits.bytes / 1e9:.3g} GB/s; medians of {result.rounds}",
    ]
    return lines + [f"without {module}: {why}" for module, why in result.missing.items()]

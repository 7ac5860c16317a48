"""The leaderboard as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from mambattn.plots import decimals, format_number, metric_label

if TYPE_CHECKING:
    from mambattn.compare.results import Comparison

__all__ = ["leaderboard_table", "seconds"]


def seconds(value: float) -> str:
    """Write a time in seconds, or in minutes and seconds."""
    if value < 99.95:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    whole = round(value)
    return f"{whole // 60} min {whole % 60:02d} s"


def leaderboard_table(comparison: Comparison, *, stacked: bool = False) -> Table:
    """Draw the leaderboard, best row first; `stacked` gives a row three lines, for narrow terminals."""
    folds, seeds = comparison.settings["folds"], comparison.settings["seeds"]
    digits = decimals(row.mean for row in comparison.rows)
    better = "higher is better" if comparison.greater_is_better else "lower is better"
    repeats = f"{folds} folds" if seeds == 1 else f"{folds} folds × {seeds} seeds"
    any_cut = any(row.n_cut for row in comparison.rows)
    metric = metric_label(comparison.metric)
    title = f"{comparison.data['name']}, {comparison.data['target']}: {metric}, {repeats}, {better}"
    # A file, a target or an interval may hold brackets, which rich would read as markup in a plain string.
    table = Table(
        title=Text(title, style="table.title"),
        caption=(
            "Difference: to the best row, on the same held-out rows; negative is worse. Interval: 95 %, from "
            f"{comparison.settings['n_draws']:,} redraws of the pooled held-out rows, given these fits (it does not "
            "cover what other seeds or training rows would change)."
            + (" *: fits that the time limit cut." if any_cut else "")
        ),
        caption_justify="left",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    columns = ["model", "layers", "mean ± sd", "difference [95 % interval]", "parameters", "fit", "predict"]
    for name in _stack(columns) if stacked else columns:
        is_text = name.startswith(("model", "layers"))
        # A figure that lost its last digits would mislead, so only names give way, and they lose no letter.
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in comparison.rows:
        spread = "" if math.isnan(row.sd) else f" ± {format_number(row.sd, digits)}"
        lead = (row.difference, row.ci_low, row.ci_high)
        difference, low, high = (format_number(value, digits, signed=True) for value in lead)
        is_best = row is comparison.rows[0]
        cells = [
            row.model,
            row.schedule or "",
            f"{format_number(row.mean, digits)}{spread}",
            "best" if is_best else f"{difference} [{low}, {high}]",
            "" if row.n_parameters is None else f"{row.n_parameters:,}",
            seconds(row.fit_seconds) + (f" *{row.n_cut}/{row.n_fits}" if row.n_cut else ""),
            seconds(row.predict_seconds),
        ]
        table.add_row(*map(Text, _stack(cells) if stacked else cells), style="bold" if is_best else None)
    return table


def _stack(cells: Sequence[str]) -> list[str]:
    """Put the layers under the model, what follows a score under it, and the times under the parameters."""
    model, layers, mean, difference, parameters, fit, predict = cells
    return [
        f"{model}\n{layers}",
        mean.replace(" ±", "\n±"),
        difference.replace(" [", "\n["),
        f"{parameters or '–'}\n{fit}\n{predict}",
    ]

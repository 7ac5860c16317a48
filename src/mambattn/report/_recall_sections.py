"""The sections of the page of a recall study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mambattn.plots import arch_label
from mambattn.report._markup import cell, section, table
from mambattn.report._recall_panels import number, swatch

if TYPE_CHECKING:
    from mambattn.recall.links import Link
    from mambattn.recall.results import Results, Row
    from mambattn.recall.summary import CellSummary, LengthSummary, Summary

__all__ = ["links_section", "runs", "table_section"]

_LINKS = {
    "Task": "Name of the task",
    "Claim": "What the chain claims: < is worse than, ≈ is as good as",
    "Verdict": "What the interval says about the claim",
    "Difference": "Mean over seeds of the right one's score minus the left one's",
    "95 % interval": "Of that difference, by Student's t over paired seeds",
    "Seeds": "Seeds that both have",
}
_RUNS = {
    "Task": "Name of the task",
    "Architecture": "Name of the architecture",
    "Seed": "Seed of its weights and its sequences",
    "Rate": "Learning rate that was chosen",
    "Steps": "Training steps",
    "Solved": "Whether its accuracy at the training length is at least 0.99",
}


def table_section(results: Results, summary: Summary) -> str:
    """Return the section of the table, a block a task."""
    place = {arch: i for i, arch in enumerate(results.settings["archs"])}
    columns = {
        "Architecture": "Name; the colour is that of the figures",
        "Solved": "Seeds with an accuracy of at least 0.99 at the training length",
        **{f"{length:,}": f"Accuracy at {length:,} tokens" for length in results.settings["lengths"]},
    }

    def cells(one: CellSummary) -> Iterable[str]:
        yield cell(one.arch, html=f"{swatch(place[one.arch])} {escape(arch_label(one.arch))}", head=True)
        if one.finished:
            yield cell(f"{one.n_solved}/{one.n}", value=one.n_solved)
            yield from map(_length_cell, one.lengths)
        else:
            yield cell("unfinished", html='<span class="cut">unfinished</span>')
            yield from [cell("–")] * len(results.settings["lengths"])

    blocks = "".join(
        f"<h3>{escape(task)}</h3>"
        + table(f"Accuracy on {task}", "", columns, (cells(one) for one in summary if one.task == task))
        for task in results.settings["tasks"]
    )
    return section(
        "results",
        "The numbers",
        "<p>Accuracy by length: the mean over seeds; below it the lowest to the highest seed, and in brackets the 95 % "
        "bootstrap interval of the mean. Solved: seeds with an accuracy of at least 0.99 at the training length. A "
        "click on a heading sorts.</p>",
        f'<div class="results">{blocks}</div>',
    )


def _length_cell(at: LengthSummary) -> str:
    mean, low, high, left, right = map(number, (at.mean, at.min, at.max, at.low, at.high))
    # One seed has no spread.
    spread = "" if math.isnan(at.low) else f"<small>{low}–{high}</small><small>[{left}, {right}]</small>"
    return cell(mean, value=at.mean, html=f"{mean}{spread}")


def links_section(links: Sequence[Link], scored_at: Sequence[int]) -> str:
    """Return the section of the claimed links with their verdicts."""
    lengths = ", ".join(f"{length:,}" for length in scored_at)

    def cells(link: Link) -> Iterable[str]:
        yield cell(link.task, head=True)
        yield cell(f"{arch_label(link.left)} {link.claim} {arch_label(link.right)}")
        reason = link.reason
        for arch in sorted((link.left, link.right), key=len, reverse=True):
            reason = reason.replace(arch, arch_label(arch))
        yield cell("", html=f'<span class="{escape(link.verdict)}">{escape(link.verdict)}</span>: {escape(reason)}')
        yield cell(number(link.difference, signed=True), value=_sortable(link.difference))
        is_known = math.isfinite(link.low)
        yield cell(f"[{number(link.low, signed=True)}, {number(link.high, signed=True)}]" if is_known else "–")
        yield cell(str(link.n), value=link.n)

    return section(
        "links",
        "Does the claimed order hold?",
        f"<p>A seed's score is its mean accuracy at {lengths or 'no length'} tokens. <b>holds</b>: the interval of the "
        "difference bears the claim out; <b>reversed</b>: it contradicts it; <b>tie</b>: it lies within ±0.02; "
        "<b>undecided</b>: none of these, or fewer than five seeds.</p>",
        table("Links of the chain", "Each link is judged for itself, on each task.", _LINKS, map(cells, links)),
    )


def _sortable(value: float) -> float | None:
    return value if math.isfinite(value) else None


def runs(results: Results) -> str:
    """Return every row of the results as a table to unfold."""
    lengths: Sequence[int] = results.settings["lengths"]

    def cells(row: Row) -> Iterable[str]:
        yield cell(row.task, head=True)
        yield cell(arch_label(row.arch))
        yield cell(str(row.seed), value=row.seed)
        yield cell(f"{row.lr:g}" if math.isfinite(row.lr) else "–", value=_sortable(row.lr))
        yield cell(f"{row.steps:,}", value=row.steps)
        yield cell(("yes" if row.solved else "no") if row.finished else "unfinished")
        for length in lengths:
            value = row.accuracy.get(length, math.nan) if row.finished else math.nan
            yield cell(number(value), value=_sortable(value))

    columns = {**_RUNS, **{f"{length:,}": f"Accuracy at {length:,} tokens" for length in lengths}}
    listed = table("Every run", "Every seed, in the order of the study.", columns, map(cells, results.rows))
    return f"<details><summary>Every run as a table ({len(results.rows)})</summary>{listed}</details>"

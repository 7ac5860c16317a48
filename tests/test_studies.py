"""The tables of studies/README.md say what the committed results say, computed here with numpy and scipy alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

STUDIES = Path(__file__).parents[1] / "studies"
ARCHS = {
    "No PE": "nope",
    "Learned PE": "learned",
    "Rotary PE": "rotary",
    "Mamba": "mamba",
    "Hybrid A": "hybrid_a",
    "Hybrid B": "hybrid_b",
    "Hybrid A, log-length scaling": "hybrid_a:log_scaling=test",
}
TASKS = ("induction", "recall", "delay", "recall_delay")
BEYOND = (64, 128, 256, 512, 1024)


def read(study):
    """Rows by task and architecture, in the order of the seeds."""
    rows = {}
    for row in json.loads((STUDIES / study / "results.json").read_text("utf8")):
        rows.setdefault((row["task"], row["arch"]), []).append(row)
    return {cell: sorted(seeds, key=lambda row: row["seed"]) for cell, seeds in rows.items()}


def means(seeds, lengths):
    """Each seed's mean accuracy over the lengths."""
    return np.array([np.mean([row["accuracy"][str(length)] for length in lengths]) for row in seeds])


def write(value, decimals, *, signed=False):
    """Write a number as the page does: no zero before the point, and a true minus."""
    return re.sub(r"\b0\.", ".", f"{value:{'+' if signed else ''}.{decimals}f}").replace("-", "−")


def table(heading):
    """Cells of the table below the line that begins so, by its first column."""
    page = (STUDIES / "README.md").read_text("utf8")
    lines = page[page.index(f"\n{heading}") :].split("\n\n")[1].splitlines()
    return {first: cells for first, *cells in (line.strip("| ").split(" | ") for line in lines[2:])}


def test_the_means_and_the_solved():
    rows = read("study")
    shown = table("Mean accuracy over seeds at 32 / 128 / 1,024")
    assert list(shown) == list(ARCHS)
    for name, cells in shown.items():
        for task, cell in zip(TASKS, cells, strict=True):
            seeds = rows[task, ARCHS[name]]
            at = " / ".join(write(means(seeds, [length]).mean(), 2) for length in (32, 128, 1024))
            assert cell == f"{at}, {sum(row['accuracy']['32'] >= 0.99 for row in seeds)}", (name, task)


def test_the_links():
    rows = read("study")
    shown = table("The claimed chain, each link")
    assert len(shown) == 5
    for link, cells in shown.items():
        left, claim, right = re.split(" ([<≈]) ", link)
        for task, cell in zip(TASKS, cells, strict=True):
            differences = means(rows[task, ARCHS[right]], BEYOND) - means(rows[task, ARCHS[left]], BEYOND)
            mean, half = differences.mean(), student.ppf(0.975, 4) * differences.std(ddof=1) / np.sqrt(5)
            low, high = mean - half, mean + half
            if claim == "≈":
                verdict = "holds" if max(-low, high) <= 0.02 else "reversed" if low > 0 or high < 0 else "undecided"
            else:
                verdict = "holds" if low > 0 else "**reversed**" if high < 0 else "undecided"
            numbers = write(mean, 3, signed=True), write(low, 3, signed=True), write(high, 3, signed=True)
            assert cell == "{} {} ({}, {})".format(verdict, *numbers), (link, task)


@pytest.mark.parametrize(("column", "task"), [(1, "induction"), (4, "delay")])
def test_the_published_setting(column, task):
    rows = read("published")
    shown = table("d_model 8, one head")
    assert list(shown) == list(ARCHS)[:6]
    for name, cells in shown.items():
        seeds = rows[task, ARCHS[name]]
        scores = means(seeds, range(48, 129, 16))
        mean, low, high = (write(value, 3) for value in (scores.mean(), scores.min(), scores.max()))
        assert cells[column] == f"{mean} ({low}–{high})", name
        assert cells[column + 1] == f"{sum(row['accuracy']['32'] >= 0.99 for row in seeds)} of 5", name

"""The page in headless Chromium: no error on the console, every figure visible, sorting works."""

import json
import re

import pytest

from mambattn.report import compare_page

pytestmark = pytest.mark.browser

# Measures the figures and sorts by a click, and leaves what it saw where --dump-dom shows it.
PROBE = """<script>
const sizes = [...document.querySelectorAll("figure svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const drawn = svg.querySelectorAll("path, use, text").length;
  return [box.width, box.height, drawn];
});
const table = document.querySelector("table.sortable");
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const before = names();
table.tHead.querySelectorAll("button")[4].click();
const byParameters = names();
table.tHead.querySelectorAll("button")[4].click();
const turned = names();
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const seen = { ready: document.documentElement.dataset.ready, sizes, before, byParameters, turned, wide };
document.body.insertAdjacentHTML("beforeend", `<template id="seen">${JSON.stringify(seen)}</template>`);
</script>"""


def test_an_error_on_the_console_would_be_seen(open_page):
    _, console = open_page("<!DOCTYPE html><script>undefined.broken</script>")
    assert len(console) == 1
    assert "broken" in console[0]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_page_opens_without_errors_and_shows_every_figure(make_comparison, open_page, task):
    comparison = make_comparison(task)
    document, console = open_page(compare_page(comparison).replace("</body>", f"{PROBE}</body>"))
    assert console == []
    # The first hit is the probe's own text.
    seen = json.loads(re.findall(r'<template id="seen">(.*?)</template>', document)[-1])
    assert seen["ready"] == "yes"
    assert len(seen["sizes"]) == 5
    for width, height, drawn in seen["sizes"]:
        assert width > 300
        assert height > 60
        assert drawn > 20
    assert not seen["wide"]

    assert seen["before"] == [row.model for row in comparison.rows]
    networks = [row.model for row in comparison.rows if row.n_parameters is not None]
    assert seen["byParameters"][: len(networks)] == networks[::-1]
    assert seen["turned"][: len(networks)] == networks

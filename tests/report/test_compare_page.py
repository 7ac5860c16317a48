"""The page of a comparison: complete, self-contained, escaped, the same bytes each time."""

import dataclasses
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from mambattn.plots import format_number
from mambattn.report import compare_page

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Collects what the tests look at, and checks that tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.attributes, self.open = Counter(), [], []
        self.figures, self.headings, self.tables = [], [], []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.attributes.append((tag, attrs))
        if "id" in attrs:
            self.ids[attrs["id"]] += 1
        if tag not in VOID:
            self.open.append(tag)
        if tag == "svg":
            self.figures.append(attrs)
        if tag in ("h1", "h2"):
            self.headings.append("")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append([attrs.get("data-value"), ""])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings[-1] += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1][1] += data


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def comparison(request, make_comparison):
    return make_comparison(request.param)


@pytest.fixture(scope="module")
def html(comparison):
    return compare_page(comparison)


def test_sections_and_verdict(comparison, html):
    page = Page(html)
    last = "Residuals" if comparison.task == "regression" else "Calibration"
    assert page.headings == [
        "Which mixer suits blood.csv?",
        "Leaderboard",
        "How far behind the best",
        "Scores by fold",
        "Learning curves",
        last,
        "The stacks, layer by layer",
        "How to read the intervals",
        "Data, settings, machine",
    ]
    for line in comparison.verdict().splitlines():
        assert line in page.text
    assert comparison.notes[0] in page.text
    assert "conditional on the fits" in page.text


def test_the_leaderboard_holds_every_number(comparison, html):
    head, *rows = Page(html).tables[0]
    assert [text for _, text in head] == [
        "Model",
        "Schedule",
        "Score",
        "Difference",
        "Parameters",
        "Fit (s)",
        "Predict (s)",
        "Cut",
    ]
    digits = 0 if comparison.task == "regression" else 4
    for i, (cells, row) in enumerate(zip(rows, comparison.rows, strict=True)):
        values, texts = [value for value, _ in cells], [text for _, text in cells]
        assert texts[0] == row.model
        assert texts[1] == (row.schedule or "–")
        assert texts[2] == f"{format_number(row.mean, digits)} ± {format_number(row.sd, digits)}"
        ends = [format_number(value, digits, signed=True) for value in (row.difference, row.ci_low, row.ci_high)]
        assert texts[3] == ("best" if i == 0 else "{} [{}, {}]".format(*ends))
        assert texts[4] == ("–" if row.n_parameters is None else f"{row.n_parameters:,}")
        assert texts[7] == f"{row.n_cut} of 3"
        exact = [row.mean, row.difference, row.n_parameters, row.fit_seconds, row.predict_seconds, row.n_cut]
        assert [None if value is None else float(value) for value in values[2:]] == exact


def test_every_fit_is_in_a_table(comparison, html):
    _, *rows = Page(html).tables[-1]
    assert len(rows) == len(comparison.folds) == 24
    for cells, fit in zip(rows, comparison.folds, strict=True):
        assert cells[0][1] == fit.model
        assert (float(cells[1][0]), float(cells[3][0])) == (fit.fold + 1, fit.score)
        assert cells[7][1] == ("cut" if fit.cut_by_time else "–")


def test_every_figure_is_there_with_its_role_and_label(comparison, html):
    page = Page(html)
    assert len(page.figures) == 5
    for attributes in page.figures:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 20
    captions = {attrs["aria-labelledby"] for tag, attrs in page.attributes if tag == "figure"}
    assert captions <= set(page.ids)
    last = "residuals" if comparison.task == "regression" else "calibration"
    assert captions == {f"caption-{name}" for name in ("intervals", "folds", "curves", last, "schedules")}
    # The models' names are drawn as text, in the figures of the rows.
    for row in comparison.rows:
        assert html.count(f">{row.model}</text>") >= 2


def test_ids_are_unique_and_references_lead_somewhere(html):
    page = Page(html)
    assert page.ids.most_common(1)[0][1] == 1
    references = set(re.findall(r"url\(#([^)]+)\)", html)) | set(re.findall(r'href="#([^"]+)"', html))
    assert references
    assert references <= set(page.ids)


def test_nothing_is_fetched(html):
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    page = Page(html)
    sources = [
        attrs[name]
        for _, attrs in page.attributes
        for name in ("src", "href", "xlink:href")
        if attrs.get(name) is not None
    ]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert "@import" not in html


def test_user_strings_are_escaped(make_comparison):
    evil = '<script>alert("x")</script>'
    html = compare_page(make_comparison(name=f"{evil}.csv", target=f"{evil}&'"))
    assert evil not in html
    assert html.count("<script>") == 1
    assert "&lt;script&gt;" in html
    assert f"Which mixer suits {evil}.csv?" in Page(html).text


def test_the_same_comparison_gives_the_same_bytes(make_comparison, html, comparison):
    assert compare_page(make_comparison(comparison.task)) == html


def test_a_comparison_read_from_json_has_a_page_without_predictions(make_comparison):
    comparison = type(make_comparison()).from_dict(make_comparison().to_dict())
    page = Page(compare_page(comparison))
    assert "Calibration" not in page.headings
    assert len(page.figures) == 4


def test_yardsticks_alone_have_neither_curves_nor_schedules(make_comparison):
    import dataclasses

    full = make_comparison(with_predictions=False)
    rows = tuple(row for row in full.rows if row.family == "yardstick")
    folds = tuple(fit for fit in full.folds if fit.model in {row.model for row in rows})
    page = Page(compare_page(dataclasses.replace(full, rows=rows, folds=folds, contrasts={})))
    assert {"Learning curves", "The stacks, layer by layer"}.isdisjoint(page.headings)
    assert len(page.tables) == 2


def test_the_command_repeats_the_comparison(html, comparison):
    page = Page(html)
    kind = "regression" if comparison.task == "regression" else "classification"
    assert (
        f"mambattn compare blood.csv --target ill --task {kind} --metric {comparison.metric} "
        "--models MambAttention,boosting,FTTransformer,Mambular,MLP,linear,dummy --schedule=MMA --categorical ward "
        "--folds 3 --seeds 1 --time-limit 120.0 --random-state 0 --device cpu --max-epochs 50"
    ) in page.text


def test_the_command_repeats_every_setting_that_was_varied(make_comparison):
    comparison = make_comparison()
    own = ["MambAttention MMA", *(f"MambAttention {stack} d_state={n}" for stack in ("MAM", "MAMA") for n in (8, 16))]
    settings = comparison.settings | {"models": ["MLP", *own]}
    page = Page(compare_page(dataclasses.replace(comparison, settings=settings)))
    assert "--models MLP --schedule=MMA --ablate d_state=8,16 --ablate schedule=MAM,MAMA" in page.text

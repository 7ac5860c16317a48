"""The sections of the page that speak of all rows of a table: their numbers, their bars, and when there are none."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest
import torch

from mambattn._errors import ShapeError
from mambattn.explain.joint import JointEffects
from mambattn.explain.order import OrderEffects
from mambattn.explain.results import Attribution, Flow, LayerMap
from mambattn.explain.tables import RowExplanation
from mambattn.report import explain_page

NAMES = ("age", "fare", "deck")
TITLES = {
    "importance": "What counts over all rows",
    "pairs": "Which columns act together",
    "order": "What the order of the columns does",
}


def results(names=NAMES, batch=4, class_token=False, seed=0):
    """Draw what the three analyses of a table give."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    n, tokens = len(names), names + ("[class]",) * class_token
    scores = Attribution("lrp", draw(batch, n), torch.zeros(batch), torch.zeros(batch))
    importance = scores.values.abs().mean(0)
    explained = RowExplanation(
        names=names,
        values=tuple((1.0,) * n for _ in range(batch)),
        predictions=("yes",) * batch,
        targets=("yes",) * batch,
        outputs=draw(batch),
        attribution=scores,
        importance=importance,
        interval=torch.stack([0.8 * importance, 1.3 * importance], dim=1),
        tokens=tokens,
        maps=(LayerMap(0, "Mamba", ("mean",), draw(batch, 1, len(tokens), len(tokens))),),
        flow=Flow("norm", (0,), tuple(range(len(tokens))), draw(1, batch, len(tokens), len(tokens)).softmax(-1)),
    )
    effects = draw(batch, n, n)
    joint = JointEffects(names, effects + effects.mT)
    orders = torch.stack([torch.arange(n), *(torch.randperm(n, generator=generator) for _ in range(5))])
    order = OrderEffects(names, orders, draw(6, batch), draw(6, n).abs())
    return explained, joint, order


def page_of(explained, joint=None, order=None, **more):
    return explain_page(
        "T",
        explained.tokens,
        explained.maps,
        explained.flow,
        [explained.attribution],
        [],
        explained=explained,
        joint=joint,
        order=order,
        **more,
    )


def tables(page, anchor):
    """Read the tables of a section: a row is its cells, numbers where there are, then text; bars are left to others."""
    section = re.search(rf'<h2 id="{anchor}">.*?</section>', page, re.DOTALL).group()
    read = []
    for table in re.findall(r"<table.*?</table>", section, re.DOTALL):
        lines = []
        for line in re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL):
            cells = re.findall(r'<t[hd](?:[^>]*?data-value="([^"]*)")?[^>]*>(.*?)</t[hd]>', line)
            lines.append([float(value) if value else unescape(text) for value, text in cells])
        read.append(lines)
    return read


def bars(page, anchor):
    """Read the bars of a section in percent of their cell: start and width of orange and blue, and the line."""
    section = re.search(rf'<h2 id="{anchor}">.*?</section>', page, re.DOTALL).group()
    for bar in re.findall(r'<svg class="bar".*?</svg>', section):
        parts = re.findall(r'<rect class="(\w+)" x="([\d.]+)%" width="([\d.]+)%"', bar)
        line = re.search(r'<line x1="([\d.]+)%" x2="([\d.]+)%".*?cx="([\d.]+)%"', bar)
        yield (
            {tone: (float(start), float(width)) for tone, start, width in parts},
            line and tuple(map(float, line.groups())),
        )


def test_what_is_not_given_has_no_section():
    explained, joint, order = results()

    def found(*given):
        page = page_of(*given)
        links = dict(re.findall(r'<a href="#([a-z]+)">(.*?)</a>', page))
        assert links == dict(re.findall(r'<h2 id="([a-z]+)">(.*?)</h2>', page))
        return [name for name, title in TITLES.items() if links.get(name) == title]

    assert found(explained, joint, order) == ["importance", "pairs", "order"]
    assert found(explained) == ["importance", "pairs"]
    assert len(tables(page_of(explained), "pairs")) == 1
    plain = explain_page("T", NAMES, explained.maps, None, [], [])
    assert not any(f'id="{name}"' in plain for name in TITLES)
    with_joint = explain_page("T", NAMES, explained.maps, None, [], [], joint=joint)
    assert [name for name in TITLES if f'id="{name}"' in with_joint] == ["pairs"]
    assert found(*results(names=("age",))) == ["importance"]


def test_importance_is_told_with_its_interval_and_signs():
    explained, *_ = results()
    page = page_of(explained, output="the log-odds of class <yes>")
    assert "in the units of the output (the log-odds of class &lt;yes&gt;)" in page
    (lines,) = tables(page, "importance")
    order = explained.importance.argsort(descending=True).tolist()
    assert [line[0] for line in lines] == [NAMES[i] for i in order]
    farthest = explained.interval.max().item()
    for i, line, (parts, span) in zip(order, lines, bars(page, "importance"), strict=True):
        scores, importance = explained.attribution.values[:, i].double(), explained.importance[i].item()
        low, high = explained.interval[i].tolist()
        assert line[1:4] == [importance, importance, low]
        assert line[4] == pytest.approx(scores.mean().item())
        spoke_for = scores[scores > 0].sum().item() / len(scores)
        against = -scores[scores < 0].sum().item() / len(scores)
        assert parts["for"] == pytest.approx((0, 100 * spoke_for / farthest), abs=0.02)
        assert parts["against"] == pytest.approx((100 * spoke_for / farthest, 100 * against / farthest), abs=0.02)
        assert span == pytest.approx([100 * value / farthest for value in (low, high, importance)], abs=0.02)


def test_joint_effects_are_told_with_size_and_sign():
    explained, joint, _ = results()
    page = page_of(explained, joint)
    matrix, pairs, _ = tables(page, "pairs")
    assert [line[0] for line in matrix] == list(NAMES)
    assert [line[1:] for line in matrix] == joint.strength.tolist()
    # The diagonal is of single columns, and has no colour that pairs would be compared with.
    shares = [float(share) for share in re.findall(r"--share:([\d.]+)", page[page.index('id="pairs"') :])[:6]]
    strength = joint.strength
    above = [strength[i, j].item() for i in range(3) for j in range(3) if i != j]
    assert shares == pytest.approx([value / max(above) for value in above], abs=1e-3)
    wanted = sorted(((0, 1), (0, 2), (1, 2)), key=lambda pair: -strength[pair].item())
    assert [line[0] for line in pairs] == [f"{NAMES[i]}\N{NO-BREAK SPACE}× {NAMES[j]}" for i, j in wanted]
    for (i, j), line, (parts, _) in zip(wanted, pairs, bars(page, "pairs"), strict=True):
        effects = joint.values[:, i, j].double()
        assert line[1:] == pytest.approx(
            [effects.mean().item(), effects.mean().item(), effects.abs().mean().item(), (effects > 0).sum().item()]
        )
        far = max(abs(joint.values[:, a, b].double().mean().item()) for a, b in wanted)
        ((tone, (start, width)),) = parts.items()
        assert tone == ("for" if effects.mean() > 0 else "against")
        assert width == pytest.approx(50 * effects.mean().abs().item() / far, abs=0.02)
        assert start == pytest.approx(50 if effects.mean() > 0 else 50 - width, abs=0.02)


@pytest.mark.parametrize(("n", "class_token"), [(3, False), (3, True), (20, True)])
def test_what_columns_have_read_adds_up_of_many_columns_too(n, class_token):
    names = tuple(f"column {i}" for i in range(n))
    explained, *_ = results(names, class_token=class_token)
    page = page_of(explained)
    (lines,) = tables(page, "pairs")
    shown = sorted(explained.importance.argsort(descending=True)[:12].tolist()) + [n] * class_token
    assert [line[0] for line in lines] == [explained.tokens[i] for i in shown]
    for i, line in zip(shown, lines, strict=True):
        assert line[1 : 1 + len(shown)] == explained.interaction[i, shown].tolist()
        assert sum(line[1:]) == pytest.approx(1, abs=1e-5)
    assert ("… 8 others" in page) == (n == 20)


def test_other_orders_are_told_by_column_and_by_row():
    explained, _, order = results()
    page = page_of(explained, order=order, rows=["first", "second", "third", "fourth"])
    by_column, by_row = tables(page, "order")
    ranked = order.importance[0].argsort(descending=True).tolist()
    assert [line[0] for line in by_column] == [NAMES[i] for i in ranked]
    for place, (i, line) in enumerate(zip(ranked, by_column, strict=True), start=1):
        own, least = order.importance[0, i].item(), order.importance[:, i].min().item()
        assert line[1:] == [own, own, least, place]
    section = page[page.index('id="order"') :]
    ranks = [[1 + sum(other > one[i] for other in one) for one in order.importance.tolist()] for i in ranked]
    assert all(f">{one[0]}, {min(one)} to {max(one)}<" in section for one in ranks)
    moved = (order.outputs[1:] - order.outputs[0]).double().square().mean(0).sqrt()
    for row, line in enumerate(by_row):
        own, least = order.outputs[0, row].item(), order.outputs[:, row].min().item()
        assert line[:4] == [["first", "second", "third", "fourth"][row], own, own, least]
        assert line[4] == pytest.approx(moved[row].item())
    left, right = min(0, order.outputs.min().item()), max(0, order.outputs.max().item())
    *_, (_, span) = bars(page, "order")
    wanted = (order.outputs[:, 3].min(), order.outputs[:, 3].max(), order.outputs[0, 3])
    assert span == pytest.approx([100 * (value.item() - left) / (right - left) for value in wanted], abs=0.02)
    assert "model's own is age → fare → deck. In 5 other orders" in section
    share = 100 * moved.square().mean().sqrt().item() / order.outputs[0].double().std(correction=0).item()
    assert f"moves by {share:.3g} % of the spread of outputs over rows" in section


def test_one_row_has_no_spread_of_its_own():
    explained, joint, order = results(batch=1)
    section = page_of(explained, joint, order)
    assert f"the output moves by {order.spread[0].item():.3g}, and" in section
    assert "nan" not in section.split("<main>")[1].split("<script")[0]


def test_rows_that_do_not_differ_have_no_spread_either():
    explained, joint, order = results()
    order = replace(order, outputs=order.outputs[:, :1].expand_as(order.outputs))
    section = page_of(explained, joint, order)
    assert f"the output moves by {order.spread[0].item():.3g}, and" in section
    assert "inf %" not in section


def test_names_of_columns_are_escaped():
    evil = '<img src=x onerror="alert(1)">'
    page = page_of(*results((evil, "b")), output=evil, rows=[evil] * 4)
    assert "<img" not in page


@pytest.mark.parametrize("name", ["explained", "joint", "order"])
def test_results_of_other_rows_are_refused(name):
    explained, *_ = results()
    given = dict(zip(("explained", "joint", "order"), results(batch=5), strict=True))
    with pytest.raises(ShapeError, match=f"`{name}` must be of 4 rows and 3 positions, .* it is of 5 and 3"):
        explain_page("T", NAMES, explained.maps, None, [], [], **{name: given[name]})


# Sorts the table of importance by its last column, and notes its first cells, and what is wider than the page.
SORT = """<script>
(() => {
  const table = document.querySelector(".bars table");
  [...table.tHead.rows[0].cells].at(-1).querySelector("button").click();
  const names = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const { scrollWidth, clientWidth } = document.documentElement;
  const told = JSON.stringify([...names, scrollWidth > clientWidth]);
  document.body.insertAdjacentHTML("beforeend", `<template id="seen">${told}</template>`);
})();
</script>"""


@pytest.mark.browser
def test_the_sections_open_without_complaint_and_their_tables_sort(open_page):
    explained, joint, order = results(tuple(f"a long name of column {i}" for i in range(20)))
    page = page_of(explained, joint, order)
    document, console = open_page(page.replace("</body>", f"{SORT}</body>"))
    assert console == []
    seen = re.findall(r'<template id="seen">(\[".*?\])</template>', document)[-1]
    signed = explained.attribution.values.mean(0).argsort(descending=True).tolist()
    assert json.loads(seen) == [*(explained.names[i] for i in signed), False]

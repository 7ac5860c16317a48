"""The page in headless Chromium: layers, lines, maps, rows and methods can be picked, and the numbers follow."""

import html
import json
import re

import pytest
import torch

from mambattn.explain.results import Attribution, Flow, LayerMap, Reach
from mambattn.report import explain_page

pytestmark = pytest.mark.browser

# Does one thing after the other, waits until the page shows it, and notes what is seen.
PROBE = """<script>
const at = (id) => document.getElementById(id);
const settled = async (wanted) => {
  for (let i = 0; i < 400; i++) {
    const state = JSON.parse(document.documentElement.dataset.shown ?? "{}");
    if (Object.entries(wanted).every(([key, value]) => state[key] === value)) return;
    await new Promise((done) => setTimeout(done, 10));
  }
  throw new Error(`never shown: ${JSON.stringify(wanted)}`);
};
const numbers = (id) => [...at(id).querySelectorAll("td.number")].map((td) => [+td.dataset.source, +td.dataset.value]);
const tones = (id) => [...at(id).children].map((token) => [
  token.className, +token.style.getPropertyValue("--share"), token.title, getComputedStyle(token).backgroundColor,
]);
// The colour of each cell of the chosen line, with its strength; read from a copy that is meant to be read.
const pixels = () => {
  const { left, top, cell, height, columns } = at("map").dataset, y = +top + (+at("map").ariaValueNow + 0.5) * height;
  const copy = new OffscreenCanvas(at("map").width, at("map").height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(at("map"), 0, 0);
  return Array.from({ length: columns }, (_, x) => [...copy.getImageData(+left + (x + 0.5) * cell, y, 1, 1).data]);
};
const look = () => ({
  pixels: pixels(), reach: at("map-scale").dataset.reach, hover: at("map-hover").textContent,
  state: JSON.parse(document.documentElement.dataset.shown),
  map: numbers("map-table"), tokens: tones("map-tokens"), says: at("map-says").textContent,
  flow: tones("flow-tokens"), flowHidden: at("flow-shown").hidden, flowSays: at("flow-says").textContent,
  attribution: numbers("attribution-table"), attributionSays: at("attribution-says").textContent,
  pressed: [...at("pick-layer").children].map((button) => button.ariaPressed),
  slider: at("map").ariaValueText, wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
});
const middle = (line, column) => {
  const { left, top, cell, height } = at("map").dataset, box = at("map").getBoundingClientRect();
  return { clientX: box.left + +left + (column + 0.5) * cell, clientY: box.top + +top + (line + 0.5) * height, bubbles: true };
};
const pick = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("change")); };
const key = (name) => at("map").dispatchEvent(new KeyboardEvent("keydown", { key: name }));
(async () => {
  const seen = {};
  const steps = STEPS;
  await settled({ layer: 0 });
  seen.start = look();
  for (const [name, act, wanted] of steps) {
    act();
    await settled(wanted);
    seen[name] = look();
  }
  document.body.insertAdjacentHTML("beforeend", `<template id="seen">${JSON.stringify(seen)}</template>`);
})();
</script>"""


def watch(open_page, page, steps):
    """Run the steps, each a name, a function and the state to wait for, on a page without a fault."""
    probe = PROBE.replace("STEPS", "[" + ",".join(f"['{name}', {act}, {wanted}]" for name, act, wanted in steps) + "]")
    document, console = open_page(page.replace("</body>", f"{probe}</body>"))
    assert console == []
    found = re.findall(r'<template id="seen">(.*?)</template>', document)
    assert len(found) == 2, "the steps did not come to an end"  # the first hit is the probe's own text
    return json.loads(found[-1])


def check_map(seen, values):
    """Compare the table and the colours of the tokens with one line of a map."""
    half_a_level = values.abs().max().item() * 0.501 / 127
    order = [source for source, _ in seen["map"]]
    wanted = values.abs().argsort(descending=True).tolist()
    assert order == [source for source in wanted if values[source].abs() > half_a_level][:12]
    for source, value in seen["map"]:
        assert abs(value - values[source].item()) <= half_a_level
    for (name, share, *_), value in zip(seen["tokens"], values.tolist(), strict=True):
        if abs(value) > half_a_level:
            assert ("for" if value > 0 else "against") in name.split()
        assert abs(share - abs(value) / values.abs().max().item()) <= 0.5 / 127 + 1e-3


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    maps = (
        LayerMap(0, "Mamba", ("mean",), draw(2, 1, 5, 5).tril()),
        LayerMap(1, "global attention", ("head 0", "head 1"), draw(2, 2, 5, 5).tril()),
    )
    flow = Flow("norm", (0, 1), (1, 4), draw(2, 2, 2, 5).softmax(-1))
    attributions = [
        Attribution("lrp", draw(2, 5), torch.full((2,), 2e-6), torch.tensor([0.1, 0.2])),
        Attribution("occlusion", draw(2, 5), torch.full((2,), torch.nan), torch.full((2,), torch.nan)),
    ]
    return maps, flow, attributions, [Reach(0, "Mamba", ("mean",), torch.ones(2, 1))]


def test_what_is_picked_is_shown_with_the_right_numbers(open_page, given):
    maps, flow, attributions, _ = given
    page = explain_page("Five", ["age", "fare", "<b>sex</b>", "deck", "class"], *given, ["first", "second"])
    steps = [
        ("layer", "() => at('pick-layer').children[1].querySelector('i').click()", "{ layer: 1 }"),
        ("line", "() => at('map').dispatchEvent(new MouseEvent('click', middle(1, 3)))", "{ query: 1 }"),
        ("hover", "() => at('map').dispatchEvent(new MouseEvent('mousemove', middle(4, 0)))", "{ query: 1 }"),
        ("head", "() => pick('pick-map', 1)", "{ map: 1 }"),
        ("row", "() => pick('pick-row', 1)", "{ row: 1 }"),
        ("method", "() => pick('pick-method', 1)", "{ method: 1 }"),
        ("token", "() => at('map-tokens').children[3].click()", "{ query: 3 }"),
        ("key", "() => key('ArrowUp')", "{ query: 2 }"),
        ("end", "() => key('End')", "{ query: 4 }"),
        ("byLine", "() => at('by-line').click()", "{ byLine: true }"),
        ("back", "() => at('pick-layer').children[0].click()", "{ layer: 0, map: 0 }"),
    ]
    seen = watch(open_page, page, steps)

    check_map(seen["start"], maps[0].values[0, 0, 4])
    check_map(seen["layer"], maps[1].values[0, 0, 4])
    check_map(seen["line"], maps[1].values[0, 0, 1])
    check_map(seen["head"], maps[1].values[0, 1, 1])
    check_map(seen["row"], maps[1].values[1, 1, 1])
    check_map(seen["token"], maps[1].values[1, 1, 3])
    check_map(seen["key"], maps[1].values[1, 1, 2])
    check_map(seen["end"], maps[1].values[1, 1, 4])
    check_map(seen["back"], maps[0].values[1, 0, 4])

    assert seen["start"]["pressed"] == ["true", "false"]
    assert seen["layer"]["pressed"] == ["false", "true"]
    assert seen["line"]["says"].startswith("Layer 1, global attention, head 0: position 1, fare, reads most from ")
    assert seen["key"]["slider"] == "2, <b>sex</b>"
    assert seen["hover"]["hover"].startswith("class ← age: ")
    assert float(seen["hover"]["hover"].split(": ")[1].replace("−", "-")) == pytest.approx(
        maps[1].values[0, 0, 4, 0].item(), abs=0.02
    )
    # The cells of the line are blue below 0 and orange above, as strong as the number is beside the largest of the map,
    # or of the line where lines are coloured by themselves.
    for name, values, most in (
        ("start", maps[0].values[0, 0, 4], maps[0].values[0, 0].abs().max()),
        ("end", maps[1].values[1, 1, 4], maps[1].values[1, 1].abs().max()),
        ("byLine", maps[1].values[1, 1, 4], maps[1].values[1, 1, 4].abs().max()),
    ):
        assert float(seen[name]["reach"]) == pytest.approx(most.item(), rel=0.01)
        for (red, _, blue, alpha), value in zip(seen[name]["pixels"], values.tolist(), strict=True):
            assert alpha == pytest.approx(255 * abs(value) / most.item(), abs=3)
            assert alpha < 10 or (red > blue) == (value > 0)
    # Orange and blue, and nothing behind sources that are not read.
    assert len({tone for *_, tone in seen["start"]["tokens"]}) == 5
    assert all(share == 0 for _, share, *_ in seen["line"]["tokens"][2:])
    assert "reads" in seen["line"]["tokens"][1][0].split()

    for name, row, place in (("start", 0, 1), ("line", 0, 0), ("row", 1, 0), ("end", 1, 1)):
        total = flow.total[row, place]
        for (_, share, *_), value in zip(seen[name]["flow"], total.tolist(), strict=True):
            assert abs(share - value / total.max().item()) < 0.01
    assert seen["token"]["flowHidden"]
    assert seen["token"]["flowSays"] == "The flow was not followed to position 3; it was to 1, 4."

    for name, method, row in (("start", 0, 0), ("row", 0, 1), ("method", 1, 1)):
        scores = attributions[method].values[row]
        assert [source for source, _ in seen[name]["attribution"]] == scores.abs().argsort(descending=True).tolist()
        for source, value in seen[name]["attribution"]:
            assert value == pytest.approx(scores[source].item(), rel=1e-4)
    assert seen["row"]["attributionSays"] == "lrp: completeness error 2e−6, absorbed by biases and constants 20 %."
    assert seen["method"]["attributionSays"] == "occlusion: the method promises no sum."


@pytest.mark.parametrize("n", [2, 512])
def test_few_and_many_positions(open_page, n):
    generator = torch.Generator().manual_seed(n)
    values = torch.randn(1, 1, n, n, generator=generator).tril()
    maps = [LayerMap(i, "Mamba", ("mean",), values * (-1) ** i) for i in range(2)]
    flow = Flow("paper", (0, 1), tuple(range(n)), values[None, 0].expand(2, 1, n, n))
    scores = [Attribution("lrp", values[0, 0, -1:], torch.zeros(1), torch.zeros(1))]
    page = explain_page("Many", ["the"] * n, maps, flow, scores, [Reach(0, "Mamba", ("mean",), torch.ones(1, 1))])
    line = n // 2 - 1
    steps = [
        ("layer", "() => at('pick-layer').children[1].click()", "{ layer: 1 }"),
        ("line", f"() => at('map').dispatchEvent(new MouseEvent('click', middle({line}, 0)))", f"{{ query: {line} }}"),
    ]
    seen = watch(open_page, page, steps)
    check_map(seen["start"], values[0, 0, -1])
    check_map(seen["layer"], -values[0, 0, -1])
    check_map(seen["line"], -values[0, 0, line])
    assert not seen["line"]["wide"]
    rest = "" if n == 2 else f"The {n - 24} sources not in the table add up to "
    assert rest in seen["line"]["attributionSays"]


# A frame of 900 points, where map and table stand side by side; notes what sticks out of its box.
FRAME = """<!DOCTYPE html><link rel="icon" href="data:,"><body><iframe width="900" height="900" srcdoc="PAGE"></iframe>
<script>
onload = async () => {
  const inside = document.querySelector("iframe").contentDocument, at = (id) => inside.getElementById(id);
  while (!inside.documentElement.dataset.shown) await new Promise((done) => setTimeout(done, 10));
  const boxes = [at("map-says"), at("map-table").closest(".scroll"), at("map-table").caption];
  const seen = boxes.map((box) => [box.scrollWidth, box.clientWidth]);
  document.body.insertAdjacentHTML("beforeend", `<template id="seen">${JSON.stringify(seen)}</template>`);
};
</script></body>"""


def test_nothing_sticks_out_beside_the_map(open_page, given):
    names = ["age", "fare", "sex", "deck", "a_column_whose_name_goes_on_and_on_and_on_and_on_and_on"]
    page = explain_page("Five", names, *given, ["first", "second"])
    document, console = open_page(FRAME.replace("PAGE", html.escape(page)))
    assert console == []
    seen = json.loads(re.findall(r'<template id="seen">(.*?)</template>', document)[-1])
    assert all(0 < whole <= shown for whole, shown in seen), seen

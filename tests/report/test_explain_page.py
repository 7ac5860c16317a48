"""The page of an explanation: the numbers it holds, its sections, its size, and that nothing can break out of it."""

import base64
import json
import re
import zlib

import numpy as np
import pytest
import torch

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain.results import Attribution, Flow, LayerMap, Reach
from mambattn.report import explain_page


def results(n=3, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    maps = (
        LayerMap(
            0, "Mamba", ("forward mean", "backward mean"), draw(batch, 2, n, n) * torch.logspace(-6, 3, n)[:, None]
        ),
        LayerMap(2, "global attention", ("mean",), draw(batch, 1, n, n).softmax(-1)),
    )
    flow = Flow("norm", (0, 2), tuple(range(n)), draw(2, batch, n, n).softmax(-1))
    nothing = torch.full((batch,), torch.nan)
    attributions = [
        Attribution("lrp", draw(batch, n), torch.full((batch,), 2e-6), torch.full((batch,), 0.12)),
        Attribution("occlusion", draw(batch, n - 1), nothing, nothing),
    ]
    reaches = [Reach(0, "Mamba", ("channel 0", "channel 1"), torch.tensor([[1.0, 3.0], [2.0, 4.0]])[:batch])]
    return maps, flow, attributions, reaches


def content(page):
    return json.loads(re.search(r'id="explain-data">(.*?)</script>', page).group(1))


def unpacked(text, width):
    """Read a matrix as the format is told, with numpy alone."""
    raw = zlib.decompress(base64.b64decode(text))
    height = len(raw) // (width + 4)
    cells = np.frombuffer(raw, "i1", offset=4 * height).reshape(height, width)
    scale = np.frombuffer(raw, "<f4", count=height)[:, None]
    return np.where(cells == -128, np.nan, cells * scale.astype(float))


@pytest.mark.parametrize("n", [2, 512])
def test_every_number_is_there_to_half_a_level_of_its_line(n):
    maps, flow, attributions, reaches = results(n)
    page = explain_page("Title", [f"t{i}" for i in range(n)], maps, flow, attributions, reaches)
    data = content(page)
    for layer, one in zip(data["layers"], maps, strict=True):
        assert (layer["layer"], layer["kind"], tuple(layer["labels"])) == (one.layer, one.kind, one.labels)
        for packed_row, row in zip(layer["maps"], one.values.double().numpy(), strict=True):
            for packed, wanted in zip(packed_row, row, strict=True):
                off = np.abs(unpacked(packed, n) - wanted)
                assert (off <= np.abs(wanted).max(1, keepdims=True) * 0.5001 / 127).all()
    off = np.abs(unpacked(data["flow"]["maps"][1][0], n) - flow.values[1, 0].numpy())
    assert off.max() <= flow.values[1, 0].max() * 0.5001 / 127
    np.testing.assert_allclose(data["attributions"][0]["values"], attributions[0].values, rtol=1e-4)
    assert data["flow"]["layers"] == ["0 Mamba", "2 global attention"]


def test_zeros_are_exact_and_what_is_no_number_is_told_apart():
    values = torch.tensor([[0.0, 0.0, 0.0], [5e-40, 0.0, 0.0], [torch.nan, torch.inf, 2.0]])[None, None]
    page = explain_page("T", list("abc"), [LayerMap(0, "Mamba", ("mean",), values)], None, [], [])
    got = unpacked(content(page)["layers"][0]["maps"][0][0], 3)
    np.testing.assert_array_equal(got[:2], 0)
    assert np.isnan(got[2, :2]).all()
    assert got[2, 2] == pytest.approx(2.0)
    scores = Attribution("lrp", torch.tensor([[torch.nan, 1.0, 0.0]]), torch.zeros(1), torch.zeros(1))
    page = explain_page("T", list("abc"), [LayerMap(0, "Mamba", ("mean",), values)], None, [scores], [])
    assert content(page)["attributions"][0]["values"] == [[None, 1.0, 0.0]]


def test_512_positions_in_sixteen_full_layers_stay_small():
    values = torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    maps = [LayerMap(i, "global attention", ("mean",), values) for i in range(16)]
    flow = Flow("paper", tuple(range(16)), tuple(range(512)), values[None, 0].expand(16, 1, 512, 512))
    assert len(explain_page("T", ["x"] * 512, maps, flow, [], [])) < 12e6
    with pytest.raises(ConfigError, match=r"`maps` and `flow` must fit into 15,000,000 .* Use fewer rows"):
        explain_page("T", ["x"] * 512, maps * 3, flow, [], [])


def test_sections_follow_what_is_given():
    maps, flow, attributions, reaches = results()

    def headings(*given):
        return re.findall(r"<h2 [^>]*>(.*?)</h2>", explain_page("T", list("abc"), maps, *given))

    always, reading = ["What each layer reads"], ["How to read the numbers"]
    assert headings(None, [], []) == always + reading
    assert headings(flow, attributions, reaches, None, {"model": "MA"}) == [
        *always,
        "Where it has come from",
        "What counted for the output",
        "How far each layer reads",
        *reading,
        "Model, input, settings",
    ]


def test_it_says_which_methods_are_class_specific_and_what_the_numbers_are():
    page = explain_page("T", list("abc"), *results())
    told = dict(re.findall(r'<tr><th scope="row">([^<]*)</th><td>[^<]*</td><td>([^<]*)</td><td>[^<]*</td></tr>', page))
    assert told == {
        **dict.fromkeys(("maps", "rollout", "receptive field"), "flow only"),
        "gradient × map": "mostly flow",
        **dict.fromkeys(("lrp", "integrated gradients", "occlusion"), "class-specific"),
    }
    assert "fail the test of weight randomisation" in page
    assert "rounded to 1/127 of the largest absolute one in their line" in page
    promises = content(page)["attributions"]
    assert promises[0]["promises"] == ["completeness error 2e−6, absorbed by biases and constants 12 %"] * 2
    assert promises[1]["promises"] == ["the method promises no sum"] * 2


def test_the_table_of_distances_has_their_means_over_rows():
    page = explain_page("T", list("abc"), *results())
    cells = re.findall(r'data-value="([^"]*)"', page[page.index('id="reach"') :])
    assert [float(value) for value in cells] == [0, 2, 2.5, 1.5, 3.5]


def test_names_and_values_may_differ_by_row():
    maps, *_ = results()
    names = [["a", "b", "c"], ["d", "e", "f"]]
    data = content(explain_page("T", names, maps, None, [], [], values=[[1.23456, "x", None], [True, 2, "<b>"]]))
    assert data["names"] == names
    assert data["values"] == [["1.235", "x", "missing"], ["True", "2", "<b>"]]
    assert content(explain_page("T", names[0], maps, None, [], []))["names"] == names[:1]


def test_what_others_wrote_is_escaped():
    evil = '</script><img src=x onerror="alert(1)">'
    maps = [LayerMap(0, evil, (evil, "b"), torch.ones(2, 2, 2, 2))]
    scores = [Attribution(evil, torch.ones(2, 2), torch.zeros(2), torch.zeros(2))]
    reaches = [Reach(0, evil, (evil,), torch.ones(2, 1))]
    flow = Flow(evil, (0,), (0, 1), torch.ones(1, 2, 2, 2))
    page = explain_page(
        evil, [evil, "b"], maps, flow, scores, reaches, [evil, evil], {evil: evil}, values=[[evil, 1]] * 2
    )
    assert evil not in page
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert content(page)["names"] == [[evil, "b"]]


def test_nothing_is_fetched_and_the_bytes_are_the_same_each_time():
    page = explain_page("T", list("abc"), *results())
    assert page == explain_page("T", list("abc"), *results())
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert re.findall(r'<(?:link|script|img)[^>]+(?:src|href)="(?!data:)', page) == []
    assert "@import" not in page


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"maps": ()}, ConfigError, "`maps` must hold at least one map"),
        ({"names": ["a", "b"]}, ShapeError, "`names` must be of 2 rows and 3 positions, .* it is of 2 and 2"),
        ({"names": []}, ShapeError, "`names` must"),
        ({"names": [["a", "b", "c"]] * 3}, ShapeError, "`names` must be of 2 rows .* it is of 3 and 3"),
        ({"rows": ["one"]}, ShapeError, "`rows` must be of 2 rows .* it is of 1 and 3"),
        ({"flow": results(4)[1]}, ShapeError, "`flow` must .* it is of 2 and 4"),
        ({"attributions": results(5)[2]}, ShapeError, "`attributions` must .* it is of 2 and 5"),
        ({"values": [[1, 2, 3]]}, ShapeError, "`values` must .* it is of 1 and 3"),
    ],
)
def test_results_of_different_inputs_are_refused(change, error, message):
    maps, flow, attributions, reaches = results()
    given = {"names": list("abc"), "maps": maps, "flow": flow, "attributions": attributions, "reaches": reaches}
    with pytest.raises(error, match=message):
        explain_page("T", **(given | change))

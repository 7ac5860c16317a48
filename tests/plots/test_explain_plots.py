"""Figures of explanations: what is drawn equals the result, on one diverging scale, and nothing overlaps the rest."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from mambattn import plots
from mambattn._errors import ConfigError, ShapeError
from mambattn.explain.perturbation import PerturbationCurve
from mambattn.explain.results import Attribution, Flow, LayerMap, Reach
from mambattn.plots._signed import DIVERGING, NEGATIVE, POSITIVE


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def maps_of(n, heads=(1, 4, 2)):
    kinds = ("Mamba", "global attention", "local attention")
    return [
        LayerMap(2 * i, kind, tuple(f"head {h}" for h in range(m)), draw(2, m, n, n, seed=i).tril())
        for i, (kind, m) in enumerate(zip(kinds, heads, strict=True))
    ]


def scores_of(n, error=2e-6, absorbed=0.12):
    return Attribution("lrp", draw(2, n), torch.full((2,), error), torch.full((2,), absorbed))


def reachable(ax):
    return ax.images[0].norm.vmin, ax.images[0].norm.vmax


def panels(figure):
    return [ax for ax in figure.axes if ax.images]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(figure):
    """Draw a figure, so that its layout is done."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def check_no_names_overlap(figure):
    """Compare the boxes of the tick labels that neighbours have, after the layout is done."""
    renderer = drawn(figure)
    for ax in figure.axes:
        for axis, low, high in ((ax.xaxis, "x0", "x1"), (ax.yaxis, "y0", "y1")):
            boxes = [label.get_window_extent(renderer) for label in axis.get_ticklabels() if label.get_text()]
            boxes.sort(key=lambda box, low=low: getattr(box, low))
            for one, next_one in itertools.pairwise(boxes):
                assert getattr(one, high) <= getattr(next_one, low) + 1


@pytest.mark.parametrize("n", [2, 12, 64])
def test_a_layer_grid_draws_every_map_from_minus_to_plus_its_own_largest(n):
    maps = maps_of(n)
    figure = plots.layer_grid(maps, row=1, names=[f"name {i}" for i in range(n)])
    found = panels(figure)
    wanted = [values for one in maps for values in one.values[1]]
    assert len(found) == len(wanted) == 7
    for ax, values in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ax.images[0].get_array(), values.numpy(), rtol=1e-6)
        most = values.abs().max().item()
        assert reachable(ax) == pytest.approx((-most, most))
        assert ax.get_title(loc="right") == f"±{most:.3g}"
        assert ax.get_aspect() == 1
    titles = [ax.get_title(loc="left").split("\n") for ax in found]
    assert [kind for kind, _ in titles] == ["0 Mamba", "2 global attention", "", "", "", "4 local attention", ""]
    assert [label for _, label in titles] == ["head 0", *(f"head {h}" for h in range(4)), "head 0", "head 1"]
    assert found[0].get_ylabel() == "query"
    assert found[-1].get_xlabel() == "source"
    assert labels(found[0].yaxis)[0] == "name 0"
    check_no_names_overlap(figure)


def test_a_shared_scale_is_that_of_the_largest_weight_of_all():
    maps = maps_of(5)
    most = max(one.values[0].abs().max().item() for one in maps)
    figure = plots.layer_grid(maps, shared=True)
    assert all(reachable(ax) == pytest.approx((-most, most)) for ax in panels(figure))
    assert all(ax.get_title(loc="right") == "" for ax in panels(figure))


def test_layers_of_one_map_fill_lines_and_the_scale_lies_below():
    figure = plots.layer_grid(maps_of(4, heads=(1, 1, 1)))
    drawn(figure)
    tops = {round(ax.get_position().y0, 3) for ax in panels(figure)}
    assert len(tops) == 1
    assert figure.axes[-1].get_position().y1 < tops.pop()


def test_rollout_layers_draws_one_line_a_layer():
    flow = Flow("norm", (0, 2, 3), (1, 4), draw(3, 2, 2, 5).softmax(-1))
    figure = plots.rollout_layers(flow, row=1, position=1, names=list("abcde"))
    ax = panels(figure)[0]
    np.testing.assert_allclose(ax.images[0].get_array(), flow.values[:, 1, 0].numpy(), rtol=1e-6)
    assert labels(ax.yaxis) == ["layer 0", "layer 2", "layer 3"]
    assert labels(ax.xaxis) == list("abcde")
    assert ax.get_title(loc="left") == "What b has gathered, up to and with each layer"
    assert figure.axes[1].get_ylim()[0] == 0
    signed = Flow("paper", (0,), (0, 1, 2), draw(1, 1, 3, 3))
    ax = panels(plots.rollout_layers(signed))[0]
    np.testing.assert_allclose(ax.images[0].get_array()[0], signed.values[0, 0, 2].numpy(), rtol=1e-6)
    low, high = reachable(ax)
    assert low == -high


def test_reach_has_a_dot_a_map_and_a_bar_for_the_mean_in_the_colour_of_the_kind():
    reaches = [
        Reach(0, "Mamba", tuple(f"channel {i}" for i in range(12)), draw(3, 12).abs()),
        Reach(1, "global attention", ("head 0", "head 1"), draw(3, 2, seed=1).abs()),
        Reach(2, "Mamba-2 beside attention", ("head 0",), draw(3, 1, seed=2).abs()),
    ]
    (ax,) = plots.receptive_field(reaches).axes
    colors = [plots.LETTER_COLORS["M"], plots.LETTER_COLORS["A"], plots.FAMILY_COLORS["both"]]
    for i, (reach, color) in enumerate(zip(reaches, colors, strict=True)):
        dots, bar = ax.lines[2 * i : 2 * i + 2]
        wanted = reach.distance.mean(0)
        np.testing.assert_allclose(dots.get_xdata(), wanted.sort().values.numpy(), rtol=1e-5)
        assert np.abs(np.array(dots.get_ydata()) - i).max() < 0.2
        assert bar.get_xdata()[0] == pytest.approx(wanted.mean().item())
        assert to_hex(dots.get_color()) == to_hex(bar.get_color()) == color
    assert labels(ax.yaxis) == ["0 Mamba", "1 global attention", "2 Mamba-2 beside attention"]


@pytest.mark.parametrize("n", [2, 12, 64])
def test_a_row_has_its_strongest_sources_on_top_and_the_sum_of_the_others(n):
    attribution, names = scores_of(n), [f"name {i}" for i in range(n)]
    values = [0.5, None, "a text that is long", True, -1.0] * 13
    figure = plots.attribution_row(attribution, 1, names, values[:n])
    (ax,) = figure.axes
    scores = attribution.values[1]
    order = scores.abs().argsort(descending=True).tolist()
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths[: min(n, 20)], scores[order[:20]].numpy(), rtol=1e-6)
    for bar, width in zip(ax.patches, widths, strict=True):
        assert to_hex(bar.get_facecolor()) == (POSITIVE if width > 0 else NEGATIVE)
    shown = {0: "0.5", 1: "missing", 2: "a text that i…", 3: "True", 4: "−1"}
    assert labels(ax.yaxis)[0] == f"name {order[0]} = {shown[order[0] % 5]}"
    if n == 64:
        assert labels(ax.yaxis)[-1] == "44 others, sum"
        assert sum(widths) == pytest.approx(scores.sum().item(), rel=1e-5)
    assert ax.get_xlabel() == "completeness error 2e−6, absorbed by biases and constants 12 %"
    check_no_names_overlap(figure)


def test_a_method_that_promises_no_sum_says_so():
    nothing = scores_of(3, math.nan, math.nan)
    assert plots.promise(nothing, 0) == "the method promises no sum"
    assert plots.promise(scores_of(3, 0.25, math.nan), 0) == "completeness error 0.25"


@pytest.mark.parametrize("n", [2, 64, 512])
def test_tokens_are_coloured_by_sign_and_do_not_touch(n):
    attribution, tokens = scores_of(n), [("the", " cat", "\n", "$x$", "_")[i % 5] for i in range(n)]
    figure = plots.token_text(attribution, tokens, row=1)
    (ax,) = figure.axes
    scores = attribution.values[1]
    boxes = [box.get_bbox() for box in ax.patches]
    for box, score in zip(ax.patches, scores.tolist(), strict=True):
        red, _, blue = to_rgb(box.get_facecolor())
        assert (red > blue) == (score > 0) or abs(score) < 0.02 * scores.abs().max()  # less than a step of colour
    strongest = int(scores.abs().argmax())
    want = DIVERGING(0.5 + 0.31 * math.copysign(1, scores[strongest]))
    assert ax.patches[strongest].get_facecolor() == pytest.approx(want)
    for one, next_one in itertools.pairwise(boxes):
        assert next_one.x0 > one.x1 or next_one.y0 > one.y1 - 1e-9
    assert max(box.x1 for box in boxes) <= ax.get_xlim()[1]
    assert [text.get_text() for text in ax.texts[:2]] == ["the", " cat"]
    # The words fit into their boxes, also the one that mathematics would claim.
    drawn(figure)
    for text, box in zip(ax.texts, ax.patches, strict=True):
        assert text.get_window_extent().width <= box.get_window_extent().width + 2


def test_importance_is_sorted_and_has_its_intervals():
    (ax,) = plots.importance(torch.tensor([0.2, 0.7]), [0.1, 0.6], np.array([0.3, 0.9]), ["age", "fare"]).axes
    assert labels(ax.yaxis) == ["fare", "age"]
    bars, dots = ax.lines[::2], ax.lines[1::2]
    np.testing.assert_allclose([bar.get_xdata() for bar in bars], [(0.6, 0.9), (0.1, 0.3)])
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], [0.7, 0.2], rtol=1e-6)
    many = np.arange(40.0)
    (ax,) = plots.importance(many, many, many, [str(i) for i in range(40)]).axes
    assert labels(ax.yaxis) == [str(i) for i in range(39, 9, -1)]
    assert "the 30 largest of 40" in ax.get_xlabel()


def test_interaction_has_its_numbers_where_they_fit():
    matrix = draw(12, 12)
    (ax,) = plots.interaction(matrix, [str(i) for i in range(12)]).axes
    assert reachable(ax) == pytest.approx((-matrix.abs().max().item(), matrix.abs().max().item()))
    assert [text.get_text() for text in ax.texts[:2]] == [f"{v:.2g}".replace("-", "−") for v in matrix[0, :2].tolist()]
    figure = plots.interaction(draw(64, 64), [f"name {i}" for i in range(64)])
    assert len(figure.axes[0].texts) == 0
    check_no_names_overlap(figure)


def test_of_pairs_only_the_pairs_are_coloured_and_no_axis_reads():
    (ax,) = plots.interaction([[9.0, 0.2, 0.1], [0.2, 8.0, 0.4], [0.1, 0.4, 7.0]], list("abc"), pairs=True).axes
    assert reachable(ax) == pytest.approx((-0.4, 0.4))
    np.testing.assert_allclose(ax.images[0].get_array(), [[0, 0.2, 0.1], [0.2, 0, 0.4], [0.1, 0.4, 0]])
    assert [text.get_text() for text in ax.texts[:3]] == ["9", "0.2", "0.1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("", "")


def test_perturbation_draws_curves_their_areas_and_the_band_of_all_random_orders():
    fractions = (0.0, 0.5, 1.0)

    def curve(order, middle, random):
        return PerturbationCurve(order, "accuracy", fractions, (1.0, middle, 0.0), torch.tensor(random))

    positive = curve("positive", 0.2, [[1.0, 0.5, 0.0], [1.0, 0.6, 0.1]])
    negative = curve("negative", 0.8, [[0.9, 0.4, 0.0]])
    figure = plots.perturbation({"lrp": [positive, negative], "rollout": [positive]})
    (ax,) = figure.axes
    solid, dashed, other = ax.lines
    assert (list(solid.get_ydata()), list(dashed.get_ydata())) == ([1.0, 0.2, 0.0], [1.0, 0.8, 0.0])
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert solid.get_color() == dashed.get_color() != other.get_color()
    (band,) = ax.collections
    low, high = band.get_datalim(ax.transData).intervaly
    assert (low, high) == pytest.approx((0.0, 1.0))
    edge = band.get_paths()[0].vertices
    assert sorted(edge[np.isclose(edge[:, 0], 0.5), 1]) == pytest.approx([0.4, 0.6])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[1:] == ["lrp: area 0.35 positive, 0.65 negative", "rollout: area 0.35 positive"]
    assert ax.get_ylabel() == "accuracy"


def test_dollars_in_names_are_dollars():
    """Between two of them matplotlib would read a formula, and fail at one that is none."""
    names = ["a$b$c", r"$\nothing$", "US$"]
    flow, scores = Flow("norm", (0,), (1,), torch.rand(1, 2, 1, 3)), scores_of(3)
    for figure in (
        plots.layer_grid(maps_of(3), names=names),
        plots.rollout_layers(flow, names=names),
        plots.attribution_row(scores, 0, names, ["$x$", "$^$", None]),
        plots.token_text(scores, names),
        plots.importance([1, 2, 3], [1, 2, 3], [1, 2, 3], names),
        plots.interaction(np.eye(3), names),
    ):
        FigureCanvasAgg(figure).draw()
        texts = [one for one in figure.findobj(Text) if "$" in one.get_text()]
        assert texts
        assert not any(one.get_parse_math() for one in texts)


def test_each_method_of_the_command_has_a_colour_of_its_own():
    curve = PerturbationCurve("positive", "score", (0.0, 1.0), (1.0, 0.0), torch.ones(1, 2))
    (ax,) = plots.perturbation({f"method {i}": [curve] for i in range(8)}).axes
    assert len({line.get_color() for line in ax.lines}) == 8


def test_every_function_draws_into_the_axes_it_is_given():
    figure = Figure(figsize=(12, 9), layout="constrained")
    scores, curve = scores_of(3), PerturbationCurve("positive", "score", (0.0, 1.0), (1.0, 0.0), torch.ones(1, 2))
    spots = [figure.add_subplot(3, 3, i + 1) for i in range(8)]
    assert plots.layer_grid(maps_of(3), ax=spots[0]) is figure
    assert spots[0] not in figure.axes
    assert plots.rollout_layers(Flow("norm", (0,), (0,), torch.ones(1, 1, 1, 3)), ax=spots[1]) is figure
    assert plots.receptive_field([Reach(0, "Mamba", ("mean",), torch.ones(1, 1))], ax=spots[2]) is figure
    assert plots.attribution_row(scores, 0, list("abc"), ax=spots[3]) is figure
    assert plots.token_text(scores, list("abc"), ax=spots[4]) is figure
    assert plots.importance([1.0], [0.5], [2.0], ["a"], ax=spots[5]) is figure
    assert plots.interaction([[1.0]], ["a"], ax=spots[6]) is figure
    assert plots.perturbation({"lrp": [curve]}, ax=spots[7]) is figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(figure)


def test_the_scale_is_white_in_the_middle_and_told_apart_without_red_and_green():
    assert to_hex(DIVERGING(0.5)) == "#ffffff"
    assert (to_hex(DIVERGING(0.0)), to_hex(DIVERGING(1.0))) == (NEGATIVE, POSITIVE)
    # Who sees no red or no green still sees blue against yellow: the difference of blue and the mean of the others.
    cold, warm = (np.array(to_rgb(color)) for color in (NEGATIVE, POSITIVE))
    assert (cold[2] - cold[:2].mean()) - (warm[2] - warm[:2].mean()) > 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plots.layer_grid([]), ConfigError, "`maps` must hold"),
        (lambda: plots.layer_grid(maps_of(3), row=2), ConfigError, "`row` must be from 0 to 1, however row=2"),
        (
            lambda: plots.layer_grid(maps_of(3), names=["a"]),
            ShapeError,
            "`names` must have 3 entries, however it has 1",
        ),
        (
            lambda: plots.layer_grid(maps_of(3), ax=Figure().add_axes((0, 0, 1, 1))),
            ConfigError,
            "`ax` must be a subplot",
        ),
        (
            lambda: plots.rollout_layers(Flow("norm", (0,), (4, 7), torch.ones(1, 1, 2, 9)), position=5),
            ConfigError,
            r"`position` must .* position=5. They are 4, 7. Use rollout\(…, positions=\[5\]\)",
        ),
        (lambda: plots.attribution_row(scores_of(3), 5, list("abc")), ConfigError, "`row` must"),
        (lambda: plots.attribution_row(scores_of(3), 0, list("abc"), [1]), ShapeError, "`values` must have 3"),
        (lambda: plots.token_text(scores_of(3), ["a"]), ShapeError, "`names` must have 3"),
        (lambda: plots.importance([1.0, 2.0], [1.0], [2.0, 3.0], ["a", "b"]), ShapeError, "`low` must have 2"),
        (lambda: plots.interaction([[1.0]], ["a", "b"]), ShapeError, "`names` must have 1"),
        (lambda: plots.perturbation({}), ConfigError, "`curves` must hold at least one curve"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()

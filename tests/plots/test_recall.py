"""Figures of the recall study: lines and bands carry the numbers of the results, in the right look."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mambattn._errors import ConfigError
from mambattn.plots import arch_label, delay_sweep, delay_sweeps, length_curves, line_styles, sweep_accuracies

SIX = ("nope", "learned", "rotary", "mamba", "hybrid_a", "hybrid_b")


def band_of(ax, gid):
    """The lowest and the highest y of a band at each x."""
    (band,) = [one for one in ax.collections if one.get_gid() == gid]
    corners = band.get_paths()[0].vertices
    xs = sorted(set(corners[:, 0]))
    return xs, [(corners[corners[:, 0] == x, 1].min(), corners[corners[:, 0] == x, 1].max()) for x in xs]


def line_of(ax, gid):
    (line,) = [one for one in ax.lines if one.get_gid() == gid]
    return line


def unfinished_in(ax):
    return [text.get_text() for text in ax.texts if text.get_text() != "chance"]


def rows_of(results, task, arch):
    return [row for row in results.rows if (row.task, row.arch) == (task, arch)]


def test_length_curves_draw_mean_and_range_of_the_seeds(make_study):
    results = make_study()
    figure = length_curves(results)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["recall", "recall_delay"]
    for panel, (ax, task) in enumerate(zip(figure.axes, results.settings["tasks"], strict=True)):
        for i, arch in enumerate(results.settings["archs"]):
            by_seed = np.array([list(row.accuracy.values()) for row in rows_of(results, task, arch)])
            line = line_of(ax, f"panel{panel}-arch{i}-line")
            np.testing.assert_array_equal(line.get_xdata(), [32, 64, 128])
            np.testing.assert_allclose(line.get_ydata(), by_seed.mean(0))
            assert to_hex(line.get_color()) == line_styles(results.settings["archs"])[arch].color
            if arch == "hybrid_a":  # all seeds are equal
                assert not [one for one in ax.collections if one.get_gid() == f"panel{panel}-arch{i}-band"]
                continue
            xs, ends = band_of(ax, f"panel{panel}-arch{i}-band")
            assert xs == [32, 64, 128]
            np.testing.assert_allclose(ends, np.stack([by_seed.min(0), by_seed.max(0)], axis=1))


def test_training_length_and_chance_are_marked(make_study):
    (ax,) = length_curves(make_study(("recall",))).axes
    marks = [line for line in ax.lines if line.get_gid() is None]
    assert [list(line.get_xdata()) for line in marks[:1]] == [[32, 32]]
    assert list(marks[1].get_ydata()) == [1 / 16] * 2  # 32 tokens, of which 16 are markers
    assert "chance" in [text.get_text() for text in ax.texts]
    assert ax.get_xscale() == "log"
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["32\ntrained", "64", "128"]


def test_rows_of_a_file_may_have_tasks_and_a_training_length_of_their_own(make_study):
    (ax,) = length_curves(make_study(("my own",), train_length=None)).axes
    assert all(line.get_gid() for line in ax.lines)
    assert not ax.texts


def test_ticks_keep_apart(make_study):
    (ax,) = length_curves(make_study(("recall",), ("nope",), tuple(range(32, 1024, 32)))).axes
    ticks = np.log2(ax.get_xticks())
    assert np.diff(ticks).min() > (ticks[-1] - ticks[0]) / 9.1
    assert 5 in ticks


def test_unfinished_cells_are_named_and_not_drawn(make_study):
    results = make_study(("recall",), unfinished={("recall", "mamba")})
    (ax,) = length_curves(results).axes
    assert unfinished_in(ax) == ["unfinished: Mamba"]
    assert len(line_of(ax, "panel0-arch1-line").get_xdata()) == 0
    assert not [one for one in ax.collections if one.get_gid() == "panel0-arch1-band"]


def test_the_legend_stands_outside_and_says_what_the_band_is(make_study):
    for results, band in ((make_study(), ["band: lowest to highest seed"]), (make_study(n_seeds=1), [])):
        figure = length_curves(results)
        figure.draw_without_rendering()
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [*map(arch_label, results.settings["archs"]), *band]
        box = legend.get_window_extent()
        assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)


def test_delay_sweep_averages_the_lengths_beyond_training(make_study):
    results = make_study(("induction", "recall_delay", "recall:tau=3", "recall"))
    assert delay_sweeps(results) == [{1: "recall", 3: "recall:tau=3", 5: "recall_delay"}]
    (ax,) = delay_sweep(results).axes
    for i, arch in enumerate(results.settings["archs"]):
        by_tau = [
            [(row.accuracy[64] + row.accuracy[128]) / 2 for row in rows_of(results, task, arch)]
            for task in ("recall", "recall:tau=3", "recall_delay")
        ]
        line = line_of(ax, f"panel0-arch{i}-line")
        np.testing.assert_array_equal(line.get_xdata(), [1, 3, 5])
        np.testing.assert_allclose(line.get_ydata(), np.mean(by_tau, axis=1))
        np.testing.assert_allclose(sweep_accuracies(results, delay_sweeps(results)[0])[arch], by_tau)
    assert ax.get_ylabel() == "mean accuracy, lengths 64–128"
    _, ends = band_of(ax, "panel0-arch0-band")
    nope = [[(row.accuracy[64] + row.accuracy[128]) / 2 for row in rows_of(results, "recall", "nope")]]
    np.testing.assert_allclose(ends[0], (np.min(nope), np.max(nope)))


def test_delay_sweep_has_a_panel_a_family_and_leaves_out_unfinished_cells(make_study):
    results = make_study(("induction", "delay", "recall", "recall_delay"), unfinished={("delay", "mamba")})
    figure = delay_sweep(results)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["induction · delay", "recall · recall_delay"]
    np.testing.assert_array_equal(line_of(figure.axes[0], "panel0-arch1-line").get_xdata(), [1])
    assert [unfinished_in(ax) for ax in figure.axes] == [["unfinished: Mamba at τ 5"], []]
    (one,) = delay_sweep(results, "recall_delay").axes
    assert one.get_title(loc="left") == "recall · recall_delay"


def test_long_names_take_more_lines_and_stay_inside(make_study):
    """In a panel as narrow as one of the page, what is unfinished stands above the name, and nothing is cut off."""
    tasks = ("recall:markers=8:queries=2:vocab=64", "recall:markers=8:queries=2:tau=3:vocab=64")
    results = make_study(tasks, unfinished={(tasks[0], "mamba"), (tasks[1], "hybrid_a:log_scaling=test")})
    for draw in (length_curves, delay_sweep):
        figure = Figure(figsize=(4.5, 3), layout="constrained")
        draw(results, tasks[0], figure.add_subplot())
        figure.draw_without_rendering()
        (ax,) = figure.axes
        (unfinished,) = [text for text in ax.texts if text.get_text() != "chance"]
        assert unfinished.get_text().startswith("unfinished: Mamba")
        name, said = ax._left_title.get_window_extent(), unfinished.get_window_extent()
        assert name.x1 <= figure.bbox.x1
        assert said.x0 >= 0
        assert name.y1 <= said.y0
        assert said.y1 <= figure.bbox.y1


def test_given_axes_are_drawn_into_without_a_legend(make_study):
    for draw in (length_curves, delay_sweep):
        ax = Figure().add_subplot()
        figure = draw(make_study(), "recall", ax=ax)
        assert figure is ax.figure
        assert not figure.legends
        assert len(ax.get_legend_handles_labels()[1]) == 4


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda make: length_curves(make(), "recal"), "`task` must be one of 'recall', 'recall_delay', however task='recal'. Did you mean 'recall'"),
        (lambda make: length_curves(make(), 3), "`task` must be one of 'recall', 'recall_delay', however task=3"),
        (lambda make: length_curves(make(), ax=Figure().add_subplot()), "`task` must be named where `ax` is given .* Use task='recall'"),
        (lambda make: delay_sweep(make(("recall", "delay"))), "`tasks` must hold two that differ in tau only, however tasks=recall,delay. Use such as"),
        (lambda make: delay_sweep(make(lengths=(32,))), "`lengths` must reach beyond train_length=32, however lengths=32. Use longer"),
        (lambda make: delay_sweep(make(), "delay"), "`task` must be one of 'recall', 'recall_delay', however task='delay'"),
        (lambda make: delay_sweep(make(("induction", "delay", "recall", "recall_delay")), ax=Figure().add_subplot()), "`task` must be named"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_the_mend(make_study, draw, message):
    with pytest.raises(ConfigError, match=message):
        draw(make_study)


def test_lines_differ_in_colour_and_marker_and_in_grey_too():
    looks = line_styles([*SIX, "hybrid_a:log_scaling=test"])
    assert len({look.marker for look in looks.values()}) == 7
    assert len({look.color for look in looks.values()}) == 7
    # Seen by people without the red or the green cones (Machado, Oliveira and Fernandes 2009, severity 1).
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    for seen in (np.eye(3), protan, deutan):
        labs = [lab(look.color, np.array(seen)) for look in looks.values()]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(labs, 2)) > 15


def lab(color, seen):
    """A colour in CIE Lab, as somebody sees it."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.clip(seen @ np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(np.array(to_xyz) @ linear / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

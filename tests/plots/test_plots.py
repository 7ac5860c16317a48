"""Figures: what is drawn equals the result, and nothing global is touched."""

import dataclasses
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mambattn._errors import ConfigError
from mambattn.plots import (
    FAMILY_COLORS,
    LETTER_COLORS,
    calibration,
    decimals,
    format_number,
    leaderboard_intervals,
    learning_curves,
    metric_label,
    residuals,
    schedule_strip,
    scores_by_fold,
)
from mambattn.schedule import LETTERS


def markers(ax, *, line="None"):
    """The lines of an axes that are dots alone."""
    return [drawn for drawn in ax.lines if drawn.get_marker() == "o" and drawn.get_linestyle() == line]


def test_scores_by_fold_draws_every_score_of_the_rows_on_scale(make_comparison):
    comparison = make_comparison()
    (ax,) = scores_by_fold(comparison).axes
    dots = markers(ax)
    near = [row for row in comparison.rows if row.model != "dummy"]
    assert len(dots) == len(near)
    for place, (row, drawn) in enumerate(zip(near, dots, strict=True)):
        wanted = [fit.score for fit in comparison.folds if fit.model == row.model]
        np.testing.assert_allclose(drawn.get_xdata(), wanted)
        assert set(drawn.get_ydata()) == {place}
        assert to_hex(drawn.get_color()) == FAMILY_COLORS[row.family]
    bars = [line for line in ax.lines if line.get_linewidth() == 2.6]
    np.testing.assert_allclose([bar.get_xdata()[0] for bar in bars], [row.mean for row in near])
    assert [label.get_text() for label in ax.get_yticklabels()] == [row.model for row in comparison.rows]
    assert ax.get_xlabel() == "ROC AUC, higher is better; a dot is a fold, a bar the mean"


def test_scores_by_fold_joins_the_models_of_each_fold(make_comparison):
    comparison = make_comparison()
    (ax,) = scores_by_fold(comparison).axes
    joins = [line for line in ax.lines if line.get_linewidth() == 0.9]
    assert len(joins) == 3
    wanted = [fit.score for fit in comparison.folds if fit.fold == 0 and fit.model != "dummy"]
    np.testing.assert_allclose(joins[0].get_xdata(), wanted)


def test_a_row_far_behind_is_written_at_the_edge_and_does_not_set_the_scale(make_comparison):
    for task, arrow, text in (
        ("binary", "◂ ", "◂ 0.5156, off the scale"),
        ("regression", " ▸", "117,731, off the scale ▸"),
    ):
        (ax,) = scores_by_fold(make_comparison(task)).axes
        (note,) = [drawn.get_text() for drawn in ax.texts]
        assert arrow in note
        assert note == text
    low, _ = scores_by_fold(make_comparison()).axes[0].get_xlim()
    assert low > 0.9


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_intervals_draw_the_difference_and_its_ends(make_comparison, task):
    comparison = make_comparison(task)
    (ax,) = leaderboard_intervals(comparison).axes
    near = [row for row in comparison.rows if row.model != "dummy"]
    bars = [line for line in ax.lines if line.get_linewidth() == 2.4]
    np.testing.assert_allclose([bar.get_xdata() for bar in bars], [(row.ci_low, row.ci_high) for row in near])
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in markers(ax)], [row.difference for row in near])
    texts = [text.get_text() for text in ax.texts]
    assert texts[0] == "best row"
    wanted = {"binary": "−0.0031  [−0.0067, +0.0005]", "regression": "−1,503  [−2,704, −302]"}
    assert wanted[task] in texts


def test_learning_curves_have_a_panel_a_network_and_a_line_a_fold(make_comparison):
    comparison = make_comparison()
    axes = learning_curves(comparison).axes
    networks = [row.model for row in comparison.rows if row.family != "yardstick"]
    assert [ax.get_title(loc="left") for ax in axes] == networks
    for ax in axes:
        fits = [fit for fit in comparison.folds if fit.model == ax.get_title(loc="left")]
        solid = [line for line in ax.lines if line.get_linestyle() == "-" and line.get_linewidth() == 1.5]
        for fit, line in zip(fits, solid, strict=True):
            assert list(line.get_xdata()) == list(range(1, fit.n_epochs + 1))
            assert list(line.get_ydata()) == fit.history["val_loss"]
        for fit, dot in zip(fits, markers(ax), strict=True):
            assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (fit.best_epoch, min(fit.history["val_loss"]))


def test_a_fit_that_diverged_still_has_a_page_full_of_figures(make_comparison):
    for task, draw in (("binary", calibration), ("regression", residuals)):
        comparison = make_comparison(task)
        broken = comparison.predictions["models"] | {
            "Mambular": np.full_like(comparison.predictions["models"]["Mambular"], np.nan)
        }
        folds = tuple(
            dataclasses.replace(fit, score=np.nan, history=fit.history | {"val_loss": [None] * fit.n_epochs})
            if fit.model == "Mambular"
            else fit
            for fit in comparison.folds
        )
        rows = tuple(
            dataclasses.replace(row, mean=np.nan, sd=np.nan, difference=np.nan, ci_low=np.nan, ci_high=np.nan)
            if row.model == "Mambular"
            else row
            for row in comparison.rows
        )
        comparison = dataclasses.replace(
            comparison, rows=rows, folds=folds, predictions=comparison.predictions | {"models": broken}
        )
        for figure in (scores_by_fold(comparison), leaderboard_intervals(comparison), learning_curves(comparison)):
            figure.canvas.draw()
        shown = {line.get_label() for ax in draw(comparison).axes for line in ax.lines}
        titles = {ax.get_title(loc="left") for ax in draw(comparison).axes}
        assert "MambAttention" in shown | titles
        assert "Mambular" not in shown | titles


def test_calibration_takes_the_best_of_each_family_in_equal_groups(make_comparison):
    comparison = make_comparison()
    (ax,) = calibration(comparison).axes
    drawn = {line.get_label(): line for line in ax.lines}
    assert list(drawn) == ["perfectly calibrated", "MambAttention", "boosting", "FTTransformer", "Mambular", "MLP"]
    probability = comparison.predictions["models"]["Mambular"][:, 1]
    order = np.argsort(probability)
    groups = order.reshape(10, 12)
    np.testing.assert_allclose(drawn["Mambular"].get_xdata(), probability[groups].mean(axis=1))
    np.testing.assert_allclose(drawn["Mambular"].get_ydata(), comparison.predictions["y"][groups].mean(axis=1))
    assert ax.get_xlabel() == "predicted probability of ill"


def test_calibration_of_several_classes_is_of_the_class_given(make_comparison):
    comparison = make_comparison("multiclass")
    (ax,) = calibration(comparison).axes
    (line,) = [line for line in ax.lines if line.get_label() == "MLP"]
    probabilities = comparison.predictions["models"]["MLP"]
    right = probabilities.argmax(axis=1) == comparison.predictions["y"]
    np.testing.assert_allclose(np.mean(line.get_xdata()), probabilities.max(axis=1).mean())
    np.testing.assert_allclose(np.mean(line.get_ydata()), right.mean())


def test_residuals_are_observed_minus_predicted(make_comparison):
    comparison = make_comparison("regression")
    axes = residuals(comparison).axes
    assert [ax.get_title(loc="left") for ax in axes] == [
        "MambAttention",
        "boosting",
        "FTTransformer",
        "Mambular",
        "MLP",
    ]
    y, predicted = comparison.predictions["y"], comparison.predictions["models"]["boosting"]
    (dots,) = markers(axes[1])
    np.testing.assert_allclose(dots.get_xdata(), predicted)
    np.testing.assert_allclose(dots.get_ydata(), y - predicted)
    (median,) = [line for line in axes[1].lines if line.get_linewidth() == 2]
    groups = np.argsort(predicted).reshape(10, 12)
    np.testing.assert_allclose(median.get_ydata(), np.median((y - predicted)[groups], axis=1))


def test_a_schedule_is_one_coloured_lettered_box_a_layer():
    (ax,) = schedule_strip({"own": "MSALG-", "short": "MA"}).axes
    letters = "MSALG-MA"
    assert [to_hex(box.get_facecolor()) for box in ax.patches] == [LETTER_COLORS[letter] for letter in letters]
    assert [text.get_text() for text in ax.texts] == list(letters.replace("-", "–"))
    assert [text.get_position() for text in ax.texts[-2:]] == [(0.5, 1), (1.5, 1)]
    assert all(meaning in ax.get_xlabel() for meaning in LETTERS.values())
    assert len(schedule_strip("MMA").axes[0].patches) == 3
    with pytest.raises(ConfigError, match="'X' at position 2"):
        schedule_strip("MX")


def test_every_function_draws_into_the_axes_it_is_given(make_comparison):
    figure = Figure()
    ax = figure.add_subplot()
    assert scores_by_fold(make_comparison(), ax) is figure
    assert leaderboard_intervals(make_comparison(), figure.add_subplot()) is figure
    assert calibration(make_comparison(), figure.add_subplot()) is figure
    assert schedule_strip("MA", figure.add_subplot()) is figure
    panels = [figure.add_subplot() for _ in range(5)]
    assert learning_curves(make_comparison(), panels) is figure
    assert residuals(make_comparison("regression"), panels) is figure


def test_pyplot_and_the_global_settings_stay_untouched(make_comparison):
    before = dict(mpl.rcParams)
    for draw in (scores_by_fold, leaderboard_intervals, learning_curves, calibration):
        draw(make_comparison())
    assert dict(mpl.rcParams) == before
    code = "import sys, mambattn.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_numbers_and_labels():
    assert format_number(-0.00001, 3, signed=True) == "0.000"
    assert format_number(1234567.8, 0) == "1,234,568"
    assert format_number(float("nan"), 2) == format_number(float("nan"), 2, signed=True) == "nan"
    assert [decimals([value]) for value in (0.0, 1e-6, 3.0, 25.0, 99_000.0)] == [4, 4, 4, 3, 0]
    assert decimals([float("nan"), 25.0]) == 3
    assert metric_label("f1") == "F1"
    assert metric_label("roc_auc", "y") == "ROC AUC"
    assert metric_label("mae", "price") == "MAE (units of price)"

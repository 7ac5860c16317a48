"""The page of a comparison."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from mambattn import plots
from mambattn.plots import FAMILY_COLORS, decimals, format_number, metric_label
from mambattn.report._markup import cell, facts, page, readable, schedule_boxes, section, table
from mambattn.report._svg import figure_block

if TYPE_CHECKING:
    from mambattn.compare.results import Comparison, FoldResult, ModelResult

__all__ = ["compare_page"]

_COLUMNS = {
    "Model": "Name of the model; the dot is its family",
    "Schedule": "Layers of its stack, first to last",
    "Score": "Mean ± standard deviation over the held-out folds",
    "Difference": "Score minus the best row's on the same held-out rows, with its 95 % interval; negative is worse",
    "Parameters": "Trained numbers",
    "Fit (s)": "Mean wall-clock seconds of a fit",
    "Predict (s)": "Mean wall-clock seconds to predict the held-out rows",
    "Cut": "Fits that the time limit ended",
}
_FLAGS = ("folds", "seeds", "time_limit", "random_state", "device")
_OWN_STACK = "MambAttention "


def compare_page(comparison: Comparison) -> str:
    """Return a comparison as one self-contained HTML page.

    Verdict, leaderboard, paired differences, scores by fold, learning curves, calibration or residuals, the schedules,
    every fit, the data and the machine, how to read the intervals and how to run it again. Style, script and figures
    are inside; nothing is fetched.

    Parameters
    ----------
    comparison : mambattn.compare.Comparison
        The result.

    Returns
    -------
    str
        The page.
    """
    data = comparison.data
    metric = metric_label(comparison.metric)
    title = f"Which mixer suits {data['name']}?"
    kind = "a regression" if comparison.task == "regression" else f"{len(data['classes'])} classes"
    answer, *more = comparison.verdict().splitlines()
    gist, colon, reason = answer.partition(":")
    header = (
        f'<header><p class="kicker">mambattn · Mamba, attention, or both?</p><h1>{escape(title)}</h1>'
        f'<p class="summary">{escape(data["target"])} from {data["n_features"]:,} columns and {data["n_rows"]:,} rows, '
        f"{kind}, by {escape(metric)}. {len(comparison.rows)} models, {len(comparison.folds)} fits, "
        f"{_seconds(comparison.seconds)}.</p>"
        f'<p class="verdict"><strong>{escape(gist + colon)}</strong>{escape(reason)}'
        f"{''.join(f'<span>{escape(line)}</span>' for line in more)}</p></header>"
    )
    body = [
        section("leaderboard", "Leaderboard", _leaderboard(comparison)),
        section(
            "differences",
            "How far behind the best",
            figure_block(
                plots.leaderboard_intervals(comparison),
                "intervals",
                f"Paired difference in {metric} of each row to the best row, with 95 % intervals",
                "An interval that crosses 0 leaves the order of the two models open.",
            ),
            *_contrasts(comparison),
        ),
        section(
            "folds",
            "Scores by fold",
            figure_block(
                plots.scores_by_fold(comparison),
                "folds",
                f"{metric} of every model on every fold",
                "A line joins the dots of one fold: all models were fitted and scored on the same rows there, so lines "
                "that keep their shape mean that the folds differ more than the models do.",
            ),
            _fits(comparison),
        ),
        *_curves(comparison),
        *_predictions(comparison),
        *_schedules(comparison),
        _reading(comparison),
        _facts(comparison),
    ]
    footer = f"<footer>Made by mambattn {escape(_version(comparison))}. This page fetches nothing.</footer>"
    return page(title, f"{header}\n<main>\n" + "\n".join(body) + f"\n</main>\n{footer}")


def _leaderboard(comparison: Comparison) -> str:
    digits = decimals(row.mean for row in comparison.rows)
    names = {**_COLUMNS, "Score": f"{metric_label(comparison.metric)}: mean ± standard deviation over the folds"}
    families = [family for family in FAMILY_COLORS if any(row.family == family for row in comparison.rows)]
    legend = ", ".join(families)
    return table(
        "Leaderboard",
        f"Best first; families in the colours of the figures: {legend}. A click on a heading sorts.",
        names,
        (_row(row, digits, best=i == 0) for i, row in enumerate(comparison.rows)),
    )


def _row(row: ModelResult, digits: int, *, best: bool) -> Iterable[str]:
    dot = f'<span class="family" style="background:{FAMILY_COLORS[row.family]}" title="{escape(row.family)}"></span>'
    yield cell(row.model, html=f"{dot}{escape(row.model)}", head=True)
    yield cell("–") if row.schedule is None else cell(row.schedule, html=schedule_boxes(row.schedule))
    mean = format_number(row.mean, digits)
    spread = "" if math.isnan(row.sd) else f" <small>± {format_number(row.sd, digits)}</small>"
    yield cell(mean, value=row.mean, html=f"{mean}{spread}")
    yield (
        cell("best", value=0.0, html='<span class="best">best</span>')
        if best
        else _difference(row.difference, row.ci_low, row.ci_high, digits)
    )
    yield cell("–") if row.n_parameters is None else cell(f"{row.n_parameters:,}", value=row.n_parameters)
    yield cell(_short(row.fit_seconds), value=row.fit_seconds)
    yield cell(_short(row.predict_seconds), value=row.predict_seconds)
    cut = f"{row.n_cut} of {row.n_fits}"
    yield cell(cut, value=row.n_cut, html=f'<span class="cut">{cut}</span>' if row.n_cut else cut)


def _difference(value: float, low: float, high: float, digits: int) -> str:
    text, left, right = (format_number(number, digits, signed=True) for number in (value, low, high))
    return cell(text, value=value, html=f"{text} <small>[{left}, {right}]</small>")


def _contrasts(comparison: Comparison) -> Iterable[str]:
    if comparison.contrasts:
        digits = decimals(row.mean for row in comparison.rows)
        yield "<h3>Between families</h3>"
        yield table(
            "Differences between families",
            "The best row of one family against the best of another, on the same held-out rows.",
            {
                "Contrast": "What is compared",
                "Rows": "The rows that stand for the two sides",
                "Difference": "Score of the first minus score of the second, with its 95 % interval; negative is worse",
            },
            (
                (
                    cell(name.replace(" - ", " − "), head=True),
                    cell(f"{_chosen(contrast, 'a')} − {_chosen(contrast, 'b')}"),
                    _difference(contrast["difference"], contrast["ci_low"], contrast["ci_high"], digits),
                )
                for name, contrast in comparison.contrasts.items()
            ),
        )


def _chosen(contrast: Mapping[str, Any], side: str) -> str:
    """Name the row that stands for one side, and of how many it is the best."""
    of = contrast[f"{side}_of"]
    return contrast[side] if of == 1 else f"{contrast[side]} (best of {of})"


def _fits(comparison: Comparison) -> str:
    digits = decimals(row.mean for row in comparison.rows)

    def cells(fit: FoldResult) -> Iterable[str]:
        yield cell(fit.model, head=True)
        yield cell(str(fit.fold + 1), value=fit.fold + 1)
        yield cell(str(fit.seed + 1), value=fit.seed + 1)
        yield cell(format_number(fit.score, digits), value=fit.score)
        yield cell("–") if fit.n_epochs is None else cell(f"{fit.best_epoch} of {fit.n_epochs}", value=fit.n_epochs)
        yield cell(_short(fit.fit_seconds), value=fit.fit_seconds)
        yield cell("–") if fit.budget_seconds is None else cell(_short(fit.budget_seconds), value=fit.budget_seconds)
        yield cell("cut" if fit.cut_by_time else "–")

    columns = {
        "Model": "Name of the model",
        "Fold": "Which split",
        "Seed": "Which repetition",
        "Score": metric_label(comparison.metric),
        "Epochs": "Epoch whose weights were kept, of the epochs run",
        "Fit (s)": "Wall-clock seconds",
        "Allowed (s)": "Seconds that the fit was allowed",
        "Cut": "Whether the time limit ended it",
    }
    fits = table("Every fit", "Every fit, in the order of the leaderboard.", columns, map(cells, comparison.folds))
    return f"<details><summary>Every fit as a table ({len(comparison.folds)})</summary>{fits}</details>"


def _curves(comparison: Comparison) -> Iterable[str]:
    if any(fit.history is not None for fit in comparison.folds):
        yield section(
            "curves",
            "Learning curves",
            figure_block(
                plots.learning_curves(comparison),
                "curves",
                "Training and validation loss by epoch of every network",
                "Solid: loss on the validation rows inside each fit, a line a fold, with a dot at the epoch whose "
                "weights were kept. Dashed: training loss. A curve that still falls at its end stopped for lack of "
                "time or epochs.",
            ),
        )


def _predictions(comparison: Comparison) -> Iterable[str]:
    if not comparison.predictions:
        return
    if comparison.task == "regression":
        yield section(
            "residuals",
            "Residuals",
            figure_block(
                plots.residuals(comparison),
                "residuals",
                "Observed minus predicted against predicted, for the best model of each family",
                "Held-out rows of the best model of each family. Line: median of ten groups of equal size; band: "
                "middle 80 %. A line away from 0 is a bias; a band that widens, an error that grows with the "
                "prediction.",
            ),
        )
    else:
        yield section(
            "calibration",
            "Calibration",
            figure_block(
                plots.calibration(comparison),
                "calibration",
                "Observed share against predicted probability, for the best model of each family",
                "Held-out rows of the best model of each family, in ten groups of equal size by predicted probability. "
                "Above the dashed line it came true more often than the model said, below it less often.",
            ),
        )


def _schedules(comparison: Comparison) -> Iterable[str]:
    schedules = {row.model: row.schedule for row in comparison.rows if row.schedule is not None}
    if schedules:
        spelled = "; ".join(f"{model}: {schedule}" for model, schedule in schedules.items())
        yield section(
            "schedules",
            "The stacks, layer by layer",
            figure_block(
                plots.schedule_strip(schedules),
                "schedules",
                f"Schedules drawn as coloured boxes. {spelled}",
                "A box is a layer with its norm and residual. Models without a mixer and yardsticks have no schedule.",
            ),
        )


def _reading(comparison: Comparison) -> str:
    return section(
        "reading",
        "How to read the intervals",
        "<p>Every model is fitted on the same folds and predicts the same held-out rows. An interval is a bootstrap of "
        f"those rows: they are drawn again with replacement {comparison.settings['n_draws']:,} times, the same draw "
        "for all models; the metric is computed again in every fold and averaged as the score is; and the middle 95 % "
        "of the differences is the interval.</p>",
        "<p>It is conditional on the fits. It says how far the difference could move with other rows from the same "
        "source, not with other training rows, other seeds or other settings. The best row was chosen on the same "
        "rows, so a small lead is flattered a little. Where an interval includes 0 the data do not tell the two "
        "apart.</p>",
        f"<p>Scores are {escape(metric_label(comparison.metric, comparison.data['target']))}; "
        f"{'higher' if comparison.greater_is_better else 'lower'} is better. Differences are signed so that negative "
        "is always worse. A fit that the time limit ended is counted as cut: with more time it may do better.</p>",
    )


def _facts(comparison: Comparison) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return section(
        "facts",
        "Data, settings, machine",
        *([f"<h3>Notes</h3><ul>{notes}</ul>"] if notes else []),
        "<h3>Data</h3>" + facts(readable(comparison.data)),
        "<h3>Settings</h3>" + facts(readable(comparison.settings)),
        "<h3>Machine</h3>" + facts(readable(comparison.machine)),
        "<h3>Run it again</h3>",
        f"<pre><code>{escape(_command(comparison))}</code></pre>",
        "<p>Add <code>--drop</code> for columns of the file that were left out; settings of the models and of the "
        "training that are not at their defaults are listed above.</p>",
    )


def _command(comparison: Comparison) -> str:
    """Write the command that repeats the comparison.

    Rows of the user's own are called "MambAttention" and their schedule, then the other settings that were varied.
    """
    data, settings = comparison.data, comparison.settings
    own = [name.removeprefix(_OWN_STACK).split() for name in settings["models"] if name.startswith(_OWN_STACK)]
    varied: dict[str, list[str]] = {}
    for field, _, value in (setting.partition("=") for _, *others in own for setting in others):
        varied[field] = list(dict.fromkeys([*varied.get(field, []), value]))
    kind = "regression" if comparison.task == "regression" else "classification"
    words = ["mambattn", "compare", str(data["name"]), "--target", str(data["target"]), "--task", kind]
    words += ["--metric", comparison.metric]
    words += ["--models", ",".join(name for name in settings["models"] if not name.startswith(_OWN_STACK))]
    words += [f"--schedule={schedule}" for schedule, *others in own if not others]
    stacks = list(dict.fromkeys(schedule for schedule, *others in own if others))
    if len(stacks) > 1:
        varied["schedule"] = stacks
    for field, values in varied.items():
        words += ["--ablate", f"{field}={','.join(values)}"]
    for column in settings["preprocessing"]["categorical_columns"]:
        words += ["--categorical", str(column)]
    for name in _FLAGS:
        if settings[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    return shlex.join([*words, "--max-epochs", str(settings["trainer"]["max_epochs"])])


def _version(comparison: Comparison) -> str:
    return str(comparison.machine["mambattn"])


def _short(seconds: float) -> str:
    """Write seconds with three figures."""
    return format_number(seconds, max(0, min(3, 2 - math.floor(math.log10(seconds))))) if seconds > 0 else "0"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

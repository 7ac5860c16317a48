"""The words of the verdict, case by case."""

import dataclasses

import pytest

from mambattn.compare import Comparison, ModelResult


def row(model, family, mean, *, n_cut=0, schedule=None):
    return ModelResult(
        model=model, family=family, schedule=schedule, mean=mean, sd=0.01, difference=0.0, ci_low=0.0, ci_high=0.0,
        n_parameters=1, fit_seconds=1.0, predict_seconds=0.1, n_cut=n_cut, n_fits=3,
    )  # fmt: skip


def contrast(a, b, difference, low, high, a_of=1, b_of=1):
    return {"a": a, "b": b, "a_of": a_of, "b_of": b_of, "difference": difference, "ci_low": low, "ci_high": high}


HYBRID = row("MambAttention", "both", 0.93)
MAMBA = row("Mambular", "mamba", 0.92)
ATTENTION = row("FTTransformer", "attention", 0.91)
AHEAD = {
    "both - mamba": contrast("MambAttention", "Mambular", 0.01, 0.002, 0.018),
    "both - attention": contrast("MambAttention", "FTTransformer", 0.02, 0.012, 0.028),
    "mamba - attention": contrast("Mambular", "FTTransformer", 0.01, 0.001, 0.019),
}


def comparison(rows, contrasts, **changes):
    return Comparison(
        **{
            "task": "binary",
            "metric": "roc_auc",
            "greater_is_better": True,
            "data": {"name": "t", "target": "y"},
            "settings": {"folds": 3, "seeds": 1, "n_draws": 2000},
            "machine": {},
            "rows": tuple(rows),
            "folds": (),
            "contrasts": contrasts,
            "seconds": 1.0,
        }
        | changes
    )


def test_one_family_ahead_of_both_others():
    assert comparison([HYBRID, MAMBA, ATTENTION], AHEAD).verdict() == (
        "Both: in ROC AUC, MambAttention is ahead of Mambular by 0.0100 (95 % interval 0.0020 to 0.0180) and "
        "FTTransformer by 0.0200 (0.0120 to 0.0280)."
    )


def test_the_leader_may_be_the_second_name_of_a_contrast():
    contrasts = {
        "both - attention": contrast("MambAttention", "FTTransformer", -2.0, -3.0, -1.0),
        "both - mamba": contrast("MambAttention", "Mambular", 0.5, -0.5, 1.5),
        "mamba - attention": contrast("Mambular", "FTTransformer", -2.5, -3.5, -1.5),
    }
    rows = [dataclasses.replace(each, mean=50.0) for each in (ATTENTION, HYBRID, MAMBA)]
    found = comparison(rows, contrasts, metric="rmse", greater_is_better=False, task="regression").verdict()
    assert found == (
        "Attention: in RMSE, FTTransformer is ahead of MambAttention by 2.000 (95 % interval 1.000 to 3.000) and "
        "Mambular by 2.500 (1.500 to 3.500)."
    )


def test_undecided_against_one_and_ahead_of_the_other():
    contrasts = AHEAD | {"both - mamba": contrast("MambAttention", "Mambular", 0.004, -0.003, 0.011)}
    assert comparison([HYBRID, MAMBA, ATTENTION], contrasts).verdict() == (
        "Undecided between the hybrid and Mamba: in ROC AUC, MambAttention is ahead, but its lead over Mambular, 0.0040 "
        "(95 % interval −0.0030 to 0.0110), may be chance. It is ahead of FTTransformer (attention) by 0.0200 "
        "(0.0120 to 0.0280)."
    )


def test_undecided_against_all():
    contrasts = {
        "both - mamba": contrast("MambAttention", "Mambular", 0.004, -0.003, 0.011),
        "both - attention": contrast("MambAttention", "FTTransformer", 0.006, 0.0, 0.012),
    }
    assert comparison([HYBRID, MAMBA, ATTENTION], contrasts).verdict() == (
        "Undecided between the hybrid, Mamba and attention: in ROC AUC, MambAttention is ahead, but its lead over Mambular, "
        "0.0040 (95 % interval −0.0030 to 0.0110), and over FTTransformer, 0.0060 (0.0000 to 0.0120), may be chance."
    )


def test_an_undefined_interval_decides_nothing():
    nan = float("nan")
    contrasts = {"both - mamba": contrast("MambAttention", "Mambular", nan, nan, nan)}
    assert comparison([HYBRID, MAMBA], contrasts).verdict().startswith("Undecided between the hybrid and Mamba")


def test_two_families_one_family_none():
    two = comparison([HYBRID, ATTENTION], {"both - attention": AHEAD["both - attention"]}).verdict()
    assert two.startswith("Both: ")
    assert two.endswith("No pure Mamba stacks were compared.")
    assert comparison([MAMBA, row("Mambular 2", "mamba", 0.9)], {}).verdict() == (
        "Only pure Mamba stacks were compared (Mambular and Mambular 2), so this cannot say whether Mamba, attention or "
        "both suit the table."
    )
    none = comparison([row("boosting", "yardstick", 0.9)], {}).verdict()
    assert none == "No mixer was compared, so this says nothing about Mamba or attention."


def test_a_choice_after_the_fact_is_said():
    contrasts = {
        "both - mamba": contrast("MambAttention MMA", "Mambular", 0.01, 0.002, 0.018, a_of=4),
        "both - attention": contrast("MambAttention MMA", "FTTransformer", 0.02, 0.012, 0.028, a_of=4, b_of=2),
    }
    rows = [row("MambAttention MMA", "both", 0.93), *(row(f"b{i}", "both", 0.9) for i in range(3)), MAMBA, ATTENTION]
    assert comparison(rows, contrasts).verdict() == (
        "Both: in ROC AUC, MambAttention MMA (the best of 4 hybrid stacks, picked on these same rows) is ahead of "
        "Mambular by 0.0100 (95 % interval 0.0020 to 0.0180) and FTTransformer (the best of 2 pure attention stacks, "
        "picked on these same rows) by 0.0200 (0.0120 to 0.0280)."
    )


def test_cut_fits_are_said():
    rows = [dataclasses.replace(HYBRID, n_cut=3), dataclasses.replace(MAMBA, n_cut=2), row("linear", "yardstick", 0.5)]
    text = comparison(rows, {"both - mamba": AHEAD["both - mamba"]}).verdict()
    assert text.endswith("The time limit cut 5 of 6 network fits, so more time may change this.")
    rows[1] = dataclasses.replace(MAMBA, n_cut=3)
    assert "cut all 6 network fits" in comparison(rows, {"both - mamba": AHEAD["both - mamba"]}).verdict()


def best(other, difference, low, high):
    return {f"best mixer - {other}": contrast("MambAttention", other, difference, low, high, a_of=3)}


@pytest.mark.parametrize(
    ("rivals", "line"),
    [
        (
            best("boosting", -0.01, -0.02, -0.004) | best("linear", 0.02, 0.01, 0.03),
            "However, MambAttention, the best of 3 mixers on these rows, is behind boosting by 0.0100 (95 % "
            "interval 0.0040 to 0.0200). It beats the linear model.",
        ),
        (
            best("boosting", -0.01, -0.02, -0.004) | best("linear", -0.02, -0.03, -0.01),
            "However, MambAttention, the best of 3 mixers on these rows, is behind boosting by 0.0100 (95 % "
            "interval 0.0040 to 0.0200) and the linear model by 0.0200 (0.0100 to 0.0300).",
        ),
        (
            best("boosting", 0.001, -0.02, 0.03) | best("linear", 0.02, 0.01, 0.03) | best("dummy", 0.4, 0.3, 0.5),
            "MambAttention, the best of 3 mixers on these rows, cannot be told apart from boosting (difference 0.0010, 95 % "
            "interval −0.0200 to 0.0300). It beats the linear model.",
        ),
        (
            best("boosting", 0.01, 0.001, 0.03) | {"best mixer - network without mixer": contrast("M", "MLP", 1, 0.5, 2)},
            "MambAttention, the best of 3 mixers on these rows, beats boosting and MLP too.",
        ),
        (
            best("dummy", 0.01, -0.01, 0.03) | best("boosting", 0.01, 0.001, 0.03),
            "No mixer is shown to beat guessing: the lead of MambAttention over the dummy is 0.0100 (95 % interval "
            "−0.0100 to 0.0300).",
        ),
        (best("dummy", 0.4, 0.3, 0.5), None),
    ],
)  # fmt: skip
def test_the_line_about_yardsticks(rivals, line):
    text = comparison([HYBRID, MAMBA, ATTENTION], AHEAD | rivals).verdict()
    lines = text.split("\n")
    assert lines[0].startswith("Both: ")
    assert lines[1:] == ([] if line is None else [line])

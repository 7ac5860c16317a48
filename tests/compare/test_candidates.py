"""Which rows a comparison has, and what is merged."""

import numpy as np
import pandas as pd
import pytest

from mambattn.compare._candidates import FitSettings, choose_candidates
from mambattn.compare._yardsticks import YARDSTICKS, plain_columns
from mambattn.configs import MambAttentionConfig, MLPConfig, PreprocessingConfig, TrainerConfig
from mambattn.models import MambAttentionClassifier, MLPRegressor
from mambattn.schedule import tabular_schedule


def test_all_models_by_default_with_their_families():
    rows, notes = choose_candidates()
    assert [(row.name, row.family, row.schedule) for row in rows] == [
        ("MambAttention", "both", "MAMAMA"),
        ("Mambular", "mamba", "MMMM"),
        ("FTTransformer", "attention", "A-A-A-A-"),
        ("ResNet", "no mixer", None),
        ("MLP", "no mixer", None),
        ("dummy", "yardstick", None),
        ("linear", "yardstick", None),
        ("boosting", "yardstick", None),
    ]
    assert notes == ()


def test_names_do_not_mind_case_and_hyphens_and_twice_is_once():
    rows, _ = choose_candidates(["ft-transformer", "MAMB_attention", "Boosting", "FTTransformer"])
    assert [row.name for row in rows] == ["FTTransformer", "MambAttention", "boosting"]


def test_an_ablation_has_a_row_for_each_distinct_schedule():
    ablate = {"last_layer": ["attn", "mamba"], "n_attention_layers": [1, 2, 3]}
    rows, notes = choose_candidates(["MambAttention", "dummy"], ablate=ablate)
    expected = {tabular_schedule(4, n, 1, last) for last in ("attn", "mamba") for n in (1, 2, 3)}
    assert {row.schedule for row in rows if row.is_network} == expected
    assert [row.name for row in rows if row.is_network] == [
        "MambAttention",
        *(f"MambAttention {row.schedule}" for row in rows[2:]),
    ]
    assert "MambAttention MAMAMA is the same network as MambAttention, so it has no row of its own." in notes
    assert f"The 6 variants asked for come to {len(expected)} different networks." in notes
    assert len(expected) < 6


def test_other_fields_are_in_the_name_and_schedules_join_in():
    rows, notes = choose_candidates(
        ["dummy"], schedules=["MMA", "AA"], ablate={"schedule": ["MMA", "MM"], "d_state": [16, 128]}
    )
    assert [row.name for row in rows] == [
        "dummy",
        "MambAttention MMA",
        "MambAttention AA",
        "MambAttention MMA d_state=16",
        "MambAttention MM d_state=16",
        "MambAttention MM d_state=128",
    ]
    assert [row.family for row in rows[1:]] == ["both", "attention", "both", "mamba", "mamba"]
    assert (
        "MambAttention MMA d_state=128 is the same network as MambAttention MMA, so it has no row of its own." in notes
    )


def test_counts_without_attention_do_not_warn_and_count_as_mamba():
    rows, _ = choose_candidates(
        ["dummy"], ablate={"n_mamba_per_attention": [3], "n_layers": [2], "last_layer": ["mamba"]}
    )
    assert [(row.schedule, row.family) for row in rows[1:]] == [("MMM", "mamba")]


def test_settings_reach_the_model():
    rows, _ = choose_candidates(
        ["MambAttention", "mlp"],
        schedules=["MM"],
        model_configs={"mambattention": {"d_state": 8}, "MLP": MLPConfig(layer_sizes=(5,))},
    )
    settings = FitSettings(
        task="binary", columns=("a",), categorical=(), preprocessing=PreprocessingConfig(), trainer=TrainerConfig(lr=0.1), seed=3
    )  # fmt: skip
    model = rows[0].build(settings)
    assert isinstance(model, MambAttentionClassifier)
    assert (model.model_config, model.trainer_config.lr, model.random_state) == (MambAttentionConfig(d_state=8), 0.1, 3)
    assert rows[2].build(settings).model_config == MambAttentionConfig(d_state=8, schedule="MM")
    mlp = rows[1].build(FitSettings(**(vars(settings) | {"task": "regression"})))
    assert isinstance(mlp, MLPRegressor)
    assert mlp.model_config.layer_sizes == (5,)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("name", YARDSTICKS)
def test_yardsticks_take_any_table(name, task):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=80),
            "gaps": pd.array([None, 1, 2, 3] * 20, dtype="Int64"),
            "empty": np.nan,
            "constant": 1.0,
            "no text": pd.Series([None] * 80, dtype="str"),
            "text": [None, "a", "b", "c"] * 20,
            "bool": [True, False] * 40,
            "kind": pd.Categorical(["u", "v"] * 40),
            "many": [f"c{i % 70}" for i in range(80)],
            "code": np.arange(80) % 3,
        }
    )
    categorical = ("no text", "text", "bool", "kind", "many", "code")
    y = rng.integers(0, 2, 80) if task == "binary" else rng.normal(size=80)
    model = YARDSTICKS[name](task, tuple(frame.columns), categorical, 0).fit(frame, y)
    new = frame[::-1].assign(text="unseen")
    prediction = model.predict_proba(new) if task == "binary" else model.predict(new)
    assert np.isfinite(prediction).all()
    plain = plain_columns(frame, categorical)
    assert plain["gaps"].isna().sum() == 20
    assert plain["text"].tolist()[:2] == [None, "a"]
    assert plain["code"].tolist()[:4] == ["0", "1", "2", "0"]


def test_boosting_splits_on_more_categories_than_it_has_bins():
    rng = np.random.default_rng(0)
    effect = rng.normal(size=400)
    code = rng.integers(0, 400, 6000)
    frame = pd.DataFrame({"many": [f"c{c}" for c in code]})
    model = YARDSTICKS["boosting"]("regression", ("many",), ("many",), 0).fit(frame, effect[code])
    assert model.score(frame, effect[code]) > 0.5

"""Tables and targets: what is understood, and what is refused with which words."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from mambattn._errors import ConfigError, DataError
from mambattn.compare import load_bundled, run
from mambattn.compare._table import make_table


def made(X, y, **settings):
    return make_table(X, y, **({"task": "auto", "folds": 3, "seeds": 1, "random_state": 0} | settings))


FRAME = pd.DataFrame({"a": np.arange(30.0), "b": ["u", "v", "w"] * 10})
CLASSES = np.array(["no", "yes"] * 15)


@pytest.mark.parametrize(
    ("target", "task", "note"),
    [
        (CLASSES, "binary", None),
        (np.array(["a", "b", "c"] * 10), "multiclass", None),
        (np.array([True, False] * 15), "binary", None),
        (np.array([0, 1] * 15), "binary", "2 distinct values, so they are taken for classes"),
        (np.array([0.0, 1.0] * 15), "binary", "taken for classes"),
        (np.arange(30) % 3, "multiclass", "for a quantity, ask for task regression"),
        (np.arange(30), "regression", "30 distinct values, so it is taken for a quantity"),
        (np.array([0.5, 1.0, 2.0] * 10), "regression", "for classes, ask for task classification"),
        (pd.Series(CLASSES, dtype="category"), "binary", None),
        (pd.Series(np.arange(30), dtype="Int64"), "regression", "taken for a quantity"),
        (pd.Series(np.arange(30), dtype=object), "regression", "taken for a quantity"),
        (pl.Series("t", CLASSES), "binary", None),
    ],
)
def test_the_task_is_taken_from_the_target(target, task, note):
    table, _ = made(FRAME, target)
    assert table.task == task
    assert (note is None and table.notes == ()) or note in table.notes[0]


def test_the_task_can_be_said():
    assert made(FRAME, np.arange(30) % 3, task="regression")[0].task == "regression"
    assert made(FRAME, np.repeat(np.arange(10), 3), task="classification")[0].task == "multiclass"


def test_folds_hold_every_row_out_once_a_seed_and_spread_the_classes():
    y = np.array(["rare"] * 6 + ["often"] * 24)
    table, _ = made(FRAME, y, seeds=2)
    assert table.classes == ("often", "rare")
    assert table.fold_of.shape == (2, 30)
    for seed in range(2):
        assert [int((table.fold_of[seed] == fold).sum()) for fold in range(3)] == [10, 10, 10]
        assert [int((table.y[table.fold_of[seed] == fold] == 1).sum()) for fold in range(3)] == [2, 2, 2]
    assert (table.fold_of[0] != table.fold_of[1]).any()
    train, held_out = table.split(1, 0)
    assert sorted([*train, *held_out]) == list(range(30))
    np.testing.assert_array_equal(table.labels, y)


def test_a_target_by_name_an_array_and_a_polars_frame():
    frame = FRAME.assign(answer=CLASSES)
    table, name = made(frame, "answer")
    assert (name, list(table.frame.columns), table.categorical) == ("answer", ["a", "b"], ("b",))
    assert made(pl.from_pandas(FRAME), CLASSES)[0].frame.shape == (30, 2)
    assert made(FRAME.assign(c=1).rename(columns={"c": 7}), CLASSES)[0].frame.columns.tolist() == ["a", "b", "7"]
    table, name = made(np.arange(60).reshape(30, 2), CLASSES[:, None], categorical_columns=(1,))
    assert (name, table.categorical) == ("y", (1,))


def test_the_fingerprint_knows_another_table():
    prints = [
        made(frame, y)[0].fingerprint
        for frame, y in [
            (FRAME, CLASSES),
            (FRAME.copy(), CLASSES.copy()),
            (FRAME.rename(columns={"a": "c"}), CLASSES),
            (FRAME.assign(a=FRAME["a"] + (FRAME.index == 29)), CLASSES),
            (FRAME.assign(b=FRAME["b"].str.upper()), CLASSES),
            (FRAME, np.roll(CLASSES, 1)),
        ]
    ]
    assert prints[0] == prints[1]
    assert len(set(prints[1:])) == 5


WITH_GAP = np.where(np.arange(30) == 4, None, CLASSES)
BAD_TABLES = {
    "no such target": (FRAME.assign(income=1), "incom", {}, DataError, "no column 'incom' to predict. Did you mean 'income'?"),
    "only a target": (FRAME[["b"]], "b", {}, DataError, "no column beside its target 'b'"),
    "missing target": (FRAME, WITH_GAP, {}, DataError, "'y' is missing in 1 of 30 rows. Drop these rows"),
    "one class": (FRAME, ["a"] * 30, {}, DataError, "is 'a' in every row. Give a table with at least two classes"),
    "constant number": (FRAME, [2.5] * 30, {"task": "regression"}, DataError, "2.5 in every row, so there is nothing"),
    "constant integer": (FRAME, [2024001] * 30, {}, DataError, "2024001 in every row, so there is nothing to predict. Name another one"),
    "a huge target": (FRAME, np.arange(30) * 1e200, {}, DataError, r"'y' holds numbers beyond 1e\+150. Use its logarithm"),
    "a huge number": (FRAME.assign(a=-1e200), CLASSES, {}, DataError, r"'a' holds numbers beyond 1e\+150, whose squares overflow"),
    "an amount": (FRAME, [f"${i}" for i in range(30)], {}, DataError, r"write every value as a number, unlike '\$0'"),
    "one text among numbers": (FRAME, [*map(str, range(29)), "?"], {"task": "regression"}, DataError, r"'y' holds '\?'"),
    "rare class": (FRAME, ["a"] * 28 + ["b"] * 2, {}, DataError, "Class 'b' of the target 'y' has 2 rows, fewer than folds=3. "
                   "Drop or merge the class, or use folds=2."),
    "single row of a class": (FRAME, ["a"] * 29 + ["b"], {}, DataError, "has 1 row, fewer than folds=3. Drop or merge the class."),
    "numbers as classes": (FRAME, np.arange(30), {"task": "classification"}, DataError, "Then ask for task regression."),
    "text for numbers": (FRAME, CLASSES, {"task": "regression"}, DataError, "needs a numeric target, however 'y' holds 'no'"),
    "infinite target": (FRAME, [*range(29), np.inf], {"task": "regression"}, DataError, "holds infinite values"),
    "mixed labels": (FRAME, pd.Series(["a", 1] * 15), {}, DataError, "mixes text and numbers"),
    "many mixed labels": (FRAME, pd.Series(["0", *range(1, 30)]), {}, DataError, "mixes text and numbers"),
    "dates to predict": (FRAME, pd.Series(pd.date_range("2020", periods=30)), {}, DataError, "holds Timestamp values"),
    "lists to predict": (FRAME, pd.Series([[1]] * 30), {}, DataError, "The target 'y' holds list values. Turn them into text"),
    "not binary": (FRAME, np.array(["a", "b", "c"] * 10), {"task": "binary"}, DataError, "with 3 classes. Use task=.multiclass"),
    "unknown task": (FRAME, CLASSES, {"task": "ranking"}, ConfigError, "`task` must be one of 'auto', .*task='ranking'"),
    "few rows": (FRAME[:8], CLASSES[:8], {"folds": 2}, DataError, "has 8 rows, too few for folds=2: give at least 10 rows"),
    "many folds": (FRAME, np.arange(30.0), {"folds": 20}, DataError, "too few for folds=20: give at least 40 rows, or use folds=15"),
    "one fold": (FRAME, CLASSES, {"folds": 1}, ConfigError, "`folds` must be an integer of at least 2, however folds=1"),
    "no seed": (FRAME, CLASSES, {"seeds": 0}, ConfigError, "`seeds` must be an integer of at least 1, however seeds=0"),
    "short target": (FRAME, CLASSES[:29], {}, DataError, "X has 30 rows and y has 29"),
    "two targets": (FRAME, np.zeros((30, 2)), {}, DataError, r"`y` must be one column, however its shape is \(30, 2\)"),
    "empty": (FRAME[:0], [], {}, DataError, "0 sample"),
    "dates": (FRAME.assign(d=pd.Timestamp("2020")), CLASSES, {}, DataError, "'d' holds dates or times"),
    "infinite number": (FRAME.assign(a=np.inf), CLASSES, {}, DataError, "'a' holds an infinite number"),
    "nested": (FRAME.assign(n=[[1]] * 30), CLASSES, {}, DataError, "'n' holds a list in row 0"),
    "no such category": (FRAME, CLASSES, {"categorical_columns": ("z",)}, ConfigError, "names 'z', which is no column .* Columns: a, b"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused_in_one_sentence(case):
    X, y, settings, error, words = BAD_TABLES[case]
    with pytest.raises(error, match=words) as caught:
        made(X, y, **settings)
    assert "\n" not in str(caught.value)


BAD_SETTINGS = {
    "unknown model": ({"models": ["MambaAtention"]}, "no model 'MambaAtention'. .* Did you mean 'MambAttention'"),
    "one model": ({"models": ["MLP"]}, "at least two models, however there is 1"),
    "models in a string": ({"models": "MLP"}, r"`models` must be a list of names, .* Use \['MLP'\]"),
    "schedules in a string": ({"schedules": "MMA"}, "`schedules` must be a list"),
    "bad schedule": ({"schedules": ["MXA"]}, "'MXA' has 'X' at position 2"),
    "unknown field": ({"ablate": {"last_layr": ["attn"]}}, "no setting 'last_layr'. Did you mean 'last_layer'"),
    "field without values": ({"ablate": {"n_layers": []}}, r"`ablate\['n_layers'\]` must be a list of values"),
    "field with one value": ({"ablate": {"last_layer": "attn"}}, "must be a list of values, however it is 'attn'"),
    "bad value": ({"ablate": {"n_layers": [0]}}, "`n_layers` must be an integer"),
    "schedule and counts": ({"ablate": {"schedule": ["MA"], "n_layers": [2]}}, "the schedule or its counts, not both"),
    "settings of a yardstick": ({"model_configs": {"linear": {}}}, "'linear', a yardstick, which takes none"),
    "settings not used": ({"models": ["MLP", "dummy"], "model_configs": {"ResNet": {}}}, "ResNet, which takes no part"),
    "settings of another": ({"model_configs": {"MLP": 3}}, "must be a MLPConfig or a dict, however it is a int"),
    "unknown setting": ({"model_configs": {"MLP": {"widths": 3}}}, "MLPConfig has no setting 'widths'"),
    "metric": ({"metric": "rmse"}, "`metric` 'rmse' does not fit a binary task"),
    "time limit": ({"time_limit": 0}, "`time_limit` must be a positive number of seconds, however time_limit=0"),
    "jobs": ({"n_jobs": 0}, "`n_jobs` must be an integer of at least 1, however n_jobs=0"),
    "random state": ({"random_state": -1}, "`random_state` must be an integer of at least 0"),
    "device": ({"device": "tpu9"}, "`device`"),
    "epochs": ({"max_epochs": 0}, "`max_epochs` must be an integer"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_setting_is_refused(case):
    settings, words = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=words):
        run(FRAME, CLASSES, progress=False, **settings)


def test_a_setting_given_twice_is_refused():
    from mambattn.configs import TrainerConfig

    with pytest.raises(ConfigError, match=r"`max_epochs` is 5, but `trainer_config` has max_epochs=7. Give one"):
        run(FRAME, CLASSES, max_epochs=5, trainer_config=TrainerConfig(max_epochs=7))


@pytest.mark.parametrize(
    ("name", "rows", "columns", "task"),
    [
        ("breast_cancer", 569, 30, "binary"),
        ("wine", 178, 13, "multiclass"),
        ("digits", 1797, 64, "multiclass"),
        ("diabetes", 442, 10, "regression"),
    ],
)
def test_bundled_tables(name, rows, columns, task):
    X, y = load_bundled(name)
    assert X.shape == (rows, columns)
    assert made(X, y)[0].task == task
    with pytest.raises(DataError, match="no bundled table 'iris'\\. There are breast_cancer"):
        load_bundled("iris")


def test_many_classes_of_text_are_told_by_the_one_that_is_no_number():
    target = [*map(str, range(29)), "x"] * 3
    table, _ = made(pd.concat([FRAME] * 3), target)
    assert table.task == "multiclass"
    assert table.notes == (
        "The target 'y' holds text such as 'x', so its 30 distinct values are taken for classes; for a quantity, write "
        "every value as a number.",
    )


def test_a_target_whose_errors_four_decimals_cannot_show_is_told():
    assert made(FRAME, np.arange(30) * 1e-6)[0].notes[1] == (
        "The target 'y' spans 2.9e-05 only, and scores are written with four decimals: take a smaller unit to see more of them."
    )
    assert len(made(FRAME, np.arange(30) * 1e-3)[0].notes) == 1

"""A whole comparison: the same answer every time, in any number of processes, and after an interruption."""

import dataclasses
import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, roc_auc_score

from mambattn._errors import ConfigError, DataError
from mambattn.compare import Comparison, load_bundled, run
from mambattn.compare._candidates import Yardstick
from mambattn.compare._plan import order_fits, uneven
from mambattn.compare.experiment import compare_candidates
from mambattn.configs import PreprocessingConfig, TrainerConfig
from mambattn.models import load
from mambattn.training.files import reserved

DEFAULTS = {"preprocessing": PreprocessingConfig(), "trainer": TrainerConfig(), "n_jobs": 1, "progress": False}
CONFIGS = {
    "MambAttention": {"d_model": 8, "n_heads": 2, "d_state": 4},
    "Mambular": {"d_model": 8, "d_state": 4, "n_layers": 1},
    "MLP": {"d_model": 4, "layer_sizes": (8,)},
}


def run_tiny(table, models, *, n_jobs=1, max_epochs=2, patience=2, **settings):
    return run(
        *table,
        models=models,
        model_configs={name: config for name, config in CONFIGS.items() if name in models},
        trainer_config=TrainerConfig(lr=1e-2, batch_size=32, patience=patience),
        max_epochs=max_epochs,
        n_jobs=n_jobs,
        progress=False,
        **settings,
    )


def without_seconds(comparison):
    values = comparison.to_dict()
    for place in (values, values["settings"]):
        for name in ("seconds", "n_jobs"):
            place.pop(name, None)
    for each in values["rows"] + values["folds"]:
        del each["fit_seconds"], each["predict_seconds"]
    return values


def test_the_board_of_known_predictions(stubs, table):
    found = compare_candidates(*table, stubs, seeds=2, **DEFAULTS)
    assert (found.task, found.metric, found.greater_is_better) == ("binary", "roc_auc", True)
    assert [row.model for row in found.rows][-1] == "dummy"
    assert len(found.folds) == 5 * 3 * 2
    by_name = {row.model: row for row in found.rows}
    for name, row in by_name.items():
        scores = [fold.score for fold in found.folds if fold.model == name]
        assert row.mean == pytest.approx(np.mean(scores))
        assert row.sd == pytest.approx(np.std(scores, ddof=1))
        assert row.difference == pytest.approx(row.mean - found.rows[0].mean)
        assert row.ci_low <= row.difference <= row.ci_high
    assert (by_name["Hybrid"].family, by_name["Hybrid"].schedule, by_name["Hybrid"].n_parameters) == ("both", "MA", 7)
    assert by_name["linear"].n_parameters is None
    given = found.predictions
    assert given["classes"] == ["no", "yes"]
    for name, prediction in given["models"].items():
        for fold in range(3):
            rows = given["fold"] == fold
            score = next(f for f in found.folds if (f.model, f.fold, f.seed) == (name, fold, 0))
            assert score.scores["roc_auc"] == pytest.approx(roc_auc_score(given["y"][rows], prediction[rows, 1]))
            assert score.scores["accuracy"] == accuracy_score(given["y"][rows], prediction[rows].argmax(1))
    assert set(found.contrasts) == {
        "both - mamba",
        "both - attention",
        "mamba - attention",
        "best mixer - linear",
        "both - linear",
        "mamba - linear",
        "attention - linear",
        "best mixer - dummy",
    }
    contrast = found.contrasts["mamba - attention"]
    assert (contrast["a"], contrast["b"], contrast["a_of"], contrast["b_of"]) == ("Mamba", "Attention", 1, 1)
    assert contrast["difference"] == pytest.approx(by_name["Mamba"].mean - by_name["Attention"].mean)
    assert found.contrasts["best mixer - dummy"]["a_of"] == 3


def test_an_error_is_turned_around(table):
    frame, _ = table
    found = run(frame[["gaps"]], frame["x"], models=["dummy", "linear"], metric="mae", n_jobs=1, progress=False)
    assert not found.greater_is_better
    assert found.rows[0].mean <= found.rows[1].mean
    assert found.rows[1].difference == pytest.approx(found.rows[0].mean - found.rows[1].mean)
    assert found.rows[1].difference <= 0


def test_one_run_at_a_time_in_a_directory(stubs, table, tmp_path):
    with reserved(tmp_path), pytest.raises(DataError, match=r"^`out` must be the directory of one run at a time"):
        compare_candidates(*table, stubs, **{**DEFAULTS, "out": tmp_path})
    compare_candidates(*table, stubs, **{**DEFAULTS, "out": tmp_path})
    assert not (tmp_path / "lock").exists()


def test_a_result_survives_json(stubs, table, tmp_path):
    found = compare_candidates(*table, stubs, data_name="t", notes=("n",), **DEFAULTS)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = Comparison.from_dict(values)
    assert again == found
    assert values["verdict"] == again.verdict() == found.verdict()
    shown = str(again)
    assert shown.endswith(found.verdict())
    assert all(row.model in shown and f"{row.mean:.4f}" in shown for row in found.rows)
    nan = dataclasses.replace(found, rows=(dataclasses.replace(found.rows[0], sd=float("nan")), *found.rows[1:]))
    assert nan.to_dict()["rows"][0]["sd"] is None
    assert np.isnan(Comparison.from_dict(nan.to_dict()).rows[0].sd)
    for content, words in [
        ("[]", "holds no comparison, but list"),
        ("{", "cannot be read as the JSON of a comparison"),
        ("{}", "`format` must be 'mambattn comparison', however it is None"),
        (json.dumps(values | {"format_version": 99}), "format_version=99, and this mambattn reads up to 1. Update"),
    ]:
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(DataError, match=words):
            Comparison.load(tmp_path / "c.json")
    with pytest.raises(DataError, match="cannot be read"):
        Comparison.load(tmp_path / "none.json")


def test_the_table_shows_every_row(stubs, table):
    found = compare_candidates(*table, stubs, data_name="answers.csv", **DEFAULTS)
    cut = dataclasses.replace(found.rows[1], n_cut=2)
    found = dataclasses.replace(found, rows=(found.rows[0], cut, *found.rows[2:]))
    text = StringIO()
    Console(width=140, file=text).print(found.table())
    text = text.getvalue()
    assert "answers.csv, answer: ROC AUC, 3 folds, higher is better" in text
    for row in found.rows:
        assert f"{row.mean:.4f} ± {row.sd:.4f}" in text
    assert "*2/3" in text
    assert "given these fits" in text


def test_fits_are_ordered_so_that_no_mixer_is_favoured(stub_network):
    rows = [Yardstick("dummy"), *(stub_network(n, "M", "mamba") for n in ("A", "B", "C", "MLP"))]
    fits = order_fits(rows, folds=3, seeds=1)
    assert [f"{fit.candidate.name}{fit.fold}" for fit in fits] == [
        *("dummy0", "dummy1", "dummy2", "MLP0", "MLP1", "MLP2"),
        *("A0", "B0", "C0", "B1", "C1", "A1", "C2", "A2", "B2"),
    ]


SOME = ["MambAttention", "MLP", "linear", "boosting"]


@pytest.fixture(scope="module")
def wine():
    return load_bundled("wine")


@pytest.fixture(scope="module")
def tiny_run(wine):
    return run_tiny(wine, SOME)


def test_real_networks_run_and_equal_calls_give_equal_results(wine, tiny_run):
    again = run_tiny(wine, SOME)
    assert without_seconds(again) == without_seconds(tiny_run)
    network = next(fold for fold in tiny_run.folds if fold.model == "MambAttention")
    assert network.n_epochs == len(network.history["val_loss"]) == 2
    assert network.n_parameters > 100
    assert not network.cut_by_time
    for name, prediction in tiny_run.predictions["models"].items():
        np.testing.assert_allclose(prediction.sum(axis=1), 1, rtol=1e-5, err_msg=name)


def test_worker_processes_do_not_change_the_results_and_save_the_best_network(wine, tiny_run, tmp_path):
    pooled = run_tiny(wine, SOME, n_jobs=2, out=tmp_path)
    assert pooled.settings["n_jobs"] == 2
    assert without_seconds(pooled) == without_seconds(tiny_run)
    assert set(load(tmp_path / "model.safetensors").predict(wine[0])) <= set(wine[1])


def test_a_random_state_changes_the_folds_and_the_fits(wine, tiny_run):
    other = run_tiny(wine, ["MLP", "linear"], random_state=1)
    assert (other.predictions["fold"] != tiny_run.predictions["fold"]).any()


def test_a_time_limit_cuts_and_says_so(wine):
    found = run_tiny(wine, ["MLP", "Mambular", "linear"], folds=2, time_limit=2.0, max_epochs=10_000, patience=10_000)
    networks = [fold for fold in found.folds if fold.n_epochs is not None]
    assert all(fold.cut_by_time and fold.budget_seconds > 0.2 for fold in networks)
    assert all(fold.fit_seconds < 2 * fold.budget_seconds + 0.5 for fold in networks)
    assert [row.n_cut for row in found.rows if row.family != "yardstick"] == [2, 2]
    assert "cut all 4 network fits" in found.verdict()
    fold = networks[0]
    short = dataclasses.replace(fold, budget_seconds=0.2)
    long = dataclasses.replace(fold, budget_seconds=1.0)
    assert uneven([long, long]) == uneven([short, dataclasses.replace(long, cut_by_time=False)]) == ()
    assert "trained for 0.20 s to 1.00 s" in uneven([short, long])[0]


def test_out_holds_everything(stubs, table, tmp_path):
    out = tmp_path / "deep" / "out"
    found = compare_candidates(*table, stubs, out=out, **DEFAULTS)
    assert Comparison.load(out / "comparison.json") == found
    assert "<html" in (out / "report.html").read_text().lower()
    assert (out / "model.safetensors").read_text() == "noise 0.1"
    with np.load(out / "predictions.npz", allow_pickle=False) as arrays:
        assert arrays["models"].tolist() == [stub.name for stub in stubs]
        np.testing.assert_array_equal(arrays["prediction_0"], found.predictions["models"]["Hybrid"])
        assert arrays["classes"].tolist() == ["no", "yes"]
    assert not list(out.rglob("*.part"))


def test_an_interrupted_run_goes_on_where_it_was(stub_network, table, tmp_path):
    fitted = []

    def rows(fail_at=None):
        def before_fit(model):
            if len(fitted) == fail_at:
                raise KeyboardInterrupt
            fitted.append(model.settings.seed)

        made = [stub_network(n, "M", "mamba", noise=i, before_fit=before_fit) for i, n in enumerate("AB")]
        return (*made, Yardstick("dummy"))

    whole = compare_candidates(*table, rows(), **DEFAULTS)
    fitted.clear()
    with pytest.raises(KeyboardInterrupt):
        compare_candidates(*table, rows(fail_at=4), out=tmp_path, **DEFAULTS)
    assert len(fitted) == 4
    assert not (tmp_path / "comparison.json").exists()
    found = compare_candidates(*table, rows(), out=tmp_path, **DEFAULTS)
    assert len(fitted) == 6 + 1  # the two fits that were left, and the best network on all rows
    assert without_seconds(found) == without_seconds(whole)
    again = compare_candidates(*table, rows(), out=tmp_path, metric="accuracy", **DEFAULTS)
    assert len(fitted) == 7
    assert again.metric == "accuracy"
    assert again.rows[0].mean == pytest.approx(np.mean([f.scores["accuracy"] for f in again.folds if f.model == "A"]))
    compare_candidates(*table, rows(), out=tmp_path, resume=False, **DEFAULTS)
    assert len(fitted) == 7 + 7


def test_ctrl_c_that_training_took_ends_the_comparison(stub_network, table, tmp_path):
    def rows(stopped_by):
        network = stub_network("A", "M", "mamba")
        network.build = lambda settings: _Interrupted(stub_network("A", "M", "mamba").build(settings), stopped_by)
        return (network, Yardstick("dummy"))

    with pytest.raises(KeyboardInterrupt):
        compare_candidates(*table, rows("interrupt"), out=tmp_path, **DEFAULTS)
    assert not list((tmp_path / "fits").glob("A.*"))


class _Interrupted:
    def __init__(self, model, stopped_by):
        self.model, self.stopped_by = model, stopped_by

    def fit(self, X, y):
        self.model.fit(X, y)
        self.history_ = dataclasses.replace(self.model.history_, stopped_by=self.stopped_by)

    def predict_proba(self, X):
        return self.model.predict_proba(X)


def test_another_comparison_in_the_same_place_is_refused(stubs, table, tmp_path):
    frame, y = table
    compare_candidates(frame, y, stubs, out=tmp_path, **DEFAULTS)
    for X, changes, words in [
        (frame.assign(x=0.0), {}, "holds a comparison of another table. Use another directory, or remove this one"),
        (frame, {"folds": 2}, "of folds=3, and now folds=2. Use another"),
        (frame, {"trainer": TrainerConfig(lr=1.0)}, "of trainer.lr=0.0003, and now trainer.lr=1.0."),
        (frame, {"time_limit": 5.0}, "of time_limit=null, and now time_limit=5.0"),
    ]:
        with pytest.raises(DataError, match=words):
            compare_candidates(X, y, stubs, out=tmp_path, **(DEFAULTS | changes))
    with pytest.raises(DataError, match="of models="):
        compare_candidates(frame, y, stubs[1:], out=tmp_path, **DEFAULTS)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="`out` must be a directory"):
        compare_candidates(frame, y, stubs, out=tmp_path / "file", **DEFAULTS)


def test_a_damaged_directory_is_refused(stubs, table, tmp_path):
    compare_candidates(*table, stubs, out=tmp_path, **DEFAULTS)
    for name, words in [("Hybrid.MA.seed0.fold0.json", "its fit is made again"), ("settings.json", "cannot be used")]:
        path = tmp_path / "fits" / name
        assert path.is_file()
        path.write_text('{"cut')
        with pytest.raises(DataError, match=f"{name}' is damaged.*{words}"):
            compare_candidates(*table, stubs, out=tmp_path, **DEFAULTS)


def test_time_spent_before_counts(stub_network, table, tmp_path):
    seen = []
    rows = (
        stub_network("A", "M", "mamba", before_fit=lambda m: seen.append(m.settings.trainer.max_seconds)),
        Yardstick("dummy"),
    )
    settings = DEFAULTS | {"out": tmp_path, "time_limit": 100.0}
    compare_candidates(*table, rows, **settings)
    first = list(seen)
    assert first[0] == pytest.approx(0.97 * 100 / 4, rel=0.05)
    spent = tmp_path / "fits" / "A.M.seed0.fold0.json"
    values = json.loads(spent.read_text())
    spent.write_text(json.dumps(values | {"elapsed": 60.0}))
    (tmp_path / "fits" / "A.M.seed0.fold2.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    seen.clear()
    compare_candidates(*table, rows, **settings)
    assert seen[0] == pytest.approx(0.97 * 40 / 2, rel=0.05)


def test_progress_goes_to_standard_error(stubs, table, capsys):
    compare_candidates(*table, stubs, notes=("Something [was] assumed.",), **(DEFAULTS | {"progress": True}))
    said = capsys.readouterr()
    assert said.out == ""
    assert "Something [was] assumed." in said.err
    assert "Hybrid, fold 1 of 3: roc_auc 0." in said.err


def test_what_needs_networks_does_without(table, tmp_path):
    found = run(*table, models=["dummy", "linear"], n_jobs=1, out=tmp_path, progress=False)
    assert "No mixer was compared" in found.verdict()
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ConfigError, match="`max_epochs`"):
        run(*table, max_epochs=-1, progress=False)

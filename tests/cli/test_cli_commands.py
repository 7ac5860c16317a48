"""What the commands do: options reach the library, results reach the right stream, real runs end to end."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from mambattn.cli import main
from mambattn.cli._values import parse_value
from mambattn.compare import Comparison, load_bundled
from mambattn.configs import PreprocessingConfig
from mambattn.models import load


def invoke(command, **kwargs):
    result = CliRunner().invoke(main, command.split() if isinstance(command, str) else command, **kwargs)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def calls(monkeypatch, make_comparison):
    """Replace the comparison by a hand-made one, and keep what it was called with."""
    seen = []

    def run(X, y, **settings):
        seen.append((X, y, settings))
        return make_comparison()

    monkeypatch.setattr("mambattn.compare.run", run)
    return seen


def test_compare_hands_every_option_on(calls, tmp_path):
    invoke(
        "compare wine --folds 4 --seeds 2 --max-epochs 7 --time-limit 9.5 --models mlp,linear --schedule MMA "
        "--schedule=-M --ablate last_layer=attn,mamba --ablate d_state=8,16 --task classification --metric accuracy "
        f"--drop ash --categorical hue --device cpu --jobs 1 --random-state 5 --out {tmp_path}"
    )
    ((X, y, settings),) = calls
    assert "ash" not in X.columns
    assert (len(X), y.name) == (178, "cultivar")
    assert settings == {
        "models": ["mlp", "linear"],
        "task": "classification",
        "metric": "accuracy",
        "folds": 4,
        "seeds": 2,
        "time_limit": 9.5,
        "max_epochs": 7,
        "schedules": ("MMA", "-M"),
        "ablate": {"last_layer": ["attn", "mamba"], "d_state": [8, 16]},
        "preprocessing_config": PreprocessingConfig(categorical_columns=("hue",)),
        "device": "cpu",
        "n_jobs": 1,
        "random_state": 5,
        "out": tmp_path,
        "data_name": "wine",
        "target_name": "cultivar",
    }


def test_compare_prints_leaderboard_and_verdict(calls, make_comparison, tmp_path):
    result = invoke(f"compare wine --json {tmp_path / 'x.json'}")
    comparison = make_comparison()
    for row in comparison.rows:
        assert row.model in result.stdout
    assert comparison.verdict() in result.stdout
    assert json.loads((tmp_path / "x.json").read_text()) == comparison.to_dict()
    assert "Report:" not in result.stdout
    assert f"Report: {tmp_path / 'report.html'}" in invoke(f"compare wine --out {tmp_path}").stdout


def test_brackets_in_names_are_no_markup(monkeypatch, make_comparison):
    comparison = make_comparison()
    named = dataclasses.replace(comparison, data=comparison.data | {"name": "t[bold].csv", "target": "mg [/l]"})
    monkeypatch.setattr("mambattn.compare.run", lambda *_, **__: named)
    assert invoke("compare wine").stdout.startswith("t[bold].csv, mg [/l]: ")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_that_lacks_a_minus_gets_a_hyphen(calls, make_comparison, encoding):
    unspelled, spelled = (
        CliRunner(charset=charset).invoke(main, ["compare", "wine"]) for charset in ("utf-8", encoding)
    )
    assert spelled.exit_code == 0
    assert "−0." in unspelled.stdout
    numbers = re.compile(r"-?\d+\.\d+")
    assert numbers.findall(spelled.stdout) == numbers.findall(unspelled.stdout.replace("−", "-"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_standard_output_is_one_sentence():
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "mambattn.cli", "describe", "MA"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[0] == "Error: The output cannot be written: No space left on device."


def test_json_on_standard_output_is_alone_there(calls, make_comparison):
    result = invoke("compare wine --json -")
    assert json.loads(result.stdout) == make_comparison().to_dict()
    assert make_comparison().verdict() in result.stderr


@pytest.mark.parametrize(("columns", "n_lines"), [(60, 2), (80, 2), (140, 1)])
def test_no_figure_is_shortened_on_a_narrow_terminal(calls, make_comparison, monkeypatch, columns, n_lines):
    monkeypatch.setattr(sys.modules["mambattn.cli.compare"], "_PIPE_WIDTH", columns)
    board = invoke("compare wine").stdout.partition("Difference:")[0]
    assert "…" not in board
    assert max(map(len, board.splitlines())) <= columns
    comparison = make_comparison()
    assert f"{comparison.rows[0].mean:.4f}" in board
    assert ("mean ± sd" in board) == (n_lines == 1)


def test_a_column_without_a_name_is_told(calls, tmp_path):
    path = tmp_path / "saved.csv"
    path.write_text(",a,y\n" + "".join(f"{i},{i % 5},{'xy'[i % 2]}\n" for i in range(30)))
    assert "here called 'Unnamed: 0', is used to predict" in invoke(f"compare {path} --target y").stderr
    assert "Unnamed" not in invoke(["compare", str(path), "--target", "y", "--drop", "Unnamed: 0"]).stderr


def test_rows_without_a_target_are_told(calls, tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,u\n2,\n3,v\n")
    assert (
        "Note: 1 rows without a value of 'y' are left out." in invoke(f"compare {tmp_path / 't.csv'} --target y").stderr
    )


@pytest.mark.parametrize(
    ("options", "hint"),
    [("", "Give --out DIR, and a run that was interrupted can go on."), ("--out there", "it goes on from there.")],
)
def test_ctrl_c_is_130_with_a_hint(monkeypatch, options, hint):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mambattn.compare.run", interrupted)
    result = CliRunner().invoke(main, ["compare", "wine", *options.split()])
    assert result.exit_code == 130
    assert f"Interrupted. {'Run the same command again: ' if options else ''}{hint}" in result.stderr


def test_values_are_read_as_what_they_look_like():
    texts = ["3", "-1", "1e-3", "none", "True", "false", "attn", "A-A-"]
    assert [parse_value(text) for text in texts] == [3, -1, 1e-3, None, True, False, "attn", "A-A-"]


def test_fit_predict_describe_a_classifier(tmp_path):
    model, table = tmp_path / "m.safetensors", tmp_path / "t.csv"
    fitted = invoke(
        "fit wine --schedule MA --set model.d_model=8 --set model.n_heads=2 --set model.d_state=4 "
        "--set model.head_layer_sizes=16 --set preprocessing.numerical_preprocessing=ple "
        f"--set trainer.max_epochs=2 --set trainer.lr=1e-3 --random-state 3 --drop ash --out {model}"
    )
    assert "schedule    MA\n" in fitted.stdout
    assert "target      cultivar, multiclass\n" in fitted.stdout
    assert "on 36 held-out rows" in fitted.stdout
    estimator = load(model)
    assert estimator.model_config_.head_layer_sizes == (16,)
    assert (estimator.trainer_config_.lr, estimator.random_state) == (1e-3, 3)

    X, y = load_bundled("wine")
    X.assign(cultivar=y).iloc[::7, ::-1].to_csv(table, index=False)
    printed = invoke(f"predict {model} {table} --proba").stdout
    (tmp_path / "printed.csv").write_text(printed)
    got = pd.read_csv(tmp_path / "printed.csv")
    assert got.columns.tolist() == ["prediction", *(f"probability_{name}" for name in estimator.classes_)]
    assert got["prediction"].tolist() == estimator.predict(X.drop(columns="ash").iloc[::7]).tolist()
    np.testing.assert_allclose(got.iloc[:, 1:], estimator.predict_proba(X.drop(columns="ash").iloc[::7]), atol=1e-12)
    invoke(f"predict {model} {table} --proba --out {tmp_path / 'p.csv'}")
    assert (tmp_path / "p.csv").read_text() == printed

    facts = json.loads(invoke(f"describe {model} --json").stdout)
    assert (facts["model"], facts["schedule"]) == ("MambAttentionClassifier", "MA")
    assert [column["name"] for column in facts["columns"]] == [name for name in X.columns if name != "ash"]
    assert facts["settings"]["trainer"]["lr"] == 1e-3
    assert facts["stack"]["seq_len"] == 12
    assert [layer["letter"] for layer in facts["stack"]["layers"]] == ["M", "A"]
    text = invoke(f"describe {model}").stdout
    assert "d_model=8" in text
    assert "  alcohol: number\n" in text
    assert "A global attention" in text


def test_fit_and_predict_a_regression_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=80), "ward": rng.choice(list("abc"), 80)})
    frame["dose"] = 50 + 5 * frame["x"]
    frame.loc[3, "x"] = np.nan
    frame.to_csv(tmp_path / "t.csv", sep=";", decimal=",", index=False)
    model = tmp_path / "m.safetensors"
    fitted = invoke(f"fit {tmp_path / 't.csv'} --target dose --model MLP --set trainer.max_epochs=2 --out {model}")
    assert "target      dose, regression" in fitted.stdout
    assert "schedule    none: it has no mixer" in fitted.stdout
    assert "rmse" in fitted.stdout
    assert "Note: The target 'dose' is numeric" in fitted.stderr
    invoke(f"predict {model} {tmp_path / 't.csv'} --out {tmp_path / 'p.csv'}")
    got = pd.read_csv(tmp_path / "p.csv")["prediction"]
    np.testing.assert_allclose(got, load(model).predict(frame[["x", "ward"]]), rtol=1e-12)
    assert "  ward: category, 3 known" in invoke(f"describe {model}").stdout
    assert json.loads(invoke(f"describe {model} --json").stdout)["stack"] is None


def test_fit_writes_small_errors_with_figures_and_says_which_score_is_undefined(tmp_path):
    path = tmp_path / "t.csv"
    options = f"--target y --model mlp --set trainer.max_epochs=1 --out {tmp_path / 'm.safetensors'}"
    path.write_text("x,y\n" + "".join(f"{i},{i % 7}e-7\n" for i in range(30)))
    errors = invoke(f"fit {path} {options} --task regression").stdout.partition("rmse ")[2]
    assert 1e-7 < float(errors.partition(",")[0]) < 1e-6
    path.write_text("x,y\n1,.5\n2,1.5\n3,2.5\n")
    assert "r2 undefined" in invoke(f"fit {path} {options}").stdout


def test_a_model_fitted_without_names_is_matched_by_position(tmp_path):
    from mambattn.configs import MLPConfig, TrainerConfig
    from mambattn.models import MLPRegressor

    X = np.random.default_rng(0).normal(size=(40, 2))
    estimator = MLPRegressor(
        MLPConfig(d_model=4, layer_sizes=(4,)), trainer_config=TrainerConfig(max_epochs=1, verbose=0)
    )
    estimator.fit(X, X[:, 0]).save(tmp_path / "m.safetensors")
    pd.DataFrame(X, columns=["a", "b"]).to_csv(tmp_path / "t.csv", index=False)
    invoke(f"predict {tmp_path / 'm.safetensors'} {tmp_path / 't.csv'} --out {tmp_path / 'p.csv'}")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "p.csv")["prediction"], estimator.predict(X), rtol=1e-12)
    pd.DataFrame(X[:, :1], columns=["a"]).to_csv(tmp_path / "t.csv", index=False)
    refused = CliRunner().invoke(main, ["predict", str(tmp_path / "m.safetensors"), str(tmp_path / "t.csv")])
    assert refused.exit_code == 2
    assert "has 1 columns, however the model was fitted on 2 columns without names" in refused.stderr


def test_describe_a_schedule():
    stack = json.loads(invoke("describe MSA- --d-model 32 --seq-len 5 --json").stdout)
    assert (stack["schedule"], stack["d_model"], stack["seq_len"]) == ("MSA-", 32, 5)
    assert stack["n_parameters"] == sum(layer["n_parameters"] for layer in stack["layers"])
    text = invoke("describe LG").stdout
    assert "LG: d_model 64, seq_len 16" in text
    assert "global + local attention" in text


def test_a_real_comparison_in_a_process_of_its_own(tmp_path):
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mambattn.cli",
            "compare",
            "wine",
            "--folds",
            "2",
            "--models",
            "linear,dummy",
            "--jobs",
            "1",
            "--out",
            str(tmp_path / "out"),
            "--json",
            "-",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    values = json.loads(ran.stdout)
    assert [row["model"] for row in values["rows"]] == ["linear", "dummy"]
    assert "linear, fold 1 of 2" in ran.stderr
    assert Comparison.load(tmp_path / "out" / "comparison.json").to_dict() == values
    assert "<h1>Which mixer suits wine?</h1>" in (tmp_path / "out" / "report.html").read_text()
    assert os.listdir(tmp_path) == ["out"]


def test_a_real_ctrl_c_ends_with_130_and_the_fits_are_kept(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "mambattn.cli",
        "compare",
        "digits",
        "--models",
        "dummy,mambattention",
        "--jobs",
        "1",
        "--out",
        str(out),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while len(list((out / "fits").glob("dummy*.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert f"Interrupted. Run the same command again: it goes on from {out}." in errors
    assert "Traceback" not in errors
    assert len(list((out / "fits").glob("dummy*.json"))) == 3

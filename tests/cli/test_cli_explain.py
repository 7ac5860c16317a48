"""What ``mambattn explain`` writes and prints, and what it refuses."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from mambattn.cli import main
from mambattn.cli._explain_table import explain_table
from mambattn.configs import MambAttentionConfig, MLPConfig, TrainerConfig
from mambattn.explain.tables import explain_rows
from mambattn.models import MambAttentionClassifier, MambAttentionRegressor, MLPClassifier, load

PICTURES = {"layers", "rollout", "receptive_field", "importance", "interaction", "joint_effects", "row_1"}


def run(*arguments):
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def check_page_has(results, page):
    """Find the numbers of the table's sections, to the last digit, in the page."""
    assert re.findall(r'<a href="#([a-z]+)">', page) == [
        "maps", "flow", "attribution", "importance", "pairs", "order", "reach", "reading", "facts"
    ]  # fmt: skip
    rows, joint, order = (results[name] for name in ("rows", "joint", "order"))
    for values in (rows["importance"], *rows["interaction"], *joint["strength"], *order["importance"][:1]):
        assert all(f'data-value="{value!r}"' in page for value in values)
    for low, high in rows["interval"]:
        assert f'data-value="{low!r}">{low:.3g} to {high:.3g}<' in page
    assert f"moves by {100 * order['share']:.3g} % of the spread of outputs over rows" in page
    assert f"in the units of the output ({results['facts']['explained']})" in page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table in which only age says who is ill, and models of it."""
    here = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"ward": rng.choice(["east", "west"], 300), "dose": rng.normal(size=300)})
    frame["age"] = rng.normal(50, 10, 300).round()
    frame["ill"] = np.where(frame.age > 50, "yes", "no")
    frame.to_csv(here / "table.csv", index=False)
    frame.drop(columns="dose").to_csv(here / "lacking.csv", index=False)
    frame[:1].to_csv(here / "single.csv", index=False)
    trainer = TrainerConfig(max_epochs=12, lr=5e-3, batch_size=32, verbose=0, device="cpu")
    config = MambAttentionConfig(schedule="MA", d_model=16, d_state=4, n_heads=2, shuffle_embeddings=True)
    columns = ["ward", "dose", "age"]
    for name, cls, settings, target in (
        ("ill", MambAttentionClassifier, config, "ill"),
        ("age", MambAttentionRegressor, config, "age"),
        ("mlp", MLPClassifier, MLPConfig(d_model=4, layer_sizes=(4,)), "ill"),
    ):
        model = cls(settings, trainer_config=trainer, random_state=0)
        X = frame[columns].drop(columns=[target], errors="ignore")
        model.fit(X, frame[target]).save(here / f"{name}.safetensors")
    return here


def test_the_column_that_decides_is_found_and_everything_is_written(folder, tmp_path):
    out = tmp_path / "new" / "why"
    result = done(folder / "ill.safetensors", folder / "table.csv", "--target", "yes", "--rows", 20, "--out", out)
    columns = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("age", "ward", "dose"))]
    assert columns[0] == "age"
    assert sorted(columns) == ["age", "dose", "ward"]
    assert "log-odds of class yes" in result.stdout
    assert f"Page: {out / 'explain.html'}" in result.stdout
    assert {path.name for path in out.iterdir()} == {f"{name}.png" for name in PICTURES} | {
        "explain.html",
        "results.json",
    }
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in PICTURES)
    results = json.loads((out / "results.json").read_text())
    check_page_has(results, (out / "explain.html").read_text(encoding="utf-8"))
    frame = pd.read_csv(folder / "table.csv")[["ward", "dose", "age"]]
    picked = np.linspace(0, 299, 20).round().astype(int)
    want = explain_rows(load(folder / "ill.safetensors"), frame.iloc[picked], target="yes", background=frame)
    assert results["rows"]["values"] == [list(row) for row in want.values]
    assert results["rows"]["importance"] == pytest.approx(want.importance.tolist())
    assert results["order"]["share"] > 0


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_json_is_alone_on_standard_output(folder, method):
    options = ("--json", "--method", method, "--rows", 3, "--background", folder / "table.csv")
    result = done(folder / "age.safetensors", folder / "table.csv", *options)
    content = json.loads(result.stdout)
    assert content["attribution"]["method"].replace(" ", "_") == method
    assert len(content["attribution"]["values"]) == 3
    assert "in units of the target" in result.stderr


def test_the_page_has_the_heads_of_attention_in_the_order_of_the_columns(folder):
    found = explain_table(
        str(folder / "ill.safetensors"), str(folder / "table.csv"), target=None, method="lrp", n_rows=4,
        background=None, evaluate=False, seed=0, say=lambda _: None,
    )  # fmt: skip
    mamba, attention = found.maps
    assert mamba.labels == ("mean",)
    assert attention.labels == ("mean", "head 0", "head 1")
    for one, mean in zip(found.maps, found.rows.maps, strict=True):
        assert torch.equal(one.values[:, :1], mean.values)
    torch.testing.assert_close(attention.values[:, 1:].mean(1), attention.values[:, 0])
    assert found.labels[3].startswith("row 300: predicts ")


def test_one_row_is_compared_with_the_table(folder):
    result = done(folder / "ill.safetensors", folder / "table.csv", "--rows", 1)
    assert "1 of 300" in result.stdout
    assert "nan" not in result.stdout


def test_rows_that_do_not_differ(folder, tmp_path):
    frame = pd.read_csv(folder / "table.csv")
    frame.iloc[[0, 0, 0]].to_csv(tmp_path / "same.csv", index=False)
    result = done(folder / "ill.safetensors", tmp_path / "same.csv", "--background", folder / "table.csv")
    assert "inf" not in result.stdout
    assert "nan" not in result.stdout
    result = done(folder / "ill.safetensors", tmp_path / "same.csv")
    first, second = re.search(r"strongest pair +(\w+) and (\w+), ", result.stdout).groups()
    assert first != second


def test_methods_are_tested_on_the_rows(folder):
    result = done(folder / "ill.safetensors", folder / "table.csv", "--evaluate", "--rows", 24, "--json")
    scores = {score["method"]: score for score in json.loads(result.stdout)["scores"]}
    assert all(name in result.stderr for name in scores)
    line = next(line for line in result.stderr.splitlines() if line.startswith("lrp "))
    assert f"{scores['lrp']['completeness_error']:.1e}" in line
    for name in ("lrp", "integrated gradients", "occlusion"):
        assert scores[name]["gap"] > max(scores[name]["random_gap"])
        assert scores[name]["randomisation_correlation"] < 0.6
    assert scores["lrp"]["completeness_error"] <= 1e-3
    assert scores["gradient × input"]["completeness_error"] > 0.05
    assert scores["occlusion"]["completeness_error"] is None
    positive, negative = (scores["lrp"][order] for order in ("positive", "negative"))
    assert positive["values"][0] == pytest.approx(negative["values"][0])
    assert negative["auc"] - positive["auc"] == pytest.approx(scores["lrp"]["gap"])


def test_bad_input_is_one_clear_message(folder, tmp_path):
    table, model = folder / "table.csv", folder / "ill.safetensors"
    for arguments, message in (
        ((model,), "Give one of DATA, --text and --ids"),
        ((model, table, "--ids", "1,2"), "Give one of DATA, --text and --ids"),
        ((model, folder / "lacking.csv"), "lacks column 'dose'"),
        ((model, table, "--target", "maybe"), "one of the classes 'no', 'yes', however target='maybe'"),
        ((folder / "age.safetensors", table, "--target", "yes"), "MambAttentionRegressor has none"),
        ((folder / "mlp.safetensors", table), "Use MambAttention, Mambular or FTTransformer"),
        ((folder, table), "is a folder"),
        ((model, folder / "single.csv"), "Give --background FILE"),
        ((model, table, "--background", folder / "lacking.csv"), "lacks column 'dose'"),
        ((model, "--text", "hello"), "no config.json"),
        ((model, "--ids", "1,2", "--rows", 3), "--rows is for rows of a table"),
        ((folder / "gone.safetensors", table), "gone.safetensors"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr, arguments
        assert result.stdout == ""


def test_a_folder_that_cannot_be_is_told_before_the_work(folder, tmp_path):
    (tmp_path / "file").touch()
    result = run(folder / "gone.safetensors", folder / "table.csv", "--out", tmp_path / "file" / "why")
    assert result.exit_code == 2
    assert "why' cannot be used: Not a directory" in result.stderr


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_cannot_be_is_one_clear_message(folder, seed):
    result = run(folder / "ill.safetensors", folder / "table.csv", "--random-state", seed, "--rows", 2)
    assert result.exit_code == 2
    assert f"`seed` must be an integer from 0 to 2**63 − 1, however seed={seed}" in result.stderr


# Picks the second layer and the third line of its map by clicks, and notes what the page then shows.
CLICKS = """<script>
(async () => {
  const shown = () => JSON.parse(document.documentElement.dataset.shown ?? "{}");
  const until = async (is) => { while (!is(shown())) await new Promise((done) => setTimeout(done, 10)); };
  await until((state) => state.layer === 0);
  document.getElementById("pick-layer").children[1].click();
  await until((state) => state.layer === 1);
  const map = document.getElementById("map"), box = map.getBoundingClientRect();
  const clientX = box.left + +map.dataset.left + 5, clientY = box.top + +map.dataset.top + 2.5 * map.dataset.height;
  map.dispatchEvent(new MouseEvent("click", { clientX, clientY, bubbles: true }));
  await until((state) => state.query === 2);
  const says = document.getElementById("map-says").textContent;
  document.body.insertAdjacentHTML("beforeend", `<template id="seen">${says}</template>`);
})();
</script>"""


@pytest.mark.slow
@pytest.mark.browser
def test_titanic_is_explained_in_a_minute(data_dir, tmp_path, open_page):
    frame = pd.read_csv(data_dir / "titanic.csv")
    model = MambAttentionClassifier(
        MambAttentionConfig(d_model=64, n_layers=4, n_attention_layers=1, n_mamba_per_attention=1, n_heads=8),
        trainer_config=TrainerConfig(lr=3e-4, batch_size=128, max_epochs=10, verbose=0, device="cpu"),
        random_state=101,
    ).fit(frame.drop(columns="Survived"), frame["Survived"])
    model.save(tmp_path / "model.safetensors")
    start = time.monotonic()
    done(tmp_path / "model.safetensors", data_dir / "titanic.csv", "--target", 1, "--out", tmp_path / "out")
    assert time.monotonic() - start < 60
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    importance = dict(zip(results["rows"]["names"], results["rows"]["importance"], strict=True))
    assert set(sorted(importance, key=importance.get)[-3:]) >= {"Sex", "Pclass"}
    page = (tmp_path / "out" / "explain.html").read_text(encoding="utf-8")
    check_page_has(results, page)
    document, console = open_page(page.replace("</body>", f"{CLICKS}</body>"))
    assert console == []
    seen = re.findall(r'<template id="seen">(.*?)</template>', document)[-1]
    assert seen.startswith("Layer 1, global attention, mean: position 2, Age = 22, reads most from ")

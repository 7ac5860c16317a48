"""Rows and results: what they refuse, what the table says, and what comes back from a file."""

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from mambattn._errors import ConfigError, DataError
from mambattn.recall.results import Results, Row
from mambattn.tasks import parse_task

LENGTHS = (32, 64, 128)
GOOD = {
    "task": "recall",
    "arch": "mamba",
    "seed": 0,
    "lr": 0.001,
    "steps": 100,
    "solved": True,
    "accuracy": {"32": 1.0, "64": 0.75},
    "finished": True,
}


def rows(arch="mamba", *, task="recall", seeds=5, lengths=LENGTHS, finished=True):
    rng = np.random.default_rng(len(arch))
    return [
        Row(task, arch, seed, 1e-3, 100, seed != 1, dict(zip(lengths, rng.uniform(0.1, 1, len(lengths)), strict=True)), finished)
        for seed in range(seeds)
    ]  # fmt: skip


def test_a_row_goes_through_json():
    row = Row.from_dict(GOOD)
    assert row == Row("recall", "mamba", 0, 0.001, 100, True, {32: 1.0, 64: 0.75})
    assert row.to_dict() == GOOD
    assert Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    assert Row.from_dict({name: value for name, value in GOOD.items() if name != "finished"}) == row


def test_a_row_takes_numpy_numbers_and_orders_lengths():
    row = Row("t", "MA", np.int64(3), np.float32(0.5), np.int32(7), False, {np.int64(64): np.float32(0.5), 32: 1})  # pyright: ignore
    assert row.to_dict() | {"accuracy": list(row.to_dict()["accuracy"].items())} == {
        "task": "t", "arch": "MA", "seed": 3, "lr": 0.5, "steps": 7, "solved": False, "accuracy": [("32", 1.0), ("64", 0.5)], "finished": True
    }  # fmt: skip
    json.dumps(row.to_dict())


def test_a_cut_row_needs_neither_learning_rate_nor_accuracy():
    cut = Row.from_dict(GOOD | {"lr": None, "accuracy": {}, "finished": False})
    assert math.isnan(cut.lr)
    assert cut.to_dict()["lr"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": ""}, r"`task` must be a name, however task=''\. Use one"),
        ({"arch": 3}, r"`arch` must be a name, however arch=3\."),
        ({"seed": -1}, r"`seed` must be an integer from 0, however seed=-1\."),
        ({"seed": "0"}, r"`seed` must be an integer from 0, however seed='0'\."),
        ({"steps": 1.5}, r"`steps` must be an integer from 0, however steps=1\.5\."),
        ({"steps": True}, r"`steps` must be an integer from 0, however steps=True\."),
        ({"solved": 1}, r"`solved` must be true or false, however solved=1\."),
        ({"finished": None}, r"`finished` must be true or false, however finished=None\."),
        ({"lr": 0}, r"`lr` must be a number above 0, however lr=0\."),
        ({"lr": None}, r"`lr` must be a number above 0, however lr=nan\."),
        ({"lr": "fast"}, r"`lr` must be a number above 0, however lr='fast'\."),
        (
            {"accuracy": [1.0]},
            r"`accuracy` must map lengths to numbers from 0 to 1, however accuracy=\[1\.0\]\. Use a mapping",
        ),
        ({"accuracy": {"long": 1.0}}, r"`accuracy` must map lengths .* however accuracy={'long': 1\.0}\."),
        ({"accuracy": {"32": 1.01}}, r"`accuracy` must map lengths .* however accuracy={32: 1\.01}\."),
        ({"accuracy": {"32": None}}, r"`accuracy` must map lengths .* however accuracy={32: None}\."),
        ({"accuracy": {"32": math.nan}}, r"`accuracy` must map lengths .* however accuracy={32: nan}\."),
        ({"acuracy": {}}, r"A row has no field 'acuracy'\. Did you mean 'accuracy'\?"),
    ],
)
def test_a_malformed_row_is_refused_with_its_number(changes, message):
    with pytest.raises(DataError, match=f"^Row 2: {message}"):
        Results.from_rows([GOOD | {"seed": 7}, GOOD | changes])


def test_rows_that_lack_a_field_or_are_none():
    with pytest.raises(
        DataError, match=r"^Row 1: A row must have 'arch', however it has task, seed\. Use the whole row\."
    ):
        Results.from_rows([{"task": "recall", "seed": 0}])
    with pytest.raises(
        DataError, match=r"^Row 1: A row must be a mapping, however it is 3\. Use an object with task, arch"
    ):
        Results.from_rows([3])  # pyright: ignore


def test_rows_and_settings_belong_together():
    settings = {"tasks": ["recall"], "archs": ["mamba"], "lengths": [32, 64, 128]}
    Results(tuple(rows()), settings)
    for changes, message in (
        ({"tasks": "recall"}, r"`settings` must have the list 'tasks', however tasks='recall'\."),
        ({"archs": None}, r"`settings` must have the list 'archs', however archs=None\."),
        ({"archs": ["MA"]}, r"`archs` must have all that the rows have, however the row of task='recall', arch='mamba', seed=0 is none of MA\."),
        ({"tasks": ["delay"]}, r"`tasks` must have all that the rows have"),
        ({"lengths": [32, 256]}, r"`accuracy` must have every length of a study, however the row of .*seed=0 has none at 256\. Use rows of one study"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            Results(tuple(rows()), settings | changes)
    with pytest.raises(
        DataError, match=r"`rows` must have each seed once, however the row of .*seed=4 is there twice\."
    ):
        Results((*rows(), rows()[4]), settings)


def test_settings_come_from_the_rows_in_their_order():
    results = Results.from_rows([*rows("rotary", task="recall"), *rows("mamba", task="delay")], {"train_length": 32})
    assert results.settings == {
        "tasks": ["recall", "delay"], "archs": ["rotary", "mamba"], "seeds": [0, 1, 2, 3, 4],
        "lengths": [32, 64, 128], "train_length": 32,
    }  # fmt: skip
    assert Results.from_rows(results.rows, {"archs": ["mamba", "rotary"]}).settings["archs"] == ["mamba", "rotary"]


def test_the_table_against_numpy():
    given = rows()
    summary = Results.from_rows(given[::-1], {"train_length": 32}).table()
    [cell] = summary
    assert (cell.task, cell.arch, cell.finished, cell.n, cell.n_solved) == ("recall", "mamba", True, 5, 4)
    assert summary.chance == {"recall": parse_task("recall").chance}
    rng = np.random.default_rng(0)
    for at in cell.lengths:
        values = np.array([row.accuracy[at.seq_len] for row in given])
        assert (at.min, at.max) == (values.min(), values.max())
        assert at.mean == pytest.approx(values.mean())
        draws = rng.choice(values, (40_000, 5)).mean(axis=1)
        np.testing.assert_allclose([at.low, at.high], np.quantile(draws, [0.025, 0.975]), atol=0.015)


def test_the_table_of_one_task():
    results = Results.from_rows([*rows(task="recall"), *rows(task="delay"), *rows("rotary", task="my own")])
    assert [(cell.task, cell.arch) for cell in results.table("delay")] == [("delay", "mamba"), ("delay", "rotary")]
    assert len(results.table()) == 6
    assert set(results.table().chance) == {"recall", "delay"}
    with pytest.raises(
        ConfigError, match=r"`task` must be one of this study, however task='dealy'\. Did you mean 'delay'\?"
    ):
        results.table("dealy")


def test_unfinished_cells_have_no_figures():
    given = [
        *rows("mamba"),
        *rows("rotary", finished=False),
        dataclasses.replace(rows("MA")[0], finished=False, accuracy={}),
    ]
    results = Results.from_rows(given, {"archs": ["mamba", "rotary", "MA", "nope"]})
    assert [cell.finished for cell in results.table()] == [True, False, False, False]
    assert all(not cell.lengths and cell.n == 0 for cell in results.table() if not cell.finished)
    assert [line for line in str(results.table()).splitlines() if "unfinished" in line] == [
        "rotary  unfinished", "MA  unfinished", "nope  unfinished"
    ]  # fmt: skip
    # One seed that was cut is enough.
    partly = [dataclasses.replace(row, finished=row.seed != 3) for row in rows()]
    assert not Results.from_rows(partly).is_finished("recall", "mamba")
    assert "unfinished" in str(Results.from_rows(partly[3:4]).table())


def fixed(arch, *curves, task="my own"):
    return [Row(task, arch, seed, 1e-3, 9, curve[0] >= 0.99, dict(zip(LENGTHS, curve, strict=True))) for seed, curve in enumerate(curves)]  # fmt: skip


def test_the_table_prints():
    results = Results.from_rows(
        [
            *fixed("mamba", (1, 0.9996, 0.5), (1, 0.9994, 0.4)),
            *fixed("hybrid_a:log_scaling=test", (0.98, 0.9, 0), (1, 0.8, 0)),
        ],
        {"train_length": 32},
    )
    assert str(results.table()) == "\n".join(
        (
            "my own: accuracy by length, trained at 32",
            "        solved         32         64        128",
            "mamba      2/2       1.00       1.00       .450",
            "  min–max       1.00–1.00  .999–1.00  .400–.500",
            "  95 %          1.00–1.00  .999–1.00  .400–.500",
            "hybrid_a:log_scaling=test",
            "           1/2       .990       .850       .000",
            "  min–max       .980–1.00  .800–.900  .000–.000",
            "  95 %          .980–1.00  .800–.900  .000–.000",
            "",
            "mean, range and 95 % bootstrap interval of the mean over seeds",
        )
    )


@pytest.mark.parametrize("n_lengths", [1, 6, 11, 12, 30])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_of_the_table_is_wider_than_the_terminal(n_lengths, width):
    lengths = [32 * 2**i for i in range(n_lengths)] if n_lengths < 11 else list(range(32, 32 + n_lengths))
    results = Results.from_rows([*rows(lengths=lengths), *rows("hybrid_b", lengths=lengths)])
    console = Console(file=io.StringIO(), width=10_000, color_system=None)
    console.print(*results.table().__rich_console__(console, console.options.update(width=width)), sep="\n")
    lines = console.file.getvalue().splitlines()  # pyright: ignore
    assert max(len(line.rstrip()) for line in lines if not line.startswith("mean,")) <= width
    headings = [line.split()[1:] for line in lines if line.strip().startswith("solved")]
    assert [int(length) for heading in headings for length in heading] == lengths
    assert len(headings) == 1 or width < 14 + 6 * n_lengths


def test_results_go_through_files(tmp_path):
    settings = {"train_length": 32, "preset": None, "lrs": (1e-3, 3e-3), "seeds": (0, 1, 2, 3, 4)}
    given = [*rows("mamba"), *rows("hybrid_a"), *rows("rotary", finished=False)]
    results = Results.from_rows(given, settings)
    whole = results.to_dict()
    assert {"settings", "rows", "table", "links"} < set(whole)
    assert [link["left"] for link in whole["links"]["links"]] == ["rotary", "mamba"]
    (tmp_path / "all.json").write_text(json.dumps(whole, allow_nan=False))
    again = Results.read(tmp_path / "all.json")
    assert again.rows == results.rows
    assert again.to_dict() == whole
    # A list of rows, with the settings beside it and without.
    (tmp_path / "results.json").write_text(json.dumps(whole["rows"], allow_nan=False))
    assert Results.read(tmp_path, {"train_length": 64}).settings["train_length"] == 64
    assert "links" not in Results.read(tmp_path / "results.json").to_dict()
    (tmp_path / "settings.json").write_text(json.dumps(whole["settings"]))
    assert Results.read(tmp_path).to_dict() == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot be read as JSON: .*No such file.*Use the files of `mambattn recall --out`\."),
        ("[{", r"cannot be read as JSON: Expecting property name"),
        ("3", r"must hold a list of rows or the results of a study, however it holds other JSON\. Use the results\.json"),
        ('{"format": "mambattn comparison"}', r"must hold a list of rows or the results"),
        ('{"format": "mambattn recall study", "format_version": 2}', r"has format_version=2, and this mambattn reads up to 1\. Update"),
        ('{"format": "mambattn recall study", "format_version": "2"}', r"is damaged: TypeError\(.*\)\. Use the file as it was written\."),
        ('{"format": "mambattn recall study", "format_version": 1}', r"is damaged: KeyError\('rows'\)\. Use the file as it was written\."),
        ('{"format": "mambattn recall study", "rows": [], "settings": 3}', r"is damaged: TypeError"),
        ('[{"task": 3}]', r"file\.json': Row 1: A row must have 'arch'"),
    ],
)  # fmt: skip
def test_files_that_hold_no_results(tmp_path, text, message):
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        Results.read(path)

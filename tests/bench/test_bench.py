"""The benchmark: cases are those documented, wrong results are refused, and the command writes what it prints."""

import json

import pytest
import torch
from click.testing import CliRunner

from mambattn.bench import CASES, ScanCase, WrongResultError, __main__, cases, measure
from mambattn.bench.measure import TOLERANCE, check

SMALL = ScanCase("small", 2, 8, 5, 4, is_default=True)


def test_the_documented_shapes_are_registered():
    assert [case.shape for case in CASES] == [
        (256, 128, 12, 128),
        (64, 128, 64, 16),
        (64, 128, 512, 16),
        (1, 1536, 2048, 16),
    ]
    assert [case.is_default for case in CASES] == [True, True, False, False]


@pytest.mark.parametrize("name", cases.contenders())
def test_every_contender_is_right(name):
    assert check(SMALL, cases.contenders()[name]) < TOLERANCE


def test_a_wrong_gradient_is_refused():
    def wrong(**inputs):
        return cases.unbind_loop(**inputs | {"A": inputs["A"].detach() + 0 * inputs["A"]})

    with pytest.raises(WrongResultError, match=r"broken at \(2, 8, 5, 4\): the gradient of A is off by .* no time"):
        measure(SMALL, {"unbind loop": cases.unbind_loop, "broken": wrong}, 1)


def test_a_nan_is_refused():
    with pytest.raises(WrongResultError, match=r"y is off by nan"):
        check(SMALL, lambda **inputs: cases.unbind_loop(**inputs) * torch.nan)


def test_ratios_are_to_the_unbind_loop():
    rows = measure(SMALL, cases.contenders(), 3)
    assert [row.contender for row in rows] == list(cases.contenders())
    assert rows[0].ratio == 1.0
    for row in rows:
        assert row.ratio == pytest.approx(rows[0].total_ms / row.total_ms)
        assert 0 < row.best_ms <= row.total_ms


def test_command_prints_and_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(__main__, "CASES", (SMALL,))
    file = tmp_path / "bench.json"
    result = CliRunner().invoke(__main__.main, ["--rounds", "2", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2, 8, 5, 4" in result.output
    written = json.loads(file.read_text())
    assert written["machine"]["threads"] == "1"
    assert [row["contender"] for row in written["rows"]] == list(cases.contenders())


def test_command_reports_no_time_of_a_wrong_result(monkeypatch, tmp_path):
    monkeypatch.setattr(__main__, "CASES", (SMALL,))
    loops = {"unbind loop": cases.unbind_loop, "broken": lambda **inputs: 2 * cases.unbind_loop(**inputs)}
    monkeypatch.setattr(__main__, "contenders", lambda: loops)
    file = tmp_path / "bench.json"
    result = CliRunner().invoke(__main__.main, ["--json", str(file)])
    assert result.exit_code == 1
    assert "wrong result: broken at (2, 8, 5, 4): y is off by" in result.output
    assert not file.exists()

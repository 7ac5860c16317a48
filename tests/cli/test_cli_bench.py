"""`mambattn bench`: what it prints and writes, and that a wrong result ends it without a time."""

import json

import pytest
from click.testing import CliRunner

from mambattn.bench import Case, cases, problems
from mambattn.bench.contender import Contender
from mambattn.cli import main

SMALL = Case("small", "selective_scan", (2, 8, 5, 4), "a test")


@pytest.fixture
def bench(monkeypatch):
    """Call the command with one small case registered."""
    monkeypatch.setattr(cases, "CASES", (SMALL,))
    return lambda *arguments: CliRunner().invoke(main, ["bench", "--device", "cpu", *arguments])


def test_it_prints_and_writes(bench, tmp_path):
    file = tmp_path / "bench.json"
    result = bench("--rounds", "2", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "small: selective_scan, float32" in result.stdout
    assert "unbind loop" in result.stdout
    assert "limits: exponentials" in result.stdout
    written = json.loads(file.read_text())
    assert written["machine"]["threads"] == "1"
    assert written["cases"][0]["sizes"] == [2, 8, 5, 4]
    assert [row["contender"] for row in written["rows"]][:3] == ["unbind loop", "lean loop", "torch"]


def test_it_reports_no_time_of_a_wrong_result(bench, monkeypatch, tmp_path):
    broken = Contender("broken", lambda **inputs: 2 * problems.unbind_loop(**inputs))
    monkeypatch.setattr("mambattn.bench.suite.contenders", lambda case, device: [broken])
    file = tmp_path / "bench.json"
    result = bench("--json", str(file))
    assert result.exit_code == 1
    assert "wrong result: broken at small: output 0 is off by" in result.stderr
    assert result.stdout == ""
    assert not file.exists()


def test_it_lists(bench):
    result = bench("--list")
    assert result.stdout == "small: selective_scan, float32, batch 2, d_inner 8, seq_len 5, d_state 4; a test\n"


def test_an_unknown_case_is_refused(bench):
    result = bench("--case", "smal")
    assert result.exit_code == 2
    assert "`case` must be a registered one, however case='smal'. Did you mean 'small'?" in result.stderr

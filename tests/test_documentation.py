"""Every Python block of the documentation runs as it stands, in an empty folder; links lead somewhere, options exist."""

import re
from pathlib import Path

import pytest

from mambattn.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [
    *ROOT.glob("*.md"),
    *(page for part in ("benchmarks", "docs", "src", "studies") for page in (ROOT / part).rglob("*.md")),
]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf8"), re.MULTILINE | re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "time_limit=120" in block:
        pytest.skip("two minutes of training: the demo runs the same")
    exec(compile(block, "block", "exec"), {})


def test_the_readme_names_the_test_command():
    assert "\nmake test " in (ROOT / "README.md").read_text("utf8")


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf8")):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings], (
            link
        )


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_the_options_that_they_are_shown_with(page):
    text = page.read_text("utf8")
    shown = re.findall(r"^mambattn .*$", text, re.MULTILINE) + re.findall(r"`(mambattn [^`]*)`", text)
    for line in shown:
        _, name, *words = line.split(" #")[0].split()
        assert name in main.commands, line
        known = {option for param in main.commands[name].params for option in (*param.opts, *param.secondary_opts)}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line

"""Every Python block of the README and of the documentation runs as it stands, in an empty folder."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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

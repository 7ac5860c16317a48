"""The hand-made comparison and headless Chromium as fixtures."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., Any]:
    path = Path(__file__).parents[1] / "plots" / "sample.py"
    spec = importlib.util.spec_from_file_location("sample_comparison", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_comparison


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)


@pytest.fixture
def open_page(tmp_path) -> Callable[[str], tuple[str, list[str]]]:
    """Open a page, and return its document after the scripts ran and the lines of its console."""
    if CHROMIUM is None:
        pytest.skip("no chromium in PATH")

    def opened(text: str) -> tuple[str, list[str]]:
        page = tmp_path / "report.html"
        page.write_text(text, encoding="utf-8")
        ran = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]

    return opened

"""Shared test set-up: one thread (tiny models are far faster so), hand-made results, the folder of real data and a browser."""

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    # The GPU kernels run in triton's interpreter, which is chosen before triton is imported for the first time.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell starts its background jobs with Ctrl-C ignored, and that is inherited; the tests of Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep what a test makes of the number of threads from the next one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load_sample(name: str) -> Any:
    """Import a module beside the tests of the figures."""
    spec = importlib.util.spec_from_file_location(f"plots_{name}", Path(__file__).parent / "plots" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., Any]:
    """Give the maker of a hand-made comparison."""
    return load_sample("sample").make_comparison


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Any]:
    """Give the maker of a hand-made recall study."""
    return load_sample("recall_sample").make_study


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Give the folder of real data sets, or skip."""
    folder = Path(os.environ.get("MAMBATTN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of data sets; set MAMBATTN_DATA")
    return folder


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

"""The hand-made comparison as a fixture."""

import importlib.util
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

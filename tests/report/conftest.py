"""The hand-made comparison and the hand-made recall study as fixtures."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def load(name: str) -> Any:
    path = Path(__file__).parents[1] / "plots" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"plots_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., Any]:
    return load("sample").make_comparison


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Any]:
    return load("recall_sample").make_study

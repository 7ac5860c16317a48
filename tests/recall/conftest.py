"""A study of a second or two, and what its directory holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mambattn.recall import Study

TINY: dict[str, Any] = {
    "tasks": ("induction",),
    "archs": ("mamba", "learned"),
    "seeds": (0, 3),
    "lrs": (1e-2, 3e-3),
    "steps": 60,
    "train_length": 16,
    "lengths": (16, 24),
    "d_model": 8,
    "d_state": 4,
    "batch": 4,
    "n_validation": 32,
    "n_test": 32,
    "device": "cpu",
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Study]:
    """Make a tiny study with some settings changed."""
    return lambda **changes: Study(**{**TINY, **changes})


@pytest.fixture(scope="session")
def kept() -> Callable[[Path], tuple[bytes, dict[str, Any]]]:
    """Read the bytes of results.json, and by cell what cells.jsonl says but for the seconds."""

    def read(out: Path) -> tuple[bytes, dict[str, Any]]:
        cells = [json.loads(line) for line in (out / "cells.jsonl").read_text().splitlines()]
        by_cell = {f"{cell['rows'][0]['task']} {cell['rows'][0]['arch']}": cell for cell in cells}
        assert len(by_cell) == len(cells)
        assert all(cell.pop("seconds") > 0 for cell in cells)
        return (out / "results.json").read_bytes(), by_cell

    return read

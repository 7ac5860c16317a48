"""Files that a reader never sees half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file", "write_text"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file in one step: a reader sees the old one or the whole new one.

    Parameters
    ----------
    path : Path
        Where the file is to be.

    Yields
    ------
    Path
        Where to write it; it takes its place when the block ends, and is removed if that fails.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in one step; see `whole_file`.

    Parameters
    ----------
    path : Path
        Where.
    text : str
        What.
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")

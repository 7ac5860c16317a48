"""Files that a reader never sees half written, and directories that one run at a time writes in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mambattn._errors import DataError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["make_directory", "reserved", "whole_file", "write_text"]


def make_directory(out: Path) -> None:
    """Make a directory where it is missing.

    Parameters
    ----------
    out : Path
        The directory.

    Raises
    ------
    DataError
        If it is a file.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"`out` must be a directory, however {str(out)!r} is a file. Use another name.")
    out.mkdir(parents=True, exist_ok=True)


@contextmanager
def reserved(out: Path) -> Iterator[None]:
    """Keep other runs out of a directory, which is made where it is missing, while the block runs.

    The lock is one of the operating system on the file `lock` in it, so it ends with the process that holds it, however
    that ends. Worker processes do not inherit it.

    Parameters
    ----------
    out : Path
        The directory.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    DataError
        If it is a file, or another run holds it.
    """
    make_directory(out)
    path = out / "lock"
    with path.open("ab") as file:
        try:
            _lock(file)
            is_ours = os.path.samestat(os.fstat(file.fileno()), path.stat())  # else its run has just ended
        except (BlockingIOError, PermissionError, FileNotFoundError):
            is_ours = False
        except OSError:  # a file system without locks: it cannot tell, so it forbids nothing
            is_ours = True
        if not is_ours:
            raise DataError(
                f"`out` must be the directory of one run at a time, however another run is at work in {str(out)!r}. "
                "Wait until it has ended, or use another directory."
            )
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps an open file
                path.unlink()


def _lock(file: BinaryIO) -> None:
    """Lock a file for this process, or raise an OSError at once."""
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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

"""The compiled scan: finds the build that suits the processor, describes its arguments, and runs it on threads."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["ISAS", "Job", "Library", "View", "load_best", "load_isa", "why_missing"]

ISAS = ("baseline", "avx2", "avx512")
_FOLDER = Path(__file__).parent
_NOTE = _FOLDER / "build_note.txt"


class View(ctypes.Structure):
    """A sequence as the C code sees it: strides in floats, time in the order of the scan."""

    _fields_ = [("data", ctypes.c_void_p), *((axis, ctypes.c_int64) for axis in ("batch", "time", "group"))]


class Job(ctypes.Structure):
    """The arguments of a scan; the fields are those of csrc/scan.h, in the same order."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "seq_len", "n_groups", "d_group", "d_state", "chunk"),
                *("batch_parts", "channel_parts", "dt_softplus", "next"),
            )
        ),
        *((name, View) for name in ("u", "dt", "z", "B", "C", "y", "dout", "du", "ddt", "dz", "dB", "dC")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("A2", "D", "bias", "initial_state", "reset", "final_state", "checkpoints"),
                *("dfinal", "dinitial", "dA", "dD", "dbias"),
            )
        ),
        ("dBC_part", ctypes.c_int64),
    ]


class _Pool:
    """The threads that help the calling one; made on first use, made anew when more are wanted or after a fork."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Drop the threads without waiting for them: in a forked child they do not exist."""
        self._executor, self._size = None, 0

    def executor(self, size: int) -> ThreadPoolExecutor:
        """Give an executor of at least `size` threads."""
        if self._executor is None or self._size < size:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
            self._executor, self._size = ThreadPoolExecutor(size, thread_name_prefix="mambattn"), size
        return self._executor


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


@dataclass(frozen=True)
class Library:
    """One loaded build of the C code.

    Parameters
    ----------
    isa : str
        The instruction set it is for, one of `ISAS`.
    lanes : int
        Channels in one of its vectors.
    handle : ctypes.CDLL
        The loaded library.
    """

    isa: str
    lanes: int
    handle: ctypes.CDLL

    def run(self, job: Job, *, backward: bool) -> None:
        """Run a job on up to torch.get_num_threads() threads; the result does not depend on how many.

        Parameters
        ----------
        job : Job
            The arguments; the tensors behind its pointers must stay alive meanwhile.
        backward : bool
            Whether to compute the gradients rather than the output.
        """
        items = job.batch_parts * job.n_groups * job.channel_parts
        threads = min(torch.get_num_threads(), items)
        row = -(-self.handle.mambattn_scan_scratch(ctypes.byref(job)) // 16) * 16
        scratch = torch.empty(threads + 1, row, dtype=torch.float32)
        start = -(-scratch.data_ptr() // 64) * 64

        def take_items(thread: int) -> None:
            self.handle.mambattn_scan(ctypes.byref(job), start + thread * row * 4, int(backward))

        if threads <= 1:
            take_items(0)
            return
        helpers = [_pool.executor(threads - 1).submit(take_items, thread) for thread in range(1, threads)]
        take_items(0)
        for helper in helpers:
            helper.result()


def _open(isa: str) -> ctypes.CDLL:
    handle = ctypes.CDLL(str(_FOLDER / f"_scan_{isa}.so"))
    handle.mambattn_scan_scratch.restype = ctypes.c_int64
    handle.mambattn_scan_scratch.argtypes = [ctypes.c_void_p]
    handle.mambattn_scan.restype = None
    handle.mambattn_scan.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    return handle


def load_isa(isa: str) -> Library | None:
    """Load the build for one instruction set.

    Parameters
    ----------
    isa : str
        One of `ISAS`.

    Returns
    -------
    Library or None
        The library, or None if it was not built or this processor cannot run it.
    """
    if not (_FOLDER / f"_scan_{isa}.so").exists():
        return None
    if isa != "baseline" and _open("baseline").mambattn_best_isa() < ISAS.index(isa):
        return None
    handle = _open(isa)
    return Library(isa, handle.mambattn_lanes(), handle)


def load_best() -> Library | None:
    """Load the fastest build that this processor can run.

    Returns
    -------
    Library or None
        The library, or None if nothing was built.
    """
    if not (_FOLDER / "_scan_baseline.so").exists():
        return None
    return next(library for isa in reversed(ISAS) if (library := load_isa(isa)) is not None)


def why_missing() -> str:
    """Say why there is no compiled scan.

    Returns
    -------
    str
        The note that the build left, and how to mend it.
    """
    note = _NOTE.read_text(encoding="utf-8").strip() if _NOTE.exists() else "the package was not built on this machine"
    return f"{note}. Install gcc or clang, then reinstall mambattn from source (pip install --no-binary mambattn ...)"

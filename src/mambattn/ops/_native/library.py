"""The compiled kernels: finds the build that suits the processor, describes tensors to C, and runs jobs on threads."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mambattn.ops._custom import dense

__all__ = [
    "ISAS",
    "TYPES",
    "Library",
    "View",
    "current",
    "load_best",
    "load_isa",
    "missing",
    "pointer",
    "token_view",
    "view",
]

ISAS = ("baseline", "avx2", "avx512")
TYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Element types of a sequence, in the order that csrc/sequence.h numbers them."""

_FOLDER = Path(__file__).parent
_NOTE = _FOLDER / "build_note.txt"


class View(ctypes.Structure):
    """A sequence as the C code sees it: strides in elements, time in the order of the scan, and the type."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "time", "group", "type")),
    ]


def view(x: Tensor | None, reverse: bool = False) -> View:
    """Describe a sequence to the C code.

    Parameters
    ----------
    x : Tensor or None
        Of shape (batch, seq_len, channels) or (batch, seq_len, groups, channels), the last axis of unit stride, in one
        of `TYPES`; it must stay alive while the view is in use.
    reverse : bool, default False
        Whether the scan starts at the last token.

    Returns
    -------
    View
        The description; of no data for None.
    """
    if x is None:
        return View(None, 0, 0, 0, 0)
    batch, time, *rest = x.stride()
    data, kind = x.data_ptr(), TYPES.index(x.dtype)
    if reverse:
        data, time = data + (x.shape[1] - 1) * time * x.element_size(), -time
    return View(data, batch, time, rest[0] if x.ndim == 4 else 0, kind)


def token_view(x: Tensor) -> View:
    """Describe one token of each row to the C code.

    Parameters
    ----------
    x : Tensor
        Of shape (batch, channels) or (batch, groups, channels), otherwise as `view` takes it.

    Returns
    -------
    View
        The description.
    """
    return View(x.data_ptr(), x.stride(0), 0, x.stride(1) if x.ndim == 3 else 0, TYPES.index(x.dtype))


def pointer(x: Tensor | None) -> int | None:
    """Give the address of a tensor's data.

    Parameters
    ----------
    x : Tensor or None
        The tensor; it must stay alive while the address is in use.

    Returns
    -------
    int or None
        The address, or None for None.
    """
    return None if x is None else x.data_ptr()


class _Team(ctypes.Structure):
    """The argument of `mambattn_join`; the fields are those of csrc/team.c, in the same order."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("kernel", "job", "scratch")),
        *((name, ctypes.c_int64) for name in ("row", "next")),
    ]


def _openmp() -> Any:
    """Give the function of torch's own OpenMP runtime that calls another on all its threads; None if there is none."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("*omp*")):
        entry = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if entry is not None:
            entry.restype = None
            entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            return entry
    return None


class _Threads:
    """The threads that help the calling one.

    They are those of torch's OpenMP runtime, which stay awake for a while after each parallel operation of torch:
    threads of our own would have to share the processors with them. Python's threads serve where there is no such
    runtime, and in a forked child, in which those of the parent do not exist.
    """

    def __init__(self) -> None:
        self._openmp = _openmp()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def forget(self) -> None:
        """Drop all threads without waiting for them."""
        self._openmp, self._executor, self._size = None, None, 0

    def call(self, function: Any, argument: int, threads: int) -> None:
        """Call a C function of one argument on so many threads, this one among them."""
        if self._openmp is not None:
            self._openmp(ctypes.cast(function, ctypes.c_void_p), argument, threads, 0)
            return
        if self._executor is None or self._size < threads - 1:
            if self._executor is not None:
                self._executor.shutdown(wait=False)
            self._executor, self._size = ThreadPoolExecutor(threads - 1, thread_name_prefix="mambattn"), threads - 1
        helpers = [self._executor.submit(function, ctypes.c_void_p(argument)) for _ in range(threads - 1)]
        function(ctypes.c_void_p(argument))
        for helper in helpers:
            helper.result()


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


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

    def run(self, kernel: str, job: ctypes.Structure, items: int, scratch_floats: int = 0) -> None:
        """Run a kernel on up to torch.get_num_threads() threads; the result does not depend on how many.

        Parameters
        ----------
        kernel : str
            Name of a C function `void kernel(job *, float *scratch)` that takes items from the counter `next` of the
            job until none is left.
        job : ctypes.Structure
            The arguments; the tensors behind its pointers must stay alive meanwhile.
        items : int
            How many items there are, and so how many threads can help.
        scratch_floats : int, default 0
            Floats of working memory that each thread needs, aligned to 64 bytes.
        """
        function, address = getattr(self.handle, kernel), ctypes.addressof(job)
        threads = max(1, min(torch.get_num_threads(), items))
        row = -(-scratch_floats // 16) * 16
        scratch = torch.empty(threads * row + 16, dtype=torch.float32, device="cpu")
        start = -(-scratch.data_ptr() // 64) * 64
        if threads == 1:
            function(ctypes.c_void_p(address), ctypes.c_void_p(start))
        else:
            team = _Team(ctypes.cast(function, ctypes.c_void_p), address, start, row, 0)
            _threads.call(self.handle.mambattn_join, ctypes.addressof(team), threads)

    def step(
        self,
        kernel: str,
        job: ctypes.Structure,
        items: int,
        tokens: dict[str, Tensor | None],
        floats: dict[str, Tensor | None],
    ) -> None:
        """Fill in the tensors of a job on one token of each row, and run it.

        Parameters
        ----------
        kernel, job, items
            As `run` takes them.
        tokens : dict of Tensor or None
            Fields of type `View`.
        floats : dict of Tensor or None
            Fields that are pointers to float32 numbers without gaps.
        """
        dense_tokens = {name: dense(x) for name, x in tokens.items() if x is not None}
        dense_floats = {name: x.float().contiguous() for name, x in floats.items() if x is not None}
        for name, x in dense_tokens.items():
            setattr(job, name, token_view(x))
        for name, x in dense_floats.items():
            setattr(job, name, x.data_ptr())
        self.run(kernel, job, items)

    def ask(self, function: str, job: ctypes.Structure) -> int:
        """Call a C function `int64_t function(const job *)`.

        Parameters
        ----------
        function : str
            Its name.
        job : ctypes.Structure
            Its argument.

        Returns
        -------
        int
            What it returns.
        """
        called = getattr(self.handle, function)
        called.restype = ctypes.c_int64
        return called(ctypes.byref(job))


def _path(isa: str) -> Path:
    return _FOLDER / f"_mambattn_{isa}.so"


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
    if not _path(isa).exists():
        return None
    if isa != "baseline" and ctypes.CDLL(str(_path("baseline"))).mambattn_best_isa() < ISAS.index(isa):
        return None
    handle = ctypes.CDLL(str(_path(isa)))
    return Library(isa, handle.mambattn_lanes(), handle)


def load_best() -> Library | None:
    """Load the fastest build that this processor can run.

    Returns
    -------
    Library or None
        The library, or None if nothing was built.
    """
    if not _path("baseline").exists():
        return None
    return next(library for isa in reversed(ISAS) if (library := load_isa(isa)) is not None)


def _why_missing() -> str:
    note = _NOTE.read_text(encoding="utf-8").strip() if _NOTE.exists() else "the package was not built on this machine"
    return f"{note}. Install gcc or clang, then reinstall mambattn from source (pip install --no-binary mambattn ...)"


_loaded = load_best()
missing = None if _loaded is not None else _why_missing()
"""Why there are no compiled kernels and how to mend that, or None if there are."""


def current() -> Library:
    """Give the library that the native backends run.

    Returns
    -------
    Library
        The fastest build for this processor.
    """
    assert _loaded is not None, "the dispatcher offers the native backends only where they are built"
    return _loaded

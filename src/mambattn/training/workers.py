"""Worker processes of this machine."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from joblib.externals.loky import ProcessPoolExecutor, process_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mambattn._errors import MambAttnError

__all__ = ["open_pool"]


@contextmanager
def open_pool(
    n_workers: int, *, mend: str, warm_up: Callable[[], object] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Give worker processes while the block runs; what still runs when it fails, on Ctrl-C, or when this process is
    killed, is ended.

    Parameters
    ----------
    n_workers : int
        Processes.
    mend : str
        What to do when one of them is killed, for the message.
    warm_up : callable or None, default None
        What each calls as it starts.

    Yields
    ------
    ProcessPoolExecutor
        The pool.

    Raises
    ------
    MambAttnError
        If a worker is killed.

    Examples
    --------
    >>> with open_pool(1, mend="Use another machine.") as pool:
    ...     pool.submit(math.gcd, 12, 18).result()
    6
    """
    # loky starts its workers without running the caller's script again, so a script needs no main guard.
    pool = ProcessPoolExecutor(n_workers, initializer=_start, initargs=(warm_up,), env={"OMP_NUM_THREADS": "1"})
    completed = False
    try:
        yield pool
        completed = True
    except TerminatedWorkerError as error:
        raise MambAttnError(f"A worker process was killed, most often for lack of memory. {mend}") from error
    finally:
        pool.shutdown(wait=True, kill_workers=not completed)


def _start(warm_up: Callable[[], object] | None) -> None:
    """Leave Ctrl-C, which every process of a terminal gets, to the parent; and be ready for the first call."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Where psutil is installed, loky replaces a worker that grew by 300 MB, as it takes that for a leak. A table and a
    # CUDA context are no leak, and a new worker pays for its imports again.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    if warm_up is not None:
        warm_up()


def _end_with_parent() -> None:
    """End this process when the one that started it is killed; else it would train on for nobody, for hours perhaps."""
    parent = os.getppid()  # after a death another one; on Windows it stays
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)

"""Random draws that leave every global generator as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

__all__ = ["draw_seeds", "seeded"]

_ONE_AT_A_TIME = threading.RLock()

RandomState = int | np.integer | np.random.RandomState | None


def draw_seeds(random_state: RandomState, n_seeds: int) -> list[int]:
    """Draw independent seeds from a scikit-learn `random_state`.

    Parameters
    ----------
    random_state : int, numpy integer, numpy.random.RandomState or None
        As everywhere in scikit-learn: an integer gives the same seeds each time, a ``RandomState`` is advanced, and
        None draws from NumPy's global generator.
    n_seeds : int
        How many to draw.

    Returns
    -------
    list of int
        Seeds below 2**31 - 1.

    Examples
    --------
    >>> draw_seeds(0, 2) == draw_seeds(np.int64(0), 2)
    True
    """
    return check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n_seeds).tolist()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch inside a ``with`` block and restore its generators afterwards.

    Torch's generators are shared by all threads of a process, so that blocks in several threads wait for each other.

    Parameters
    ----------
    seed : int
        The seed.
    device : torch.device or None, default None
        A CUDA device whose generator is seeded and restored too.

    Yields
    ------
    None
        Nothing; the draws inside the block depend on `seed` alone.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with seeded(1):
    ...     x = torch.rand(1)
    >>> bool((before == torch.get_rng_state()).all())
    True
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield

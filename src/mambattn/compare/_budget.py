"""The time limit, shared out so that every fit still to start could have the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence

__all__ = ["Budget", "fair_share"]

SHORTEST = 0.2
"""No fit is given less than this, in seconds: it could hardly take a step."""

AROUND = 0.03
"""Part of a share that is kept for what a model does beside training, until a fit of it shows what that needs."""


def fair_share(remaining: float, busy: Sequence[float], n_fits: int, n_after: int = 0) -> float:
    """Return the longest time, in seconds, that every fit still to start could have; 0 if no time is left.

    `busy` says of each worker for how long its running fit may still go on, 0 for an idle one. Fits of length s have
    room if Σ_i max(0, floor((remaining - busy_i) / s) - n_after) ≥ n_fits: the workers take them one after the other,
    then leave time for `n_after` more. The longest such s is one of (remaining - busy_i) / (m + n_after), m = 1, 2, ...
    """

    def has_room(share: float) -> bool:
        # 1e-9: the quotient of a share that was itself a quotient must not fall just below its whole number.
        places = (math.floor((remaining - wait) / share + 1e-9) - n_after for wait in busy)
        return sum(max(0, place) for place in places) >= n_fits

    free = [remaining - wait for wait in busy if remaining > wait]
    shares = sorted({left / (m + n_after) for left in free for m in range(1, n_fits + 1)})
    good, bad = -1, len(shares)  # shorter is easier, so look for the last share that has room
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if has_room(shares[middle]) else (good, middle)
    return shares[good] if good >= 0 else 0.0


class Budget:
    """The clock of a comparison, and how long each fit may train out of what is left.

    `limit` is in seconds, None for none; `spent` is what the runs used that this one goes on from. Every fit still to
    start could train equally long: what a model needs beside training, most of it prediction, is learned from its
    finished fits and kept back. A fit that ends early leaves its time to all that start after it.
    """

    def __init__(
        self,
        limit: float | None,
        n_workers: int,
        *,
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._n_workers = n_workers
        self._clock = clock
        self._origin = clock() - spent
        self._overheads: dict[str, float] = {}
        self._ends: dict[Hashable, float] = {}

    def elapsed(self) -> float:
        """Return the seconds used so far, those of earlier runs included."""
        return self._clock() - self._origin

    def start(self, key: Hashable, unstarted: Sequence[str], n_after: int = 0) -> float | None:
        """Note that a fit starts, and return the seconds that it may train; None where there is no limit.

        `unstarted` names the model of each fit that is left to start, this one first; `n_after` more follow when all
        those are done.
        """
        if self.limit is None:
            return None
        now = self.elapsed()
        busy = [max(0.0, end - now) for end in self._ends.values()]
        busy += [0.0] * (self._n_workers - len(busy))
        share = fair_share(self.limit - now, busy, len(unstarted), n_after)
        overheads = [self._overheads.get(model, AROUND * share) for model in unstarted]
        seconds = max(SHORTEST, share - sum(overheads) / len(overheads))
        self._ends[key] = now + seconds + overheads[0]
        return seconds

    def finish(self, key: Hashable, model: str, overhead: float | None = None) -> None:
        """Note that a fit is done; `overhead` is what it took beyond the time it was given, None if it ended early."""
        self._ends.pop(key, None)
        if overhead is not None:
            self._overheads[model] = max(self._overheads.get(model, 0.0), overhead)

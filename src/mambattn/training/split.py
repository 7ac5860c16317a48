"""Which rows are held out to choose the best epoch."""

from __future__ import annotations

import numpy as np

__all__ = ["hold_out"]


def hold_out(n_rows: int, share: float, seed: int, codes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into a training and a validation part.

    The validation part has ``share · n_rows`` rows, rounded, and at least one. With classes given it is stratified:
    each class gives its share, rounded down, and the seats left over go to the largest remainders; but no class gives
    its last row, so that every class is trained on, even if that leaves seats empty. Where it leaves nothing to hold
    out (each class has one row), the training rows serve as validation rows too.

    Parameters
    ----------
    n_rows : int
        Number of rows, at least 2.
    share : float
        Share of the rows to hold out, in (0, 1).
    seed : int
        Seed of the draw.
    codes : numpy.ndarray or None, default None
        Class codes 0, 1, … of the rows, shape (n_rows,), to stratify by.

    Returns
    -------
    tuple of numpy.ndarray
        Positions of the training rows and of the validation rows, each sorted.

    Examples
    --------
    >>> train, val = hold_out(10, 0.2, 0, np.array([0] * 8 + [1] * 2))
    >>> len(train), len(val)
    (8, 2)
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    codes = np.zeros(n_rows, dtype=int) if codes is None else codes
    counts = np.bincount(codes)
    n_held = max(1, round(share * n_rows))
    quota = counts * n_held / n_rows
    seats = np.minimum(np.floor(quota).astype(int), np.maximum(counts - 1, 0))
    for code in np.argsort(np.floor(quota) - quota, kind="stable"):
        if seats.sum() < n_held and seats[code] < counts[code] - 1:
            seats[code] += 1
    if seats.sum() == 0:
        everything = np.arange(n_rows)
        return everything, everything
    rank = np.empty(n_rows, dtype=int)
    for code in range(len(counts)):
        members = order[codes[order] == code]
        rank[members] = np.arange(len(members))
    held = rank < seats[codes]
    return np.flatnonzero(~held), np.flatnonzero(held)

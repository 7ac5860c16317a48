"""Intervals over seeds: a bootstrap to describe a mean, Student's t to judge a difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from mambattn._errors import DataError

__all__ = ["LEVEL", "bootstrap_interval", "t_interval"]

LEVEL = 0.95
"""Share of the cases in which an interval should hold the true mean."""

N_DRAWS = 10_000


def bootstrap_interval(
    values: ArrayLike, *, n_draws: int = N_DRAWS, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Give the 95 % percentile-bootstrap interval of means over the first axis.

    A draw is n values out of the n, with replacement; the interval reaches from the 2.5th to the 97.5th percentile of
    the means of all draws. All columns share the draws: a seed is drawn with its whole curve.

    Parameters
    ----------
    values : array_like of shape (n, ...)
        One row a seed, of finite numbers.
    n_draws : int, default 10000
        Number of draws.
    seed : int, default 0
        Seed of the draws.

    Returns
    -------
    low, high : ndarray of shape (...)
        Ends of the intervals; NaN for n = 1, since one value shows no spread.

    Raises
    ------
    DataError
        If there is no value, or one is not finite.

    Notes
    -----
    Efron, *Bootstrap methods: another look at the jackknife* (1979), section 2. It describes the spread and decides
    nothing: with five seeds it is too narrow, and excludes the true mean in one case of six instead of one of twenty.

    Examples
    --------
    >>> low, high = bootstrap_interval([0.2, 0.4, 0.9])
    >>> round(float(low), 3), round(float(high), 3)
    (0.2, 0.9)
    """
    array = _checked(values)
    n = len(array)
    if n == 1:
        undefined = np.full(array.shape[1:], np.nan)
        return undefined, undefined.copy()
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_draws)
    # Around the first row, so that equal values give their very mean and not one beside it.
    means = array[0] + np.tensordot(counts, array - array[0], axes=1) / n
    low, high = np.quantile(means, _TAILS, axis=0)
    return low, high


def t_interval(differences: ArrayLike) -> tuple[float, float]:
    r"""Give the 95 % interval of the mean by Student's t.

    .. math:: \bar d \pm t_{0.975,\, n-1} \, s / \sqrt{n}, \qquad s^2 = \frac{1}{n-1} \sum_i (d_i - \bar d)^2

    Parameters
    ----------
    differences : array_like of shape (n,)
        Paired differences, one a seed.

    Returns
    -------
    low, high : float
        Its ends: the difference itself, twice, where all are equal; NaN for n = 1.

    Raises
    ------
    DataError
        If there is no difference, or one is not finite.

    Notes
    -----
    Student, *The probable error of a mean* (1908), section 3. Exact for normal differences; without any true difference
    it excludes 0 in 5 % of the cases, with five seeds too.

    Examples
    --------
    >>> low, high = t_interval([0.1, 0.2, 0.3, 0.2, 0.2])
    >>> round(low, 4), round(high, 4)
    (0.1122, 0.2878)
    >>> t_interval([0.0, 0.0, 0.0])
    (0.0, 0.0)
    """
    array = _checked(differences).ravel()
    n = len(array)
    if n == 1:
        return float("nan"), float("nan")
    around = array - array[0]  # exactly 0 where all are equal
    mean = float(array[0] + around.mean())
    half = float(stdtrit(n - 1, _TAILS[1]) * around.std(ddof=1) / np.sqrt(n))
    return mean - half, mean + half


_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or not len(array) or not np.isfinite(array).all():
        raise DataError(
            f"`values` must hold at least one number a seed, all finite, however values={values!r}. Use the seeds that "
            "were measured."
        )
    return array

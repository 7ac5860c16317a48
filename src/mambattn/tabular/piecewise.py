"""Piecewise-linear encoding of numbers: where the bins lie, and what a number becomes."""

from __future__ import annotations

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mambattn._errors import ConfigError

__all__ = ["bin_edges", "bin_limits", "piecewise_linear"]


def bin_edges(
    numbers: np.ndarray, y: np.ndarray | None, *, n_bins: int, bins: str, task: str, random_state: int
) -> np.ndarray:
    """Find the edges of the bins of each column.

    ``"quantile"``: the distinct ones of the quantiles k / n_bins, k = 0 … n_bins. ``"tree"``: the smallest and the
    largest number, and between them the thresholds of a decision tree with at most `n_bins` leaves, grown on that
    column and the target (arXiv 2203.05556, section 3.2.2). Missing numbers are left out.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of shape (rows, n_numeric), NaN where missing.
    y : numpy.ndarray or None
        Target of shape (rows,); None will do for quantiles.
    n_bins : int
        Bins a column at most.
    bins : {"tree", "quantile"}
        How they are found.
    task : {"classification", "regression"}
        Which tree is grown.
    random_state : int
        Seed of the trees.

    Returns
    -------
    numpy.ndarray
        Increasing edges of shape (n_numeric, n_bins + 1), NaN behind the last one. A column with fewer than two
        distinct numbers has none.

    Raises
    ------
    ConfigError
        If trees are asked for without a target.

    Examples
    --------
    >>> bin_edges(np.array([[0.0], [1.0], [2.0], [4.0]]), None, n_bins=2, bins="quantile", task="regression",
    ...           random_state=0)
    array([[0. , 1.5, 4. ]])
    """
    if bins == "tree" and y is None:
        raise ConfigError("`bins` 'tree' needs the target, however y=None. Give y, or use bins='quantile'.")
    edges = np.full((numbers.shape[1], n_bins + 1), np.nan)
    for column, row in zip(numbers.T, edges, strict=True):
        present = ~np.isnan(column)
        x = column[present]
        if x.size == 0 or x.min() == x.max():
            continue
        if bins == "quantile":
            found = np.unique(np.quantile(x, np.linspace(0, 1, n_bins + 1)))
        else:
            assert y is not None
            found = _tree_edges(x, y[present], n_bins, task, random_state)
        row[: len(found)] = found
    return edges


def _tree_edges(x: np.ndarray, y: np.ndarray, n_bins: int, task: str, random_state: int) -> np.ndarray:
    """Find the thresholds of a tree of one column, and the ends of its range."""
    maker = DecisionTreeClassifier if task == "classification" else DecisionTreeRegressor
    # A bin of a handful of rows would be fitted to their noise.
    least = min(64, max(1, len(x) // (4 * n_bins)))
    tree = maker(max_leaf_nodes=n_bins, min_samples_leaf=least, random_state=random_state)
    # A tree computes in float32, so it is given the share of the range, not the numbers.
    low, high = x.min(), x.max()
    grown = tree.fit(((x - low) / (high - low))[:, None], y).tree_
    inner = low + grown.threshold[grown.feature >= 0] * (high - low)
    return np.unique(np.concatenate(([low], inner[(inner > low) & (inner < high)], [high])))


def bin_limits(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Turn edges into what the encoding computes with: ``clip((x - left) / width, low, high)``.

    Parameters
    ----------
    edges : numpy.ndarray
        Edges of shape (n_numeric, n_bins + 1), as `bin_edges` gives them.

    Returns
    -------
    left, width, low, high : numpy.ndarray
        Each of shape (n_numeric, n_bins): the left edge and width of a bin, and the least and the greatest value of its
        component. The first bin has no least and the last no greatest one, so that numbers beyond the ends go on
        linearly; a bin that a column does not have is 0 throughout.
    """
    left, right = edges[:, :-1], edges[:, 1:]
    real = ~np.isnan(right)
    first = real.copy()
    first[:, 1:] = False
    last = real.copy()
    last[:, :-1] &= ~real[:, 1:]
    low = np.where(first, -np.inf, 0.0)
    high = np.where(last, np.inf, np.where(real, 1.0, 0.0))
    return np.where(real, left, 0.0), np.where(real, right - left, 1.0), low, high


def piecewise_linear(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    r"""Encode numbers piecewise linearly (arXiv 2203.05556, section 3.2).

    With the edges b_0 < … < b_T of a column, component t = 1 … T of the vector of x is

    .. math:: e_t = \frac{x - b_{t-1}}{b_t - b_{t-1}}

    held at 0 from below unless t = 1, and at 1 from above unless t = T. A column with fewer bins than the widest uses
    its first components and leaves the others at 0.

    Parameters
    ----------
    numbers : numpy.ndarray
        Numbers of shape (rows, n_numeric).
    edges : numpy.ndarray
        Edges of shape (n_numeric, n_bins + 1), NaN behind the last one of a column.

    Returns
    -------
    numpy.ndarray
        Float32 vectors of shape (rows, n_numeric, n_bins), NaN for a number that is NaN.

    Examples
    --------
    >>> piecewise_linear(np.array([[0.5], [2.0], [5.0]]), np.array([[0.0, 1.0, 3.0, 4.0]]))[:, 0].tolist()
    [[0.5, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 1.0, 2.0]]
    """
    out = np.empty((*numbers.shape, edges.shape[1] - 1), dtype=np.float32)
    with np.errstate(over="ignore"):  # a number far beyond tiny bins is infinitely many of them
        for i, (left, width, low, high) in enumerate(zip(*bin_limits(edges), strict=True)):
            # Column by column, so that the float64 intermediate stays small.
            out[:, i] = np.clip((numbers[:, i, None] - left) / width, low, high)
    return out

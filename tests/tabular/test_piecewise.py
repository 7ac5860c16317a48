"""Piecewise-linear encoding: worked by hand, by a loop, and against a tree grown here."""

import numpy as np
import pytest
import torch

from mambattn._errors import ConfigError
from mambattn.configs import PreprocessingConfig
from mambattn.tabular import TablePreprocessor, bin_edges, piecewise_linear
from mambattn.tabular.encodings import PiecewiseLinear

NAN = np.nan


def test_an_example_by_hand():
    edges = np.array([[0.0, 1.0, 3.0, 4.0], [10.0, 20.0, NAN, NAN], [NAN] * 4])
    rows = np.array([[-1.0, 5.0, 1.0], [0.5, 10.0, 2.0], [2.0, 15.0, 3.0], [6.0, 40.0, 4.0]])
    want = [
        [[-1.0, 0, 0], [-0.5, 0, 0], [0, 0, 0]],
        [[0.5, 0, 0], [0.0, 0, 0], [0, 0, 0]],
        [[1.0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]],
        [[1.0, 1.0, 3.0], [3.0, 0, 0], [0, 0, 0]],
    ]
    assert piecewise_linear(rows, edges).tolist() == want
    assert PiecewiseLinear(edges)(torch.from_numpy(rows).float()).tolist() == want


def encode_by_loop(x, edges):
    """Follow the three cases of arXiv 2203.05556, equation 1, for one number."""
    edges = [edge for edge in edges if not np.isnan(edge)]
    T = len(edges) - 1
    out = []
    for t in range(1, T + 1):
        if x < edges[t - 1] and t > 1:
            out.append(0.0)
        elif x >= edges[t] and t < T:
            out.append(1.0)
        else:
            out.append((x - edges[t - 1]) / (edges[t] - edges[t - 1]))
    return out


@pytest.mark.parametrize("bins", ["quantile", "tree"])
def test_against_a_loop(bins):
    rng = np.random.default_rng(0)
    X = np.stack([rng.normal(size=200), rng.integers(0, 3, 200), np.exp(rng.normal(size=200))], axis=1)
    y = X[:, 0] * X[:, 1] + X[:, 2]
    edges = bin_edges(X, y, n_bins=6, bins=bins, task="regression", random_state=0)
    got = piecewise_linear(2 * X, edges)
    module = PiecewiseLinear(edges)(torch.from_numpy(2 * X).float()).numpy()
    for i in range(200):
        for j in range(3):
            want = encode_by_loop(2 * X[i, j], edges[j])
            want += [0.0] * (6 - len(want))
            np.testing.assert_allclose(got[i, j], want, rtol=1e-6)
            np.testing.assert_allclose(module[i, j], want, rtol=1e-4, atol=1e-5)


def test_quantile_edges_are_the_distinct_quantiles():
    X = np.array([[0.0], [0.0], [0.0], [1.0], [5.0], [NAN]])
    edges = bin_edges(X, None, n_bins=4, bins="quantile", task="regression", random_state=0)
    np.testing.assert_array_equal(edges, [[0.0, 1.0, 5.0, NAN, NAN]])


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-9])
def test_tree_edges_lie_where_the_target_changes(scale):
    x = np.arange(100.0)
    y = np.select([x < 30, x < 70], [0.0, 5.0], 1.0)
    for task, target in (("regression", y), ("classification", y.astype(int).astype(str))):
        edges = bin_edges(scale * x[:, None], target, n_bins=4, bins="tree", task=task, random_state=0)
        np.testing.assert_allclose(edges / scale, [[0.0, 29.5, 69.5, 99.0, NAN]], rtol=1e-5)


def test_trees_leave_missing_numbers_out():
    x = np.arange(100.0)
    y = (x >= 50).astype(float)
    holes = np.where(x % 3 == 0, NAN, x)[:, None]
    edges = bin_edges(holes, y, n_bins=2, bins="tree", task="regression", random_state=0)
    np.testing.assert_allclose(edges, [[1.0, 49.5, 98.0]])


def test_a_target_without_pattern_gives_one_bin_to_a_column_that_cannot_be_split():
    edges = bin_edges(np.array([[0.0], [1.0]]), np.zeros(2), n_bins=3, bins="tree", task="regression", random_state=0)
    np.testing.assert_array_equal(edges, [[0.0, 1.0, NAN, NAN]])


def test_trees_need_the_target():
    preprocessor = TablePreprocessor(PreprocessingConfig(numerical_preprocessing="ple"))
    with pytest.raises(ConfigError, match="`bins` 'tree' needs the target, however y=None"):
        preprocessor.fit([[1.0], [2.0]])


def test_the_preprocessor_encodes_as_the_functions_do():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 2)), rng.integers(0, 2, 300)
    for bins in ("tree", "quantile"):
        config = PreprocessingConfig(numerical_preprocessing="ple", n_bins=7, bins=bins)
        edges = bin_edges(X, y, n_bins=7, bins=bins, task="classification", random_state=0)
        got = TablePreprocessor(config).fit(X, y).transform(X).numbers.numpy()
        np.testing.assert_array_equal(got, piecewise_linear(X, edges))


def test_edges_for_the_tokenizer_lie_on_the_scaled_numbers():
    rng = np.random.default_rng(0)
    X = 100 + 10 * rng.normal(size=(300, 2))
    y = (X[:, 0] > 105).astype(int)
    config = PreprocessingConfig(numerical_preprocessing="standardization")
    preprocessor = TablePreprocessor(config, embedding_bins=4).fit(X, y)
    scaled = preprocessor.transform(X).numbers.numpy()
    edges = preprocessor.embedding_edges
    assert edges.shape == (2, 5)
    np.testing.assert_array_equal(np.nanmin(edges, axis=1), scaled.min(axis=0))
    np.testing.assert_array_equal(np.nanmax(edges, axis=1), scaled.max(axis=0))
    assert np.nanmin(np.abs(edges[0] - (105 - X[:, 0].mean()) / X[:, 0].std())) < 0.03

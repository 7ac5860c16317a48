"""The intervals against scipy, against enumeration, and against how often they should be wrong."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mambattn._errors import DataError
from mambattn.recall.statistics import bootstrap_interval, t_interval


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_t_interval_is_that_of_the_paired_test(n):
    rng = np.random.default_rng(n)
    left, right = rng.normal(size=n), rng.normal(0.3, 2, size=n)
    expected = stats.ttest_rel(right, left).confidence_interval(0.95)  # pyright: ignore
    np.testing.assert_allclose(t_interval(right - left), expected, rtol=1e-12)


@pytest.mark.parametrize("difference", [0.0, 0.1, -1 / 3])
def test_equal_differences_have_an_interval_of_one_point(difference):
    assert t_interval([difference] * 5) == (difference, difference)
    low, high = bootstrap_interval([difference] * 5)
    assert (low, high) == (difference, difference)


def test_one_value_has_no_interval():
    assert np.isnan(t_interval([0.3])).all()
    low, high = bootstrap_interval([[0.3, 0.4]])
    assert low.shape == high.shape == (2,)
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("values", [[], 0.5, [0.1, float("nan")]])
@pytest.mark.parametrize("interval", [t_interval, bootstrap_interval])
def test_what_is_no_sample_is_refused(interval, values):
    with pytest.raises(DataError, match=r"`values` must hold at least one number a seed, all finite, however values="):
        interval(values)


def test_bootstrap_interval_is_that_of_all_draws():
    values = np.random.default_rng(1).normal(size=5)
    means = [np.mean(draw) for draw in itertools.product(values, repeat=5)]
    expected = np.quantile(means, [0.025, 0.975])
    found = bootstrap_interval(values, n_draws=200_000)
    np.testing.assert_allclose(found, expected, atol=0.01 * values.std())


def test_bootstrap_interval_is_that_of_scipy():
    values = np.random.default_rng(2).uniform(size=40)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(3)
    )
    np.testing.assert_allclose(bootstrap_interval(values), expected.confidence_interval, atol=0.05 * values.std())


def test_columns_share_the_draws_and_a_seed_repeats_them():
    values = np.random.default_rng(3).uniform(size=(6, 1))
    low, high = bootstrap_interval(np.hstack([values, 2 * values + 1]), n_draws=500)
    np.testing.assert_allclose([low[1], high[1]], [2 * low[0] + 1, 2 * high[0] + 1], rtol=1e-12)
    alone = bootstrap_interval(values[:, 0], n_draws=500)
    np.testing.assert_array_equal(alone, [low[0], high[0]])
    assert tuple(bootstrap_interval(values[:, 0], n_draws=500, seed=1)) != tuple(alone)


def test_five_seeds_are_enough_for_t_and_not_for_the_bootstrap():
    values = np.random.default_rng(4).normal(size=(5, 4000))
    by_t = np.array([t_interval(column) for column in values.T])
    assert np.mean((by_t[:, 0] > 0) | (by_t[:, 1] < 0)) == pytest.approx(0.05, abs=0.012)
    low, high = bootstrap_interval(values, n_draws=1000)  # measured: .165
    assert np.mean((low > 0) | (high < 0)) == pytest.approx(0.17, abs=0.02)

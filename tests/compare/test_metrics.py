"""Weighted metrics against scikit-learn's, and a bootstrap against redrawing the rows by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from mambattn._errors import ConfigError
from mambattn.compare import METRICS
from mambattn.compare._bootstrap import bootstrap_means, interval, mean_over_folds
from mambattn.compare.metrics import choose_metric, metrics_of


def rmse(y, p, sample_weight=None):
    return np.sqrt(sk.mean_squared_error(y, p, sample_weight=sample_weight))


BINARY = {
    "roc_auc": lambda y, p, w: sk.roc_auc_score(y, p[:, 1], sample_weight=w),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    "f1": lambda y, p, w: sk.f1_score(y, p.argmax(1), sample_weight=w),
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
}
REGRESSION = {
    "rmse": rmse,
    "mae": lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w),
    "r2": lambda y, p, w: sk.r2_score(y, p, sample_weight=w),
}


def binary_case(rng, n, *, decimals=None):
    y = (rng.random(n) < 0.4).astype(int)
    score = 1 / (1 + np.exp(-(y + rng.normal(size=n))))
    score = score if decimals is None else score.round(decimals)
    return y, np.stack([1 - score, score], axis=1)


@pytest.mark.parametrize("decimals", [None, 1], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_metrics_equal_scikit_learn(name, decimals):
    rng = np.random.default_rng(0)
    y, p = binary_case(rng, 200, decimals=decimals)
    p = p.clip(0.01, 0.99)
    weights = rng.integers(0, 4, (200, 7)).astype(float)
    expected = [BINARY[name](y, p, weights[:, i]) for i in range(7)]
    np.testing.assert_allclose(METRICS[name].prepare(y, p)(weights), expected, rtol=1e-12)
    assert METRICS[name].score(y, p) == pytest.approx(BINARY[name](y, p, None), rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "log_loss"])
def test_multiclass_metrics_equal_scikit_learn(name):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 4, 150)
    p = rng.dirichlet(np.ones(4), 150)
    weights = rng.integers(0, 4, (150, 5)).astype(float)
    expected = {
        "accuracy": lambda w: sk.accuracy_score(y, p.argmax(1), sample_weight=w),
        "balanced_accuracy": lambda w: sk.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
        "log_loss": lambda w: sk.log_loss(y, p, sample_weight=w, labels=range(4)),
    }[name]
    np.testing.assert_allclose(METRICS[name].prepare(y, p)(weights), [expected(w) for w in weights.T], rtol=1e-12)


@pytest.mark.parametrize("name", REGRESSION)
def test_regression_metrics_equal_scikit_learn(name):
    rng = np.random.default_rng(2)
    y = 1e5 + 1e3 * rng.normal(size=120)  # far from zero, where a naive variance would lose its digits
    p = y + 500 * rng.normal(size=120)
    weights = rng.integers(0, 4, (120, 5)).astype(float)
    expected = [REGRESSION[name](y, p, w) for w in weights.T]
    np.testing.assert_allclose(METRICS[name].prepare(y, p)(weights), expected, rtol=1e-9)


def test_an_undefined_score_is_nan_and_a_fold_without_one_is_left_out():
    y, p = np.array([1, 1, 0]), np.array([[0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    one_class = np.array([[1.0], [2.0], [0.0]])
    assert np.isnan(METRICS["roc_auc"].prepare(y, p)(one_class)[0])
    assert METRICS["balanced_accuracy"].prepare(y, p)(one_class)[0] == 1.0
    assert np.isnan(METRICS["r2"].prepare(np.array([3.0, 3.0]), np.array([1.0, 2.0]))(np.ones((2, 1)))[0])
    np.testing.assert_array_equal(mean_over_folds(np.array([[1.0, np.nan], [3.0, np.nan]])), [2.0, np.nan])
    assert all(np.isnan(interval(np.array([np.nan]))))
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def test_a_certain_error_costs_a_finite_log_loss():
    assert METRICS["log_loss"].score(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(2**-23))


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss"])
def test_bootstrap_equals_redrawing_the_rows_by_hand(name):
    rng = np.random.default_rng(3)
    n, n_draws = 60, 40
    y, a = binary_case(rng, n)
    _, b = binary_case(rng, n)
    fold_of = np.stack([rng.permutation(np.arange(n) % 3) for _ in range(2)])
    given = {"a": [a, b], "b": [b, a.round(1).clip(0.01, 0.99)]}
    found = bootstrap_means(METRICS[name], y, fold_of, given, n_draws=n_draws, seed=5)
    again = np.random.default_rng(5)
    for draw in range(n_draws):
        rows = again.integers(0, n, n)
        for model, predictions in given.items():
            scores = []
            for folds, p in zip(fold_of, predictions, strict=True):
                for fold in range(3):
                    drawn = rows[folds[rows] == fold]
                    labels = y[drawn]
                    if name == "log_loss":
                        scores.append(sk.log_loss(labels, p[drawn] / p[drawn].sum(1, keepdims=True), labels=[0, 1]))
                    else:
                        scores.append(BINARY[name](labels, p[drawn], None))
            assert found[model][draw] == pytest.approx(np.mean(scores), rel=1e-10)


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "rmse"])
def test_the_interval_covers_no_difference_95_times_in_100(name):
    """Two models of the same quality on the same rows: the interval should exclude 0 in about 5 % of the tables."""
    rng = np.random.default_rng(4)
    n, n_tables = 150, 400
    covered = 0
    for table in range(n_tables):
        folds = (np.arange(n) % 3)[None]
        if name == "rmse":
            y = rng.normal(size=n)
            shared = rng.normal(size=n)
            given = {m: [y + shared + rng.normal(size=n)] for m in "ab"}
        else:
            y = (rng.random(n) < 0.4).astype(int)
            shared = 1.5 * y + rng.normal(size=n)
            scores = {m: shared + rng.normal(size=n) - 0.6 for m in "ab"}
            given = {m: [np.stack([-s, s], axis=1)] for m, s in scores.items()}
        draws = bootstrap_means(METRICS[name], y, folds, given, n_draws=200, seed=table)
        low, high = interval(draws["a"] - draws["b"])
        covered += low <= 0 <= high
    # Binomial(400, .95) lies in 367..390 with a probability of .98; a percentile interval of 50 rows a fold runs a bit narrow.
    assert 0.91 <= covered / n_tables <= 0.98


def test_the_default_metric_and_the_metrics_that_fit():
    assert [choose_metric(None, task).name for task in ("binary", "multiclass", "regression")] == [
        "roc_auc",
        "accuracy",
        "rmse",
    ]
    assert {m.name for m in metrics_of("multiclass")} == {"accuracy", "balanced_accuracy", "log_loss"}
    assert {m.name for m in METRICS.values() if not m.greater_is_better} == {"log_loss", "rmse", "mae"}
    with pytest.raises(ConfigError, match=r"`metric` 'rmse' does not fit a binary task. Use roc_auc, accuracy"):
        choose_metric("rmse", "binary")
    with pytest.raises(ConfigError, match=r"`metric` must be one of roc_auc, .*, however metric='auc'"):
        choose_metric("auc", "binary")

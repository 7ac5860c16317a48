"""Every numerical preprocessing against scikit-learn's own output, and what is restored from plain arrays."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.interpolate import BSpline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from mambattn._errors import ConfigError, DataError
from mambattn.configs import PreprocessingConfig
from mambattn.tabular import TablePreprocessor

KINDS = ("none", "standardization", "minmax", "quantile", "robust", "yeo-johnson", "splines", "ple")
N = 400


def make_table(seed=0):
    rng = np.random.default_rng(seed)
    columns = [rng.normal(5, 3, N), np.exp(2 * rng.normal(size=N)), rng.integers(0, 4, N), rng.integers(1990, 2020, N)]
    return np.stack(columns, axis=1).astype(float)


def fit(kind, X, y=None, **settings):
    config = PreprocessingConfig(numerical_preprocessing=kind, **settings)
    return TablePreprocessor(config, random_state=7).fit(X, y, task="regression")


def target_of(X):
    return np.nan_to_num(X).sum(axis=1)


DIRECT = {
    "none": FunctionTransformer(),
    "standardization": StandardScaler(),
    "minmax": MinMaxScaler(),
    "quantile": QuantileTransformer(n_quantiles=N, output_distribution="normal", random_state=7),
    "robust": RobustScaler(),
    "yeo-johnson": PowerTransformer(),
}


@pytest.mark.parametrize("kind", DIRECT)
def test_numbers_are_those_of_scikit_learn(kind):
    X = make_table()
    got = fit(kind, X).transform(X).numbers.numpy()
    want = DIRECT[kind].fit_transform(X[:, :3] if kind == "yeo-johnson" else X).astype(np.float32)
    if kind == "yeo-johnson":  # years are the next test
        np.testing.assert_allclose(got[:, :3], want, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("sign", [-1, 1])
def test_yeo_johnson_copes_with_numbers_far_from_zero(sign):
    far = sign * (100 + np.random.default_rng(0).exponential(size=(N, 1)))
    want = PowerTransformer().fit_transform(StandardScaler().fit_transform(far))
    np.testing.assert_allclose(fit("yeo-johnson", far).transform(far).numbers, want, rtol=1e-5, atol=1e-6)


def test_splines_are_those_of_scikit_learn_and_of_scipy():
    X = make_table()
    got = fit("splines", X, n_knots=6).transform(X).numbers.numpy()
    assert got.shape == (N, 4, 8)
    want = SplineTransformer(n_knots=6).fit_transform(X).reshape(N, 4, 8)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=-1), 1, atol=1e-6)
    x = X[:, 0]
    step = (x.max() - x.min()) / 5
    basis = BSpline(x.min() + step * np.arange(-3, 9), np.eye(8), 3)
    np.testing.assert_allclose(got[:, 0], basis(x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_numbers_do_not_disturb_the_others(kind):
    X = make_table()
    holes = X.copy()
    holes[:100, 1] = np.nan
    preprocessor = fit(kind, holes, target_of(X))
    batch = preprocessor.transform(holes)
    assert batch.missing[:100, 1].all()
    assert batch.missing.sum() == 100
    assert (batch.numbers[:100, 1] == 0).all()
    alone = fit(kind, X[100:, 1:2], target_of(X)[100:])
    if kind not in ("quantile", "ple"):  # their tables depend on the number of rows
        want = alone.transform(X[100:, 1:2]).numbers[:, 0]
        np.testing.assert_allclose(batch.numbers[100:, 1], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_and_all_missing_columns(kind):
    X = make_table()
    X[:, 1], X[:, 2] = 7.0, np.nan
    preprocessor = fit(kind, X, target_of(X))
    batch = preprocessor.transform(X)
    assert batch.missing[:, 2].all()
    assert not batch.missing[:, :2].any()
    assert (batch.numbers[:, 1] == (7.0 if kind == "none" else 0.0)).all()
    later = preprocessor.transform([[1.0, 9.0, 3.0, 2000.0]])
    assert later.missing.tolist() == [[False, False, True, False]]
    assert later.numbers.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_one_usable_number(kind):
    X = np.stack([np.full(9, 3.0), np.full(9, np.nan)], axis=1)
    preprocessor = fit(kind, X, np.arange(9.0))
    values, arrays = preprocessor.state()
    for p in (preprocessor, TablePreprocessor.from_state(values, arrays)):
        assert (p.transform(X).numbers[:, 0] == (3.0 if kind == "none" else 0.0)).all()


AWKWARD = {
    "mostly zero": np.r_[np.zeros(95), np.full(5, 1e6)],
    "nearly constant": 1e8 + 1e-6 * np.arange(100.0),
    "26 decades": -np.exp(np.linspace(-30, 30, 100)),
    "large ids": 1e15 + 1000 * np.arange(100.0),
    "enormous": 1e150 * np.linspace(-1, 1, 100),
    "as large as floats are": np.finfo(np.float64).max * np.linspace(-1, 1, 100),
    "tiny": np.r_[np.zeros(99), 1e-300],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_columns_give_finite_numbers_without_a_warning(kind, name):
    X = AWKWARD[name][:, None]
    preprocessor = fit(kind, X, np.arange(100.0))
    for rows in (X, [[-1e30], [1e30]]):
        numbers = preprocessor.transform(rows).numbers
        assert numbers.abs().max() <= 1.001e15


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_that_scikit_learn_is_set_to_does_not_matter(kind):
    X = make_table()
    want = fit(kind, X, target_of(X)).transform(X)
    with sklearn.config_context(transform_output="pandas"):
        got = fit(kind, X, target_of(X)).transform(X)
    assert torch.equal(got.numbers, want.numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_restores_the_transform_to_the_bit(kind):
    X = make_table()
    X[::7, 0], X[:, 2] = np.nan, 4.0
    frame = pd.DataFrame(X, columns=list("abcd")).assign(text=np.where(X[:, 1] > 1, "high", "low"))
    preprocessor = TablePreprocessor(
        PreprocessingConfig(numerical_preprocessing=kind),
        random_state=np.int64(3),
        embedding_bins=None if kind in ("ple", "splines") else 5,
    ).fit(frame, target_of(X), task="regression")
    values, arrays = preprocessor.state()
    assert all(array.dtype == np.float64 for array in arrays.values())
    copies = {name: np.frombuffer(array.tobytes()).reshape(array.shape) for name, array in arrays.items()}
    restored = TablePreprocessor.from_state(json.loads(json.dumps(values)), copies)
    new = pd.DataFrame(make_table(1), columns=list("abcd")).assign(text="low")
    want, got = preprocessor.transform(new), restored.transform(new)
    assert got.numbers.numpy().tobytes() == want.numbers.numpy().tobytes()
    assert (got.missing == want.missing).all()
    assert (got.categories == want.categories).all()
    assert restored.schema == preprocessor.schema
    assert json.dumps(restored.state()[0]) == json.dumps(values)
    if preprocessor.embedding_edges is not None:
        assert preprocessor.embedding_edges.tobytes() == restored.embedding_edges.tobytes()


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


FAULTS = {
    "an array lacks": (lambda v, a: (v, without(a, "0.mean_")), "lacks the array '0.mean_'"),
    "an array more": (lambda v, a: (v, a | {"x": a["low"]}), "arrays that it does not know: x"),
    "a wrong shape": (lambda v, a: (v, a | {"low": a["low"][:1]}), r"'low' must be float64 of shape \(4,\)"),
    "a wrong type": (lambda v, a: (v, a | {"low": a["low"].astype(np.float32)}), "however it is float32"),
    "a key lacks": (lambda v, a: (without(v, "schema"), a), "must hold config, embedding_bins, random_state, schema"),
    "a wrong seed": (lambda v, a: (v | {"random_state": "0"}, a), "an integer random_state"),
    "an unknown setting": (lambda v, a: (v | {"config": v["config"] | {"x": 1}}, a), "has no setting 'x'"),
    "edges without bins": (lambda v, a: (v, a | {"embedding_edges": a["low"]}), "no 'embedding_bins'"),
    "no schema": (lambda v, a: (v | {"schema": {}}, a), "must hold 'columns' and 'named'"),
    "a foreign column": (
        lambda v, a: (v | {"schema": {"columns": [{"name": "a"}], "named": True}}, a),
        "must hold 'name', 'kind' and 'categories'",
    ),
    "a foreign kind": (
        lambda v, a: (
            v | {"schema": {"columns": [{"name": "a", "kind": "date", "categories": []}], "named": True}},
            a,
        ),
        "the kind 'number' or 'category'",
    ),
    "no columns": (lambda v, a: (v | {"schema": {"columns": [], "named": True}}, a), "at least one column"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_tampered_state_is_refused(name):
    spoil, message = FAULTS[name]
    with pytest.raises((DataError, ConfigError), match=message):
        TablePreprocessor.from_state(*spoil(*fit("standardization", make_table()).state()))


def test_quantiles_of_a_large_table_depend_on_the_seed_alone():
    X = np.random.default_rng(0).normal(size=(250_000, 1))
    seeds = [TablePreprocessor(random_state=s).fit(X).state()[1]["0.quantiles_"] for s in (1, 1, 2)]
    assert (seeds[0] == seeds[1]).all()
    assert not (seeds[0] == seeds[2]).all()


def test_titanic_is_read_as_it_is(data_dir):
    frame = pd.read_csv(data_dir / "titanic.csv")
    y = frame.pop("Survived")
    preprocessor = TablePreprocessor().fit(frame, y)
    assert preprocessor.schema.numeric == ("Pclass", "Age", "SibSp", "Parch", "Fare")
    assert preprocessor.schema.cardinalities == (4, 5, 10)
    batch = preprocessor.transform(frame)
    assert batch.missing.sum(dim=0).tolist() == frame[list(preprocessor.schema.numeric)].isna().sum().tolist()
    assert (batch.categories == 0).sum(dim=0).tolist() == frame[["Sex", "Embarked", "Deck"]].isna().sum().tolist()

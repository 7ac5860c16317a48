"""A weighted row counts as that many rows: the loss and its gradient, and what fitting does with weights."""

import numpy as np
import pytest
import torch

from mambattn._errors import DataError
from mambattn.configs import (
    FTTransformerConfig,
    MambAttentionConfig,
    MambularConfig,
    MLPConfig,
    PreprocessingConfig,
    ResNetConfig,
    TrainerConfig,
)
from mambattn.models import MLPClassifier, MLPRegressor
from mambattn.models.targets import LabelEncoder, class_weights
from mambattn.tabular import build_network, make_preprocessor
from mambattn.training import cross_entropy, squared_error, weighted_loss

TRAINER = TrainerConfig(lr=0.02, max_epochs=30, verbose=0)
SMALL = MLPConfig(d_model=8, layer_sizes=(16,), head_dropout=0.0, dropout=0.0)
PLAIN = {"d_model": 8, "head_dropout": 0.0, "dropout": 0.0}


@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
@pytest.mark.parametrize(
    "config",
    [
        MambAttentionConfig(**PLAIN, n_layers=1, n_heads=2, d_state=4, attn_dropout=0.0),
        MambularConfig(**PLAIN, n_layers=1, d_state=4),
        FTTransformerConfig(**PLAIN, n_layers=1, n_heads=2, attn_dropout=0.0),
        ResNetConfig(**PLAIN, n_layers=1, d_hidden=16),
        MLPConfig(**PLAIN, layer_sizes=(16,)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_weighted_loss_and_gradient_equal_those_of_repeated_rows(config, loss):
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.normal(size=(12, 2)), rng.choice(["a", "b"], 12)]).astype(object)
    X[:, :2] = X[:, :2].astype(float)
    counts = rng.randint(1, 5, size=12)
    targets = torch.from_numpy(rng.randint(2, size=12))
    targets = targets if loss is cross_entropy else targets.float()
    preprocessor = make_preprocessor(config, PreprocessingConfig(), 0).fit(X.tolist())
    network = build_network(config, preprocessor, 2 if loss is cross_entropy else 1, torch.Generator().manual_seed(0))
    batch = preprocessor.transform(X.tolist())
    repeated = torch.from_numpy(np.repeat(np.arange(12), counts))

    def loss_and_gradient(rows, weights):
        value = weighted_loss(loss(network(batch.take(rows)), targets[rows]), weights)
        return value, torch.cat([g.flatten() for g in torch.autograd.grad(value, list(network.parameters()))])

    weights = torch.from_numpy(counts / counts.mean()).float()
    one, one_gradient = loss_and_gradient(torch.arange(12), weights)
    two, two_gradient = loss_and_gradient(repeated, torch.ones(len(repeated)))
    assert one_gradient.norm() > 0.01
    torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(one_gradient, two_gradient, atol=1e-6, rtol=1e-6)


@pytest.fixture(scope="module")
def overlapping():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 2))
    return X, (X[:, 0] + 1.5 * rng.normal(size=200) > 1.2).astype(int)


def test_class_weight_moves_the_predictions(overlapping):
    X, y = overlapping
    share = {}
    for weight in (None, "balanced", {0: 1.0, 1: 50.0}):
        model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0, class_weight=weight).fit(X, y)
        share[str(weight)] = model.predict(X).mean()
    assert share["None"] < share["balanced"] < share[str({0: 1.0, 1: 50.0})]


def test_sample_weight_of_a_class_equals_its_class_weight(overlapping):
    X, y = overlapping
    by_row = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0).fit(X, y, np.where(y == 1, 3.0, 1.0))
    by_class = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0, class_weight={1: 3.0}).fit(X, y)
    np.testing.assert_array_equal(by_row.predict_proba(X), by_class.predict_proba(X))


def test_rows_of_weight_zero_are_as_if_absent(overlapping):
    X, y = overlapping
    weights = np.ones(len(y))
    weights[150:] = 0
    junk = X.copy()
    junk[150:] = 1e9
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0)
    with_junk = model.fit(junk, y, weights).predict_proba(X)
    np.testing.assert_array_equal(with_junk, model.fit(X[:150], y[:150]).predict_proba(X))


def test_target_scale_is_weighted():
    y = np.array([0.0, 10.0] * 20)
    model = MLPRegressor(SMALL, trainer_config=TRAINER.replace(max_epochs=1), random_state=0)
    model.fit(np.arange(40.0)[:, None], y, np.where(y == 0, 3.0, 1.0), X_val=[[1.0]], y_val=[0.0])
    assert model.target_mean_ == pytest.approx(2.5)
    assert model.target_scale_ == pytest.approx(np.sqrt(0.75 * 2.5**2 + 0.25 * 7.5**2))


def test_balanced_weights_by_hand():
    encoder = LabelEncoder.learn(np.array(["a", "b", "c"]))
    codes, weights = np.array([0, 0, 0, 1, 1, 2]), np.array([1.0, 1.0, 2.0, 1.0, 1.0, 2.0])
    np.testing.assert_allclose(class_weights("balanced", encoder, codes, weights), [8 / 12, 8 / 6, 8 / 6])
    np.testing.assert_allclose(class_weights({"b": 5}, encoder, codes, weights), [1, 5, 1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(200), "at least one non-zero number"),
        (-np.ones(200), r"`sample_weight` must be finite and not negative, however row 0 has -1\.0"),
        (np.full(200, np.nan), "row 0 has nan"),
        (np.ones(199), r"must have the shape \(200,\), however it has \(199,\)"),
        (np.eye(200)[0], "one class only"),
    ],
)
def test_refused_sample_weights(overlapping, weights, message):
    with pytest.raises(DataError, match=message):
        MLPClassifier(SMALL, trainer_config=TRAINER).fit(*overlapping, weights)


def test_class_weight_of_a_class_that_a_fold_lacks():
    labels = np.array(["a", "b", "a"])
    encoder = LabelEncoder.learn(labels)
    weights = class_weights({"rare": 9.0, "b": 3.0, "a": 2.0}, encoder, encoder.encode(labels, "y"), np.ones(3))
    assert weights.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("unit", [1.0, 1e200, 1e-200])
def test_target_scale_of_any_size(unit):
    X, y = np.arange(40.0)[:, None], unit * np.arange(40.0)
    model = MLPRegressor(SMALL, trainer_config=TRAINER, random_state=0).fit(X, y)
    assert model.target_scale_ / unit == pytest.approx(np.std(np.arange(40.0)), rel=0.3)
    assert np.abs(model.predict(X) / unit - np.arange(40.0)).mean() < 10


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({2: 1.0}, "`class_weight` holds the label 2, which is none of the classes"),
        ({1: 2.0, 2: 1.0}, "`class_weight` holds the label 2, .* Correct it, or give every class a weight"),
        ({0: -1.0}, "`class_weight` must be finite and not negative"),
        ({0: 1.0, 1: 1.0, 2: -1.0}, "`class_weight` must be finite and not negative"),
        ("balance", "must be a dict, 'balanced' or None, however class_weight='balance'"),
    ],
)
def test_refused_class_weights(overlapping, weight, message):
    with pytest.raises(DataError, match=message):
        MLPClassifier(SMALL, trainer_config=TRAINER, class_weight=weight).fit(*overlapping)

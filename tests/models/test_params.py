"""Configs as nested parameters; clone, copy, pickle and grid search."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mambattn._errors import ConfigError
from mambattn.configs import MambAttentionConfig, MLPConfig, PreprocessingConfig, TrainerConfig
from mambattn.models import MambAttentionClassifier, MLPClassifier, MLPRegressor

TRAINER = TrainerConfig(lr=0.02, max_epochs=5, verbose=0)
SMALL = MLPConfig(d_model=4, layer_sizes=(8,))


@pytest.fixture(scope="module")
def table():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] > 0).astype(int)


def test_none_shows_the_defaults():
    params = MambAttentionClassifier().get_params()
    assert params["model_config"] is None
    assert params["model_config__d_model"] == 64
    assert params["preprocessing_config__numerical_preprocessing"] == "quantile"
    assert params["trainer_config__batch_size"] == 128
    assert {key.partition("__")[2] for key in params if key.startswith("model_config__")} == set(
        MambAttentionConfig.field_names()
    )
    assert set(MambAttentionClassifier().get_params(deep=False)) == {
        "model_config",
        "preprocessing_config",
        "trainer_config",
        "random_state",
        "class_weight",
    }


def test_nested_parameters_replace_the_frozen_config():
    config = MambAttentionConfig(d_state=16)
    model = MambAttentionClassifier(model_config=config)
    model.set_params(model_config__d_model=32, model_config__n_heads=4, trainer_config__lr=0.1)
    assert model.model_config == MambAttentionConfig(d_model=32, n_heads=4, d_state=16)
    assert model.trainer_config == TrainerConfig(lr=0.1)
    assert config == MambAttentionConfig(d_state=16)


def test_all_changes_of_one_call_at_once():
    # Either change alone is refused: 'cls' requires use_cls and conversely; 100 is no multiple of 8.
    model = MambAttentionClassifier().set_params(model_config__use_cls=True, model_config__pooling_method="cls")
    assert model.model_config.use_cls
    model.set_params(model_config__d_model=100, model_config__n_heads=5)
    assert model.model_config.d_model == 100


def test_a_config_and_its_fields_in_one_call():
    model = MambAttentionClassifier().set_params(model_config__d_model=32, model_config=MambAttentionConfig(d_state=8))
    assert model.model_config == MambAttentionConfig(d_model=32, d_state=8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"model_config__d_modle": 3},
            "Invalid parameter 'model_config__d_modle' .* Did you mean 'model_config__d_model'",
        ),
        ({"modle_config": None}, "Invalid parameter 'modle_config' for estimator MambAttentionClassifier"),
        ({"nothing__like__this": 1}, "Invalid parameter 'nothing__like__this' .* Valid parameters are"),
        ({"model_config__d_model": -1}, "`d_model` must be an integer"),
    ],
)
def test_refused_parameters_change_nothing(params, message):
    model = MambAttentionClassifier()
    with pytest.raises(ValueError, match=message):
        model.set_params(random_state=3, **params)
    assert model.random_state is None
    assert model.model_config is None


def test_wrong_config_is_refused_at_fit(table):
    with pytest.raises(ConfigError, match=r"`model_config` must be a MLPConfig or None, however .*MambAttentionConfig"):
        MLPClassifier(MambAttentionConfig()).fit(*table)
    with pytest.raises(ConfigError, match=r"Use TrainerConfig\(\*\*trainer_config\)"):
        MLPClassifier(trainer_config={"lr": 0.1}).fit(*table)


def test_clone_and_repr(table):
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=np.int64(3), class_weight="balanced")
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert "MLPClassifier(" in repr(model)
    assert "d_model=4" in repr(model)
    assert "MLPClassifier" in model._repr_html_()
    assert "MLPClassifier" in model.fit(*table)._repr_html_()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_fitted_model_predict_the_same(table, copied):
    X, y = table
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0).fit(X, y)
    np.testing.assert_array_equal(copied(model).predict_proba(X), model.predict_proba(X))


def test_grid_search_over_nested_parameters_of_the_default_constructor(table):
    grid = {
        "model_config__d_model": [8, 16],
        "model_config__n_layers": [1],
        "model_config__n_heads": [2],
        "model_config__d_state": [4],
        "model_config__schedule": [None],
        "trainer_config__max_epochs": [3],
        "trainer_config__lr": [1e-2],
        "trainer_config__verbose": [0],
    }
    search = GridSearchCV(MambAttentionClassifier(random_state=0), grid, cv=2).fit(*table)
    assert search.best_estimator_.model_config_.d_model == search.best_params_["model_config__d_model"]
    assert search.best_estimator_.schedule_ == "MA"
    assert len(search.cv_results_["params"]) == 2


def test_grid_search_over_schedules(table):
    fixed = {"d_model": 8, "n_heads": 2, "d_state": 4}
    model = MambAttentionClassifier(MambAttentionConfig(**fixed, schedule="MA"), trainer_config=TRAINER, random_state=0)
    search = GridSearchCV(model, {"model_config__schedule": ["MA", "AM"]}, cv=2).fit(*table)
    assert search.best_estimator_.schedule_ in {"MA", "AM"}


def test_nested_parameters_through_a_pipeline(table):
    pipeline = make_pipeline(FunctionTransformer(), MLPRegressor(SMALL, trainer_config=TRAINER, random_state=0))
    pipeline.set_params(mlpregressor__model_config__d_model=6).fit(*table)
    assert pipeline[-1].model_config_.d_model == 6


def test_fit_uses_what_it_was_given_and_keeps_it(table):
    X, y = table
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(model_config__d_model=32, preprocessing_config=PreprocessingConfig())
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert model.model_config_.d_model == 4

"""All ten estimators through scikit-learn's own checks: small ones here, MambAttention's defaults in the slow tests."""

import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from mambattn.configs import (
    FTTransformerConfig,
    MambAttentionConfig,
    MambularConfig,
    MLPConfig,
    ResNetConfig,
    TrainerConfig,
)
from mambattn.models import (
    FTTransformerClassifier,
    FTTransformerRegressor,
    MambAttentionClassifier,
    MambAttentionRegressor,
    MambularClassifier,
    MambularRegressor,
    MLPClassifier,
    MLPRegressor,
    ResNetClassifier,
    ResNetRegressor,
)

TRAINER = TrainerConfig(lr=0.02, max_epochs=20, patience=20, batch_size=32, verbose=0)
TOKENS = {"d_model": 8, "n_layers": 1, "head_dropout": 0.0}
MAMBA = {"d_state": 4, "expand_factor": 1}
SMALL = [
    cls(model_config=config, trainer_config=TRAINER)
    for config, classes in (
        (
            MambAttentionConfig(**TOKENS, **MAMBA, n_heads=2, attn_dropout=0.0),
            (MambAttentionClassifier, MambAttentionRegressor),
        ),
        (MambularConfig(**TOKENS, **MAMBA), (MambularClassifier, MambularRegressor)),
        (
            FTTransformerConfig(**TOKENS, n_heads=2, attn_dropout=0.0),
            (FTTransformerClassifier, FTTransformerRegressor),
        ),
        (ResNetConfig(**TOKENS, d_hidden=16, dropout=0.0), (ResNetClassifier, ResNetRegressor)),
        (MLPConfig(d_model=8, layer_sizes=(16,), head_dropout=0.0, dropout=0.0), (MLPClassifier, MLPRegressor)),
    )
    for cls in classes
]
DEFAULTS = [MambAttentionClassifier(), MambAttentionRegressor()]


def _excepted(estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": "training is stochastic: repeated rows and weighted rows draw "
        "other batches; the losses are compared in test_weights.py"
    }


@parametrize_with_checks(SMALL, expected_failed_checks=_excepted)
def test_small_estimator(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(DEFAULTS, expected_failed_checks=_excepted)
def test_default_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", SMALL, ids=lambda estimator: type(estimator).__name__)
def test_no_check_is_switched_off(estimator):
    tags = get_tags(estimator)
    assert not any((tags.non_deterministic, tags.no_validation, tags._skip_test))
    assert not (tags.classifier_tags or tags.regressor_tags).poor_score
    assert tags.input_tags.allow_nan
    assert tags.input_tags.categorical
    assert tags.target_tags.required

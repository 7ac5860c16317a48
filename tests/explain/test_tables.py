"""Rows of tables: scores add up to the model's own output, and stand at the right column whatever the stack's order."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from stacks import off, perturbed

from mambattn._errors import ConfigError, DataError
from mambattn.configs import FTTransformerConfig, MambAttentionConfig, MLPConfig, TrainerConfig
from mambattn.explain.joint import joint_effects
from mambattn.explain.order import order_effects
from mambattn.explain.tables import explain_rows
from mambattn.models import (
    FTTransformerClassifier,
    MambAttentionClassifier,
    MambAttentionRegressor,
    MLPClassifier,
    ResNetClassifier,
)

TRAINER = TrainerConfig(max_epochs=1, verbose=0, device="cpu")
LIMIT = 1e-5


def make_table(n=24):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 9, n),
            "ward": rng.choice(["east", "west"], n),
            "dose": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "smokes": rng.random(n) < 0.5,
            "visits": rng.integers(0, 5, n),
        }
    )


TABLE = make_table()
LABELS = np.array(["ill", "well", "new"])[np.arange(len(TABLE)) % 3]


def fitted(cls=MambAttentionClassifier, y=LABELS, X=TABLE, schedule="MAS", use_cls=False):
    """Fit, then move all weights, so that nothing is at its initial value."""
    settings = {"n_heads": 2} if "A" in schedule else {}
    if use_cls:
        settings |= {"use_cls": True, "pooling_method": "cls"}
    if cls is FTTransformerClassifier:
        config = FTTransformerConfig(d_model=16, n_layers=2, n_heads=2)
    else:
        config = MambAttentionConfig(schedule=schedule, d_model=16, d_state=4, shuffle_embeddings=True, **settings)
    model = cls(config, trainer_config=TRAINER, random_state=3).fit(X, y)
    perturbed(model.network_, size=0.2)
    return model


def logits(model, rows=TABLE, network=None):
    with torch.no_grad():
        return (network or model.network_)(model.preprocessor_.transform(rows))


def margins(model, labels, rows=TABLE, network=None):
    """Give each row's logit minus the mean of the others, one by one."""
    out = []
    for row, label in zip(logits(model, rows, network), labels, strict=True):
        code = model.classes_.tolist().index(label)
        out.append(row[code] - torch.cat([row[:code], row[code + 1 :]]).mean())
    return torch.stack(out)


def reading_order(model):
    """Find the order in which the stack reads the columns by sending numbered tokens through."""
    backbone = model.network_.backbone
    numbered = torch.arange(5.0)[None, :, None].expand(1, 5, 16)
    return backbone.arrange(numbered)[0, :5, 0].long().tolist()


@pytest.mark.parametrize("use_cls", [False, True])
@pytest.mark.parametrize("method", ["lrp", "integrated_gradients"])
def test_scores_add_up_to_the_margin_of_the_predicted_class(method, use_cls):
    model = fitted(use_cls=use_cls)
    explained = explain_rows(model, TABLE, method=method)
    assert len(set(explained.targets)) > 1
    assert explained.names == tuple(TABLE)
    assert list(explained.predictions) == list(explained.targets) == model.predict(TABLE).tolist()
    want = margins(model, explained.predictions)
    assert off(explained.outputs, want) <= LIMIT
    found = explained.attribution
    assert off(found.values.sum(1) + found.absorbed * want, want) <= (1e-4 if method == "lrp" else 0.01)
    assert explained.tokens == (*TABLE, "[class]")[: 5 + use_cls]
    assert explained.values[0] == (TABLE.age[0], TABLE.ward[0], TABLE.dose[0], TABLE.smokes[0], TABLE.visits[0])
    assert all((row[2] is None) == missing for row, missing in zip(explained.values, TABLE.dose.isna(), strict=True))


def test_a_class_is_chosen_by_its_label_or_its_text():
    model = fitted(y=np.arange(len(TABLE)) % 2)
    odds = torch.tensor(model.predict_proba(TABLE)).log().diff(dim=1)[:, 0]
    assert off(explain_rows(model, TABLE, target=1).outputs.double(), odds) <= LIMIT
    by_text = explain_rows(model, TABLE, target="0")
    assert off(by_text.outputs.double(), -odds) <= LIMIT
    assert by_text.targets == (0,) * len(TABLE)
    as_bool = fitted(y=np.arange(len(TABLE)) % 2 == 0)
    odds = torch.tensor(as_bool.predict_proba(TABLE)).log().diff(dim=1)[:, 0]
    assert off(explain_rows(as_bool, TABLE, target=True).outputs.double(), odds) <= LIMIT


def test_a_regressor_is_explained_in_the_units_of_its_target():
    model = fitted(MambAttentionRegressor, 500 + 80 * TABLE.visits.to_numpy())
    explained = explain_rows(model, TABLE)
    want = torch.tensor(model.predict(TABLE) - model.target_mean_)
    assert off(explained.outputs.double(), want) <= LIMIT
    found = explained.attribution
    assert off(found.values.sum(1) + found.absorbed * explained.outputs, explained.outputs) <= 1e-4


@pytest.mark.parametrize("use_cls", [False, True])
@pytest.mark.parametrize("column", range(5))
def test_the_one_column_whose_token_is_not_zero_is_found(column, use_cls):
    """All other tokens are 0: what a causal stack reads later has all its content from this column."""
    model = fitted(schedule="M", use_cls=use_cls)
    tokenizer = model.network_.tokenizer
    forward = tokenizer.forward
    tokenizer.forward = lambda batch: forward(batch) * torch.eye(5)[column][:, None]
    for method in ("lrp", "integrated_gradients", "occlusion"):
        scores = explain_rows(model, TABLE, method=method).attribution.values
        others = [other for other in range(5) if other != column]
        assert scores[:, column].abs().min() > 0
        assert not scores[:, others].any()
    explained = explain_rows(model, TABLE)
    order = reading_order(model)
    assert order != sorted(order)
    for query in range(5):
        reads = order.index(query) >= order.index(column)
        # The other tokens are those of the baseline, so that a share is all or nothing.
        assert explained.interaction[query, column] == pytest.approx(float(reads), abs=1e-6)
        for one in explained.maps:
            assert bool(one.values[:, :, query, column].any()) == reads
    if use_cls:
        assert (explained.interaction[:5, 5] == 0).all()
        assert explained.interaction[5, column] == pytest.approx(1, abs=1e-6)
        assert explained.interaction.sum(1) == pytest.approx(np.ones(6), abs=1e-5)


@pytest.mark.parametrize("method", ["lrp", "integrated_gradients", "occlusion"])
def test_baselines_are_the_mean_token_of_the_background(method):
    model, background = fitted(), TABLE.iloc[10:]
    found = explain_rows(model, TABLE.iloc[:4], method=method, background=background, target="well")
    network, index = model.network_, model.classes_.tolist().index("well")
    with torch.no_grad():
        tokens = network.tokenizer(model.preprocessor_.transform(TABLE.iloc[:4]))
        mean = network.tokenizer(model.preprocessor_.transform(background)).mean(0)

        def run(x):
            out = network.head(network.backbone(x))
            return 1.5 * out[:, index] - out.sum(1) / 2

        if method == "occlusion":
            for column in range(5):
                hidden = tokens.clone()
                hidden[:, column] = mean[column]
                assert off(found.attribution.values[:, column], run(tokens) - run(hidden)) <= 1e-4
        if method == "integrated_gradients":
            change = run(tokens) - run(mean.expand_as(tokens))
            assert off(found.attribution.values.sum(1), change) <= 0.01
    itself = explain_rows(model, background, method=method)
    same = explain_rows(model, background, method=method, background=background)
    assert torch.equal(itself.attribution.values, same.attribution.values)


def test_the_interval_is_that_of_a_mean():
    rows = make_table(300)
    explained = explain_rows(fitted(), rows)
    scores = explained.attribution.values.abs()
    assert off(explained.importance, scores.mean(0)) <= LIMIT
    half = 1.96 * scores.std(0) / len(rows) ** 0.5
    want = torch.stack([scores.mean(0) - half, scores.mean(0) + half], dim=1)
    assert ((explained.interval - want).abs() <= 0.15 * half[:, None]).all()
    assert torch.equal(explain_rows(fitted(), rows).interval, explained.interval)
    assert not torch.equal(explain_rows(fitted(), rows, seed=1).interval, explained.interval)


def test_columns_are_matched_by_name_and_nothing_is_left_on_the_model():
    model = fitted(use_cls=True)
    model.network_.zero_grad(set_to_none=True)
    before = {name: value.clone() for name, value in model.network_.state_dict().items()}
    first, again = explain_rows(model, TABLE), explain_rows(model, TABLE[list(TABLE)[::-1]])
    assert torch.equal(first.attribution.values, again.attribution.values)
    assert first.values[3] == again.values[3]
    assert all(torch.equal(value, before[name]) for name, value in model.network_.state_dict().items())
    assert not any(module._forward_hooks for module in model.network_.modules())
    assert all(parameter.grad is None for parameter in model.network_.parameters())


def test_orders_are_what_a_model_shuffled_so_would_give():
    model = fitted(use_cls=True, schedule="MMA")
    effects = order_effects(model, TABLE, n_orders=6, target="ill", seed=1)
    assert effects.orders[0].tolist() == reading_order(model)
    assert effects.orders.shape == (7, 5)
    other = copy.deepcopy(model)
    for order, outputs, importance in zip(effects.orders, effects.outputs, effects.importance, strict=True):
        other.network_.backbone.permutation = order
        assert off(outputs, margins(other, ["ill"] * len(TABLE))) <= LIMIT
        assert off(importance, explain_rows(other, TABLE, target="ill").importance) <= 1e-4
    moved = (effects.outputs[1:] - effects.outputs[0]).double().numpy()
    np.testing.assert_allclose(effects.spread, np.sqrt((moved**2).mean(0)), rtol=1e-4)
    want = [spearmanr(effects.importance[0], one).statistic for one in effects.importance[1:]]
    np.testing.assert_allclose(effects.agreement, want, atol=1e-9)
    assert effects.share > 0.01


def test_attention_that_is_not_causal_knows_no_order():
    effects = order_effects(fitted(FTTransformerClassifier), TABLE, n_orders=5)
    assert effects.share <= LIMIT
    assert effects.agreement.tolist() == [1.0] * 5


def test_joint_effects_are_those_of_a_known_function():
    """Of ``a b + c`` the interaction of a and b is the product of their distances from the mean, and no other is."""
    model = fitted(y=np.arange(len(TABLE)) % 2)
    network = model.network_

    def known(x):
        a, b, c = x.sum(-1)[:, :3].T
        return torch.stack([torch.zeros_like(c), a * b + c], dim=1)

    network.backbone.forward, network.head = known, torch.nn.Identity()
    found = joint_effects(model, TABLE, target=1)
    with torch.no_grad():
        sums = network.tokenizer(model.preprocessor_.transform(TABLE)).sum(-1)
    a, b, c = (sums - sums.mean(0))[:, :3].T
    want = torch.zeros(len(TABLE), 5, 5)
    want[:, 0, 0], want[:, 1, 1], want[:, 2, 2] = a * sums[:, 1], b * sums[:, 0], c
    want[:, 0, 1] = want[:, 1, 0] = a * b
    torch.testing.assert_close(found.values, want, atol=1e-5, rtol=1e-4)
    some = joint_effects(model, TABLE, ["ward", "age"], target=1)
    assert some.names == ("ward", "age")
    torch.testing.assert_close(some.strength, found.strength[[1, 0]][:, [1, 0]])
    assert torch.equal(joint_effects(model, TABLE, iter(["ward", "age"]), target=1).values, some.values)


def test_results_are_plain():
    rows = explain_rows(fitted(use_cls=True), TABLE[:3]).to_dict()
    assert rows["values"][0][1] in ("east", "west")
    assert len(rows["interaction"]) == 6
    json.dumps([rows, order_effects(fitted(), TABLE[:3], 2).to_dict(), joint_effects(fitted(), TABLE[:3]).to_dict()])


def test_bad_input_is_refused_with_the_mend():
    model = fitted()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        explain_rows(MambAttentionClassifier(), TABLE)
    for cls in (MLPClassifier, ResNetClassifier):
        dense = cls(MLPConfig(d_model=4, layer_sizes=(4,)) if cls is MLPClassifier else None, trainer_config=TRAINER)
        with pytest.raises(ConfigError, match=f"however it is a {cls.__name__}. Use MambAttention, Mambular or FTT"):
            explain_rows(dense.fit(TABLE, LABELS), TABLE)
    for stranger in (LogisticRegression(), "model"):
        with pytest.raises(ConfigError, match="Use MambAttention"):
            explain_rows(stranger, TABLE)
    numbers = TABLE[["age", "visits"]].to_numpy()
    with pytest.raises(ValueError, match="X has 1 features, but MambAttentionClassifier is expecting 2 features"):
        explain_rows(fitted(X=numbers), numbers[:, :1])
    with pytest.raises(DataError, match=r"feature names.*\n.*\n.*- dose"):
        explain_rows(model, TABLE.drop(columns="dose"))
    with pytest.raises(ConfigError, match="one of the classes 'ill', 'new', 'well', however target='dead'"):
        explain_rows(model, TABLE, target="dead")
    with pytest.raises(ConfigError, match=r"MambAttentionRegressor has none. Leave it out"):
        explain_rows(fitted(MambAttentionRegressor, TABLE.visits), TABLE, target=1)
    with pytest.raises(ConfigError, match="`method` must be one of 'lrp', 'integrated_gradients', 'occlusion'"):
        explain_rows(model, TABLE, method="shap")
    with pytest.raises(ConfigError, match="single row"):
        explain_rows(model, TABLE[:1])
    with pytest.raises(ConfigError, match=r"no 'height'. Use age, ward, dose, smokes, visits."):
        joint_effects(model, TABLE, ["age", "height"])
    for columns in ("age", 3, []):
        with pytest.raises(ConfigError, match=r"`columns` must be names of columns, .* Use columns=\['age', 'ward'\]"):
            joint_effects(model, TABLE, columns)
    with pytest.raises(ConfigError, match="`n_orders`"):
        order_effects(model, TABLE, 0)
    for seed in (-1, 1.5):
        with pytest.raises(ConfigError, match="`seed` must be an integer from 0"):
            explain_rows(model, TABLE, seed=seed)
        with pytest.raises(ConfigError, match="`seed` must be an integer from 0"):
            order_effects(model, TABLE, 2, seed=seed)


@pytest.mark.parametrize("method", ["lrp", "integrated_gradients"])
def test_rows_are_explained_in_inference_mode_too(method):
    if method == "integrated_gradients":
        pytest.importorskip("captum")
    model = fitted()
    want = explain_rows(model, TABLE, method=method)
    with torch.inference_mode():
        found = explain_rows(model, TABLE, method=method)
        assert order_effects(model, TABLE, 2).importance.isfinite().all()
    assert torch.equal(found.attribution.values, want.attribution.values)

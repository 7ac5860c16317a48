"""Explanations of trained models, against what is known to decide: the value asked for, the planted columns, the pixels.

Each model must be right first. The numbers of other methods are in ``docs/explain.md``.
"""

from functools import partial

import pytest
import torch
from known import digits, planted, recall

from mambattn.explain.attribution import gradient_times_input, integrated_gradients, occlusion
from mambattn.explain.evaluation import hit_rate
from mambattn.explain.gradient_map import gradient_times_map
from mambattn.explain.perturbation import perturbation_curve
from mambattn.explain.randomisation import randomisation_test
from mambattn.explain.relevance import lrp

pytestmark = pytest.mark.slow
SEEDS = (0, 1, 2)


def found(scores, known):
    """Share of rows in which the value asked for ranks first among the eight tokens before the question."""
    return hit_rate(scores[:, :8], known.wanted)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("schedule", ["MA", "SA", "MM", "SS"])
def test_relevance_finds_the_value_asked_for(schedule, seed):
    known = recall(schedule, seed)
    assert known.score >= 0.99
    relevance = lrp(known.model, known.tokens, known.labels)
    assert found(relevance.values, known) >= 0.95
    assert relevance.completeness_error.max() <= 1e-4
    random = torch.rand(200, 9, generator=torch.Generator().manual_seed(seed))
    assert 0.05 <= found(random, known) <= 0.20
    # The negative control neither adds up nor finds as much.
    plain = gradient_times_input(known.model, known.tokens, known.labels)
    assert plain.completeness_error.median() > 0.05
    assert found(plain.values, known) < found(relevance.values, known)
    # From a mean token, and from zeros, where the first norm is a step.
    for baseline in (known.tokens.mean((0, 1)), None):
        path = integrated_gradients(known.model, known.tokens, known.labels, baseline)
        assert (path.completeness_error <= 0.01).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_relevant_patches_keep_a_digit_and_the_others_do_not(seed):
    known = digits(seed)
    assert known.score >= 0.95
    values = lrp(known.model, known.tokens, known.labels).values
    negative, positive = (
        perturbation_curve(
            known.model, known.tokens, values, known.labels, known.baseline, order, measure="probability"
        )
        for order in ("negative", "positive")
    )
    assert negative.auc - positive.auc >= 0.40
    assert (negative.random_auc - positive.random_auc).abs().max() <= 0.06
    for baseline in (known.baseline, None):
        path = integrated_gradients(known.model, known.tokens, known.labels, baseline)
        assert (path.completeness_error <= 0.01).all()


@pytest.mark.parametrize("method", [integrated_gradients, occlusion, lrp])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_columns_come_first(seed, method):
    known = planted(seed)
    assert known.score >= 0.95
    values = method(known.model, known.tokens, 0, known.baseline).values.abs()
    assert set(values.mean(0).topk(3).indices.tolist()) == {0, 5, 9}
    top = values.topk(3).indices
    local = torch.stack([(top == column).any(1) for column in known.wanted[0]]).float().mean()
    assert local >= 0.75


@pytest.mark.parametrize("seed", SEEDS)
def test_integrated_gradients_add_up_through_a_head_of_kinks(seed):
    """Some 30 of its ReLU units switch on the path from the mean; one row of 600 changes by a 20th of what it wanders."""
    known = planted(seed)
    path = integrated_gradients(known.model, known.tokens, 0, known.baseline)
    assert (path.completeness_error <= 0.01).double().mean() >= 0.995
    after, before = (known.model.head(known.model.backbone(x))[:, 0] for x in (known.tokens, known.baseline[None]))
    miss = (path.values.sum(1) - after + before).abs()
    assert (miss <= 0.01 * torch.maximum(after.abs(), before.abs())).all()


MODELS = {"digits": digits, "planted": planted} | {name: partial(recall, name) for name in ("MA", "SA", "MM", "SS")}


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_an_output_go_with_the_weights(name):
    """Of every method that is called class-specific, on every model there is."""
    known = MODELS[name](0)
    x, target = known.tokens[:50], 0 if name == "planted" else known.labels[:50]
    baseline = known.tokens.mean((0, 1)) if known.baseline is None else known.baseline

    def scores(method, model):
        return method(model, x, target, baseline).values

    for method, n_draws in ((lrp, 10), (occlusion, 10), (integrated_gradients, 5)):
        found = randomisation_test(partial(scores, method), known.model, n_draws)
        assert abs(found.correlation) <= 0.30, method.__name__


@pytest.mark.parametrize("form", ["equation", "released"])
@pytest.mark.parametrize("schedule", ["MM", "SS"])
def test_gradient_times_map_keeps_the_token_that_reads(schedule, form):
    """It fails the test, through the identity in each of its matrices; the other tokens pass."""
    known = recall(schedule, 0)

    def scores(model):
        return gradient_times_map(model, known.tokens[:50], known.labels[:50], form).values

    assert randomisation_test(scores, known.model).correlation > 0.30
    assert abs(randomisation_test(lambda model: scores(model)[:, :8], known.model).correlation) <= 0.15

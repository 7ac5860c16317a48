"""Explanations of trained models, against what is known to decide: the value asked for, the planted columns, the pixels.

Each model must be right first. The numbers of other methods are in ``docs/explain.md``.
"""

import pytest
import torch
from known import digits, planted, recall

from mambattn.explain.attribution import gradient_times_input, integrated_gradients, occlusion
from mambattn.explain.evaluation import hit_rate
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
    # From a mean token: zeros are where the first norm is a step.
    path = integrated_gradients(known.model, known.tokens, known.labels, known.tokens.mean((0, 1)))
    assert (path.completeness_error <= 0.01).float().mean() >= 0.90


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
    path = integrated_gradients(known.model, known.tokens, known.labels, known.baseline)
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
def test_scores_of_an_output_go_with_the_weights(seed):
    known = digits(seed)
    x, labels = known.tokens[:50], known.labels[:50]
    specific = {
        "lrp": lambda model: lrp(model, x, labels).values,
        "integrated gradients": lambda model: integrated_gradients(model, x, labels, known.baseline).values,
        "occlusion": lambda model: occlusion(model, x, labels, known.baseline).values,
    }
    for name, make_scores in specific.items():
        assert abs(randomisation_test(make_scores, known.model).correlation) <= 0.30, name

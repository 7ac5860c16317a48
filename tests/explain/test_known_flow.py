"""On models of which the answer is known, rollouts of whole blocks find it where raw maps and published rollouts do not."""

import known
import pytest
import torch

from mambattn.explain import attention_maps, rollout
from mambattn.explain.perturbation import perturbation_curve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["norm", "alti"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("schedule", ["MA", "SA", "MM", "SS"])
def test_a_block_rollout_finds_the_matched_pair(schedule, seed, kind):
    recall = known.recall(schedule, seed)
    assert recall.score >= 0.99
    flow = rollout(recall.model, recall.tokens, kind, positions=[8]).total[:, 0, :8]
    first = flow.argmax(1)
    assert ((first == recall.wanted) | (first == recall.wanted - 1)).double().mean() >= 0.95


def test_a_raw_map_and_a_published_rollout_are_no_explanation_of_two_scans():
    """They find the value less often than chance would: the reason to look at whole blocks."""
    recall = known.recall("MM", 0)
    raw = attention_maps(recall.model, recall.tokens)[-1].values[:, 0, 8, :8]
    published = rollout(recall.model, recall.tokens, "paper", positions=[8]).total[:, 0, :8]
    for scores in (raw, published):
        assert (scores.argmax(1) == recall.wanted).double().mean() <= 0.3


@pytest.mark.parametrize("seed", range(3))
def test_a_block_rollout_tells_which_patches_of_a_digit_matter(seed):
    digits = known.digits(seed)
    flow = rollout(digits.model, digits.tokens, baseline=digits.baseline).total.mean(1)
    gaps = {}
    for name, scores in {
        "flow": flow,
        "random": torch.rand(flow.shape, generator=torch.Generator().manual_seed(0)),
    }.items():
        curves = (
            perturbation_curve(
                digits.model,
                digits.tokens,
                scores,
                digits.labels,
                digits.baseline,
                order,
                measure="accuracy",
                n_random=1,
            )
            for order in ("negative", "positive")
        )
        negative, positive = curves
        gaps[name] = negative.auc - positive.auc
    assert gaps["flow"] >= 0.3, gaps
    assert abs(gaps["random"]) <= 0.06, gaps

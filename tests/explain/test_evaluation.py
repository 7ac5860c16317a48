"""The evaluations give what can be worked out by hand or by another library."""

import json

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score
from stacks import make_stack

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain.evaluation import completeness, hit_rate
from mambattn.explain.flow import rollout
from mambattn.explain.perturbation import perturbation_curve
from mambattn.explain.randomisation import randomisation_test
from mambattn.explain.relevance import lrp
from mambattn.explain.results import Attribution
from mambattn.explain.segmentation import segmentation_scores


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def still_stack():
    """A stack that gives its input."""
    stack = make_stack("A")
    with torch.no_grad():
        stack.layers[0].mixer.out_proj.weight.zero_()
        stack.layers[0].mixer.out_proj.bias.zero_()
    return stack


def test_hit_rates_count_rows():
    scores = torch.tensor([[0.0, 3.0, 2.0, 1.0], [5.0, 1.0, 2.0, 3.0]])
    assert hit_rate(scores, torch.tensor([1, 3])) == 0.5
    assert hit_rate(scores, torch.tensor([1, 3]), k=2) == 1.0
    assert hit_rate(scores, torch.tensor([[2, 3], [1, 2]]), k=3) == 1.0
    assert hit_rate(scores, torch.tensor([[2, 3], [1, 2]])) == 0.0
    mask = torch.tensor([[True, True, False, False], [False, False, True, False]])
    assert hit_rate(scores, mask) == 0.5
    random = hit_rate(torch.rand(4000, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(4000).long())
    assert abs(random - 1 / 8) < 0.02


def test_a_curve_over_a_sum_is_the_sum_of_what_is_left():
    stack, x = still_stack(), draw(4, 6, 16)
    baseline = torch.full((16,), 0.5)
    parts = (x - baseline).sum(-1)
    positive = perturbation_curve(stack, x, parts, lambda y: y.sum((1, 2)), baseline, n_steps=3)
    ordered = parts.sort(dim=1, descending=True).values
    for step, value in enumerate(positive.values):
        assert value == pytest.approx((ordered[:, 2 * step :].sum(1) + 6 * 8).mean().item(), abs=1e-4)
    assert positive.fractions == (0.0, 2 / 6, 4 / 6, 1.0)
    a, b, c, d = positive.values
    assert positive.auc == pytest.approx((a / 2 + b + c + d / 2) / 3, rel=1e-5)
    negative = perturbation_curve(stack, x, parts, lambda y: y.sum((1, 2)), baseline, "negative", 3)
    assert positive.auc < positive.random_auc.min()
    assert negative.auc > negative.random_auc.max()
    assert positive.random.shape == (10, 4)
    assert json.loads(json.dumps(positive.to_dict()))["random_auc"] == positive.random_auc.tolist()


@torch.no_grad()
def test_probability_and_accuracy_are_those_of_the_output():
    stack, x = make_stack("MA"), draw(8, 5, 16)
    labels = stack(x)[:, 4].argmax(1)
    scores = draw(8, 5, seed=2)
    accuracy = perturbation_curve(stack, x, scores, (4, labels), measure="accuracy")
    assert accuracy.values[0] == 1.0
    probability = perturbation_curve(stack, x, scores, (4, labels), measure="probability")
    first = x.clone()
    first[torch.arange(8), scores.argmax(1)] = 0
    want = stack(first)[:, 4].softmax(-1)
    assert probability.values[1] == pytest.approx(want[torch.arange(8), labels].mean().item(), rel=1e-5)
    assert accuracy.values[1] == (want.argmax(1) == labels).float().mean().item()


def test_a_curve_depends_on_its_seed_alone():
    stack, x, scores = make_stack("M"), draw(3, 5, 16), draw(3, 5)
    state = torch.get_rng_state()
    curves = [perturbation_curve(stack, x, scores, (4, 0), seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(curves[0].random, curves[1].random)
    assert not torch.equal(curves[0].random, curves[2].random)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_correlation_is_spearmans():
    first, second = draw(3, 12).round(), draw(3, 12, seed=2).round()  # with ties
    given = iter([first, second])
    found = randomisation_test(lambda model: next(given), torch.nn.Linear(1, 1), copies=1)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        assert found.correlations[0, row].item() == pytest.approx(spearmanr(a, b).statistic, abs=1e-6)
    assert found.correlation == pytest.approx(found.correlations.mean().item())
    assert json.dumps(found.to_dict())


def test_relevance_is_lost_with_the_weights_and_a_flow_is_not():
    stack, x = make_stack("MM", settings={"M": {"bidirectional": True}}), draw(8, 12, 16)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    specific = randomisation_test(lambda model: lrp(model, x, (6, 3)).values[:, :6], stack)
    flow = randomisation_test(lambda model: rollout(model, x, positions=[6]).total[:, 0], stack)
    assert abs(specific.correlation) <= 0.3
    assert flow.correlation > 0.4
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())


def test_every_weight_is_drawn_anew():
    seen = []
    stack = make_stack("MA")
    randomisation_test(lambda model: seen.append(model) or torch.rand(2, 3), stack, copies=2)
    for name, value in stack.state_dict().items():
        for copy in seen[1:]:
            other = copy.state_dict()[name]
            torch.testing.assert_close(other.flatten().sort().values, value.flatten().sort().values)
            assert not torch.equal(other, value)


def test_completeness_sums_up():
    one = Attribution("one", torch.ones(2, 3), torch.tensor([0.1, 0.3]), torch.tensor([-0.5, 0.5]))
    nothing = Attribution("none", torch.ones(2, 3), torch.full((2,), torch.nan), torch.full((2,), torch.nan))
    first, second = completeness([one, nothing])
    assert first.to_dict() == pytest.approx({"method": "one", "mean_error": 0.2, "max_error": 0.3, "absorbed": 0.5})
    assert second.mean_error != second.mean_error
    assert completeness(one) == (first,)


def test_segmentation_scores_are_those_of_scikit_learn():
    scores, masks = draw(5, 4, 4), draw(5, 4, 4, seed=2) > 0.3
    found = segmentation_scores(scores, masks)
    chosen = scores > scores.mean((1, 2), keepdim=True)
    assert found.pixel_accuracy == pytest.approx(accuracy_score(masks.flatten(), chosen.flatten()))
    assert found.mean_iou == pytest.approx(jaccard_score(masks.flatten(), chosen.flatten(), average="macro"))
    precision = []
    for one, mask in zip(scores.double(), masks, strict=True):
        share = ((one - one.min()) / (one.max() - one.min())).flatten()
        sides = torch.stack([~mask.flatten(), mask.flatten()])
        precision.append(average_precision_score(sides.flatten(), torch.stack([1 - share, share]).flatten()))
    assert found.mean_average_precision == pytest.approx(sum(precision) / 5)
    perfect = segmentation_scores(masks.float(), masks)
    assert list(perfect.to_dict().values()) == pytest.approx([1.0, 1.0, 1.0])


def test_bad_input_is_refused():
    stack, x, scores = make_stack("M"), draw(3, 5, 16), draw(3, 5)
    with pytest.raises(ShapeError, match=r"\(3, 5\), however its shape is \(3, 4\)"):
        perturbation_curve(stack, x, scores[:, :4], (4, 0))
    with pytest.raises(ConfigError, match="`order`"):
        perturbation_curve(stack, x, scores, (4, 0), order="up")
    with pytest.raises(ConfigError, match="`n_steps` must be at most 5"):
        perturbation_curve(stack, x, scores, (4, 0), n_steps=6)
    with pytest.raises(ConfigError, match="it is a function"):
        perturbation_curve(stack, x, scores, lambda y: y[:, 0, 0], measure="accuracy")
    with pytest.raises(ShapeError, match="at least k=6"):
        hit_rate(scores, torch.zeros(3).long(), k=6)
    with pytest.raises(ShapeError, match="`wanted`"):
        hit_rate(scores, torch.zeros(4).long())
    with pytest.raises(ShapeError, match="`masks`"):
        segmentation_scores(scores, torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ConfigError, match="boolean"):
        segmentation_scores(scores, scores)
    with pytest.raises(ConfigError, match="`copies`"):
        randomisation_test(lambda model: scores, stack, copies=0)

"""What cannot be asked for is refused with the mend, whatever argument it comes in."""

import pytest
import torch
from stacks import make_stack

from mambattn._errors import ConfigError, DataError, ShapeError
from mambattn.explain import (
    attention_maps,
    gradient_times_input,
    gradient_times_map,
    hit_rate,
    integrated_gradients,
    knockout,
    lrp,
    perturbation_curve,
    randomisation_test,
    receptive_field,
    rollout,
    segmentation_scores,
)

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
SCORES = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def stack():
    return make_stack("MA-")


@pytest.mark.parametrize("argument", ["channels", "layers"])
@pytest.mark.parametrize("value", [3, None, [], [1.5], [True], ["a"]])
def test_indices_that_are_no_integers(stack, argument, value):
    if (argument, value) != ("layers", None):
        with pytest.raises(ConfigError, match=rf"`{argument}` must be integers, .* Use {argument}=\["):
            attention_maps(stack, X, **{argument: value})


@pytest.mark.parametrize("value", [1, [], [1.5], "0"])
def test_positions_that_are_no_integers(stack, value):
    with pytest.raises(ConfigError, match="`positions` must be integers"):
        rollout(stack, X, positions=value)


@pytest.mark.parametrize("listed", [iter, torch.tensor, lambda values: torch.tensor(values).numpy()])
def test_indices_may_come_from_anything_that_lists_them(stack, listed):
    want = attention_maps(stack, X, channels=[0, 2], layers=[0, 1])
    found = attention_maps(stack, X, channels=listed([0, 2]), layers=listed([0, 1]))
    assert [one.layer for one in found] == [0, 1]
    assert all(torch.equal(one.values, other.values) for one, other in zip(found, want, strict=True))
    flow = rollout(stack, X, positions=listed([0, 4]))
    assert flow.to_dict()["positions"] == [0, 4]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "it is a NoneType"),
        (X.numpy(), r"a ndarray. Use torch.as_tensor\(x\)"),
        (X[:0], r"with a token at least, however its shape is \(0, 5, 16\)"),
        (X[:, :0], r"with a token at least, however its shape is \(2, 0, 16\)"),
        (X.double(), r"the model's type, torch.float32, however it is torch.float64"),
        (X.long(), r"Use x.to\(torch.float32\)"),
    ],
)
def test_input_that_the_model_does_not_take(stack, x, message):
    with pytest.raises(ShapeError, match=message):
        attention_maps(stack, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_coarse_model(dtype):
    for explain in (attention_maps, rollout, receptive_field):
        with pytest.raises(ConfigError, match=rf"it has weights in {dtype}. Use model.float\(\)"):
            explain(make_stack("MA").to(dtype), X.to(dtype))


def test_a_model_that_mixes_no_tokens():
    stack = make_stack("--")
    assert attention_maps(stack, X) == receptive_field(stack, X) == ()
    for positions in (None, [0]):
        with pytest.raises(ConfigError, match="a layer that mixes tokens, however none of its 2 does"):
            rollout(stack, X, positions=positions)
    with pytest.raises(ConfigError, match=r"there is no 0\. No layer of this model does\."):
        attention_maps(stack, X, layers=[0])
    with pytest.raises(ConfigError, match=r"there is no 0\. No layer of this model does\."):
        knockout(stack, X, [(0, 0, 1)])


@pytest.mark.parametrize("explain", [lrp, gradient_times_input, gradient_times_map, integrated_gradients])
@pytest.mark.parametrize(
    "target", [lambda y: y[:, 0, 0].detach(), lambda y: y[:, 0].argmax(-1), lambda y: y.new_ones(2)]
)
def test_a_target_without_a_gradient(stack, explain, target):
    if explain is integrated_gradients:
        pytest.importorskip("captum")
    with pytest.raises(ConfigError, match="`target` must be differentiable in the output"):
        explain(stack, X, target)


@pytest.mark.parametrize("baseline", [0.0, X.numpy()])
def test_a_baseline_that_is_no_tensor(stack, baseline):
    with pytest.raises(ShapeError, match="`baseline` must be a Tensor"):
        lrp(stack, X, (0, 0), baseline)


@pytest.mark.parametrize("edges", [None, 5, [(0, 1)], {0: 5}, {0: [3]}, {0: (0, 1)}, "abc"])
def test_edges_that_are_none(stack, edges):
    with pytest.raises(ConfigError, match=r"`edges` must be triples .* Use \{0: \[\(2, 5\)\]\}"):
        knockout(stack, X, edges)


@pytest.mark.parametrize("layer", [0.0, True, "0"])
def test_an_edge_in_a_layer_that_is_no_integer(stack, layer):
    with pytest.raises(ConfigError, match=f"there is no {layer!r}. They are 0"):
        knockout(stack, X, [(layer, 0, 1)])


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None, 2**63])
def test_a_seed_that_no_generator_takes(stack, seed):
    with pytest.raises(ConfigError, match="`seed` must be an integer from 0"):
        perturbation_curve(stack, X, SCORES, (0, 0), seed=seed)
    with pytest.raises(ConfigError, match="`seed` must be an integer from 0"):
        randomisation_test(lambda model: SCORES, stack, seed=seed)


def test_scores_that_are_not_numbers(stack):
    lost = SCORES.masked_fill(SCORES > 0, torch.nan)
    for ask in (
        lambda: perturbation_curve(stack, X, lost, (0, 0)),
        lambda: randomisation_test(lambda model: lost, stack),
        lambda: hit_rate(lost, torch.tensor([0, 1])),
        lambda: segmentation_scores(lost, SCORES > 0),
    ):
        with pytest.raises(DataError, match=r"`scores` must be numbers, however \d of 10 are NaN"):
            ask()


def test_copies_without_numbers_do_not_pass_for_alike(stack):
    """Ranks of NaN are all the same, which would correlate."""
    found = randomisation_test(lambda model: SCORES if model is stack else SCORES * torch.nan, stack, 2)
    assert found.correlations.isnan().all()


@pytest.mark.parametrize(
    ("scores", "message"),
    [(SCORES[0], r"however its shape is \(5,\)"), ("a", "it is a str"), (SCORES[:0], r"\(0, 5\)")],
)
def test_scores_of_another_shape(stack, scores, message):
    for ask in (
        lambda: perturbation_curve(stack, X, scores, (0, 0)),
        lambda: randomisation_test(lambda model: scores, stack),
        lambda: hit_rate(scores, torch.tensor([0, 1])),
    ):
        with pytest.raises(ShapeError, match=r"`scores` must be a Tensor \(batch, source\).*" + message):
            ask()


def test_copies_that_are_none_or_score_otherwise(stack):
    with pytest.raises(ConfigError, match="`copies` must hold a model at least"):
        randomisation_test(lambda model: SCORES, stack, [])
    with pytest.raises(ShapeError, match=r"= \(2, 5\), however its shape is \(2, 4\)"):
        randomisation_test(lambda model: SCORES if model is stack else SCORES[:, :4], stack)


@pytest.mark.parametrize("wanted", [[0, 5], [0, -1], [0.0, 1.0]])
def test_a_source_to_be_found_that_is_not_there(wanted):
    with pytest.raises(ConfigError, match="`wanted` must hold integers from 0 to 4"):
        hit_rate(SCORES, torch.tensor(wanted))


@pytest.mark.parametrize("wanted", [[0, 1], torch.tensor(1), torch.zeros(2, 1, 1, dtype=torch.int64)])
def test_sources_to_be_found_of_another_shape(wanted):
    with pytest.raises(ShapeError, match="`wanted` must be indices"):
        hit_rate(SCORES, wanted)

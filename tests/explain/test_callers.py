"""Explanations are the same whatever modes their caller is in, and leave no trace of themselves."""

import pytest
import torch
from stacks import make_stack, off

from mambattn.explain import (
    attention_maps,
    contributions,
    gradient_times_input,
    gradient_times_map,
    integrated_gradients,
    knockout,
    lrp,
    occlusion,
    perturbation_curve,
    randomisation_test,
    receptive_field,
    rollout,
)

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
SCORES = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
ASKED = {
    "maps": lambda model, x: attention_maps(model, x)[0].values,
    "contributions": lambda model, x: contributions(model, x, 0).values,
    "reach": lambda model, x: receptive_field(model, x)[0].distance,
    "rollout": lambda model, x: rollout(model, x, "alti", baseline=x.mean((0, 1))).total,
    "rollout as published": lambda model, x: rollout(model, x, "paper", positions=[3]).total,
    "lrp": lambda model, x: lrp(model, x, (3, torch.tensor([0, 1])), x.mean((0, 1))).values,
    "gradient × input": lambda model, x: gradient_times_input(model, x, (3, 0)).values,
    "gradient × map": lambda model, x: gradient_times_map(model, x, (3, 0), "released").values,
    "integrated gradients": lambda model, x: integrated_gradients(model, x, (3, 0), n_steps=8).values,
    "occlusion": lambda model, x: occlusion(model, x, (3, 0)).values,
    "knockout": lambda model, x: knockout(model, x, {0: [(0, 3)]}).change,
    "perturbation": lambda model, x: torch.tensor(perturbation_curve(model, x, SCORES, (3, 0), n_random=1).values),
    "randomisation": lambda model, x: randomisation_test(lambda one: lrp(one, x, (3, 0)).values, model, 2).correlations,
}


def state_of(model):
    parts = list(model.modules())
    hooks = [[len(kind) for kind in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)] for m in parts]
    parameters = [(p.grad is None, p.requires_grad) for p in model.parameters()]
    weights = [value.clone() for value in model.state_dict().values()]
    return [[part.training for part in parts], hooks, parameters], [*weights, torch.get_rng_state()]


@pytest.mark.parametrize(
    "caller", ["inference mode", "no gradient", "inference tensor", "training", "frozen", "double"]
)
@pytest.mark.parametrize("name", ASKED)
def test_any_caller_gets_the_same_and_nothing_is_left(name, caller):
    if name in ("integrated gradients", "occlusion"):
        pytest.importorskip("captum")
    ask, x, mode = ASKED[name], X.mT.contiguous().mT, torch.enable_grad()
    model = make_stack("MSALG-", settings={"M": {"bidirectional": True}}, dropout=0.5)
    want = ask(model, X)
    if caller == "inference mode":
        mode = torch.inference_mode()
    elif caller == "no gradient":
        mode = torch.no_grad()
    elif caller == "inference tensor":
        with torch.inference_mode():
            x = x.clone()
    elif caller == "training":
        model.train()
    elif caller == "frozen":
        model.requires_grad_(False)
    else:
        model, x = model.double(), x.double()
    plain, tensors = state_of(model)
    with mode:
        found = ask(model, x)
    assert found.dtype == want.dtype or caller == "double"
    assert off(found, want) <= 1e-4
    assert not found.requires_grad
    plain_after, tensors_after = state_of(model)
    assert plain_after == plain
    assert all(map(torch.equal, tensors_after, tensors))

"""A population against the same networks trained one at a time with torch's own Adam."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambattn._errors import ConfigError, DataError
from mambattn.stack import Stack
from mambattn.training.population import Population, PopulationAdam

SCHEDULES = ["AA", "MM", "MAM", "S-", "LG"]


def make(schedule: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    settings = {letter: {"n_heads": 2, "causal": True} for letter in "ALG"} | {"M": {"d_state": 3}, "S": {"d_state": 4}}
    chosen = {letter: value for letter, value in settings.items() if letter in schedule}
    return Stack(8, schedule, settings=chosen, norm_position="post").double()


def course(share: float) -> float:
    return 1 - share / 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_members_train_as_they_would_alone(schedule: str) -> None:
    networks = [make(schedule, seed) for seed in range(3)]
    lrs = torch.tensor([1e-3, 3e-3, 1e-2], dtype=torch.float64)
    torch.manual_seed(9)
    x, y = torch.randn(2, 12, 3, 4, 5, 8, dtype=torch.float64)
    y[:, 1] *= 50  # gradients of member 1 are clipped, those of the others less or not

    population = Population(networks)
    adam = PopulationAdam(population, lrs, 12, course, betas=(0.9, 0.98))
    together = []
    for t in range(12):
        loss = (population(x[t]) - y[t]).square().mean((1, 2, 3))
        adam.step(torch.autograd.grad(loss.sum(), population.weights)[0])
        together.append(loss.detach())

    for m, network in enumerate(networks):
        single = torch.optim.Adam(network.parameters(), betas=(0.9, 0.98))
        for t in range(12):
            single.param_groups[0]["lr"] = float(lrs[m]) * course(t / 12)
            single.zero_grad()
            loss = F.mse_loss(network(x[t, m]), y[t, m])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            single.step()
            assert abs(loss.item() - together[t][m].item()) <= 1e-9 * loss.item()
        for name, value in population.state_of(m).items():
            torch.testing.assert_close(value, network.state_dict()[name], rtol=1e-7, atol=1e-9)


def test_members_do_not_touch_each_other() -> None:
    networks = [make("MA", seed) for seed in range(3)]
    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, 8, dtype=torch.float64)
    population = Population(networks)
    before, gradient = population(x).detach(), torch.autograd.grad(population(x)[1].sum(), population.weights)[0]
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0
    x[1] = float("nan")
    after = population(x).detach()
    assert torch.equal(before[[0, 2]], after[[0, 2]])


def test_other_rows_than_its_own() -> None:
    networks = [make("M", seed) for seed in range(3)]
    x = torch.randn(2, 2, 5, 8, dtype=torch.float64)
    population = Population(networks)
    found = population(x, weights=population.weights.detach()[[2, 0]])
    torch.testing.assert_close(found[0], networks[2](x[0]))
    torch.testing.assert_close(found[1], networks[0](x[1]))


def test_one_member_is_its_network() -> None:
    network = make("MA", 0)
    x = torch.randn(1, 2, 5, 8, dtype=torch.float64)
    population = Population([network])
    assert torch.equal(population(x)[0], network(x[0]))
    (gradient,) = torch.autograd.grad(population(x).square().sum(), population.weights)
    network(x[0]).square().sum().backward()
    wanted = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    torch.testing.assert_close(gradient[0], wanted, rtol=1e-12, atol=1e-12)


def test_members_apart_are_members_together() -> None:
    networks = [make("MA", seed) for seed in range(3)]
    x = torch.randn(3, 2, 5, 8, dtype=torch.float64)
    found = []
    for apart in (False, True):
        population = Population(networks, apart=apart)
        y = population(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), population.weights)))
    for together, alone in zip(*found, strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-10, atol=1e-10)


def test_a_state_goes_on_to_the_bit() -> None:
    def start() -> PopulationAdam:
        population = Population([nn.Linear(3, 2)] * 2)
        return PopulationAdam(population, torch.tensor([1e-2, 1e-1]), 10, course, clip=None)

    def advance(adam: PopulationAdam, steps: range) -> None:
        for t in steps:
            loss = (adam.population(torch.full((2, 4, 3), t / 5)) - 1).square().sum()
            adam.step(torch.autograd.grad(loss, adam.population.weights)[0])

    whole, first = start(), start()
    second = start()
    first.load_state(whole.state())
    advance(whole, range(10))
    advance(first, range(4))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    advance(second, range(4, 10))
    assert all(torch.equal(whole.state()[name], tensor) for name, tensor in second.state().items())
    with pytest.raises(DataError, match="of this population"):
        second.load_state({"weights": whole.mean})


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="`networks` must hold a network at least"):
        Population([])
    for others in (nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2))):
        with pytest.raises(ConfigError, match="`networks` must be of one architecture"):
            Population([nn.Linear(3, 2), others])
    with pytest.raises(ConfigError, match="without buffers"):
        Population([nn.BatchNorm1d(3)])

"""How mixers start: step sizes, decay rates, seeds; and that nothing overwrites them."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mambattn.mixers import Mamba, Mamba2
from mambattn.stack import Stack


def assert_dt_in_range(mixer, dt_min, dt_max):
    dt = F.softplus(mixer.dt_bias.double())
    assert dt.min() >= dt_min * (1 - 1e-5)
    assert dt.max() <= dt_max * (1 + 1e-5)


@pytest.mark.parametrize("mixer", [Mamba, Mamba2])
@pytest.mark.parametrize(("dt_min", "dt_max"), [(1e-4, 0.1), (1e-3, 0.1), (0.05, 0.05), (0.5, 20.0)])
def test_step_sizes_lie_in_their_range(mixer, dt_min, dt_max):
    torch.manual_seed(0)
    made = mixer(256, **({"d_head": 1} if mixer is Mamba2 else {}), dt_min=dt_min, dt_max=dt_max)
    assert_dt_in_range(made, dt_min, dt_max)
    log_dt = F.softplus(made.dt_bias.double()).log()
    middle, spread = (math.log(dt_min) + math.log(dt_max)) / 2, math.log(dt_max / dt_min)
    assert abs(log_dt.mean().item() - middle) <= 0.1 * spread + 1e-5
    assert log_dt.std().item() == pytest.approx(spread / math.sqrt(12), abs=0.05 * spread + 1e-5)


def test_step_sizes_are_floored():
    dt = F.softplus(Mamba(64, dt_min=1e-6, dt_max=1e-2, dt_init_floor=1e-3).dt_bias.double())
    assert dt.min().item() == pytest.approx(1e-3, rel=1e-5)
    assert (dt < 1.001e-3).double().mean() > 0.5


def test_decay_rates():
    mixer = Mamba(8, d_state=5)
    assert torch.allclose(mixer.A_log.exp(), torch.arange(1.0, 6.0).expand(16, 5))
    rates = Mamba2(256, d_head=1, A_init_range=(2.0, 3.0)).A_log.exp()
    assert 2 - 1e-5 <= rates.min() < 2.1
    assert 2.9 < rates.max() <= 3 + 1e-5
    assert torch.equal(mixer.D, torch.ones(16))


@pytest.mark.parametrize("letter", ["M", "S"])
def test_no_initialiser_of_linear_layers_touches_step_sizes_or_decay(letter):
    """Users run such loops over whole models; dt_bias and A_log are parameters of the mixer, out of their reach."""
    stack = Stack(16, letter * 2, settings={letter: {"dt_min": 1e-3, "dt_max": 1e-2}})
    before = {name: value.clone() for name, value in stack.state_dict().items() if name.endswith(("dt_bias", "A_log"))}
    assert len(before) == 4

    def initialise(module):
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
            module.reset_parameters()

    stack.apply(initialise)
    after = stack.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for block in stack.layers:
        assert_dt_in_range(block.mixer, 1e-3, 1e-2)


@pytest.mark.parametrize("schedule", ["M", "S", "A", "L", "G", "-"])
def test_the_global_seed_fixes_the_parameters_and_forward_draws_nothing(schedule):
    torch.manual_seed(3)
    first = Stack(16, schedule).eval()
    torch.manual_seed(3)
    second = Stack(16, schedule).eval()
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    before = torch.get_rng_state()
    first.train()(torch.ones(1, 3, 16))
    assert torch.equal(torch.get_rng_state(), before)


def test_dt_rank_auto_is_a_sixteenth_rounded_up():
    assert [Mamba(d_model).dt_rank for d_model in (8, 16, 17, 64)] == [1, 1, 2, 4]


def test_default_head_width_is_the_largest_divisor_up_to_64():
    assert [Mamba2(d_model).d_head for d_model in (16, 64, 48, 25, 37)] == [32, 64, 48, 50, 37]

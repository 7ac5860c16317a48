"""Optimiser groups by name, the learning rate by its formula, and the held-out rows by counting."""

import math

import numpy as np
import pytest
import torch

from mambattn.configs import FTTransformerConfig, MambAttentionConfig, PreprocessingConfig, TrainerConfig
from mambattn.tabular import build_network, make_preprocessor
from mambattn.training import LearningRate, hold_out, make_optimizer, parameter_groups


def _network(config):
    preprocessor = make_preprocessor(config, PreprocessingConfig(), 0).fit([[1.0, "a"], [2.0, "b"], [3.0, None]])
    return build_network(config, preprocessor, 2, torch.Generator())


def test_what_decays_by_name():
    network = _network(MambAttentionConfig(d_model=8, n_layers=1, n_heads=2, d_state=4, bias=True))
    decayed, plain = (set(group["names"]) for group in parameter_groups(network, 0.1))
    layers = "backbone.stack.layers"
    assert decayed == {
        f"{layers}.0.mixer.in_proj.weight",
        f"{layers}.0.mixer.conv_weight",
        f"{layers}.0.mixer.x_proj.weight",
        f"{layers}.0.mixer.dt_proj.weight",
        f"{layers}.0.mixer.out_proj.weight",
        f"{layers}.1.mixer.in_proj.weight",
        f"{layers}.1.mixer.out_proj.weight",
        "head.layers.1.weight",
    }
    for name in ("A_log", "D", "dt_bias", "conv_bias", "in_proj.bias", "out_proj.bias"):
        assert f"{layers}.0.mixer.{name}" in plain
    assert {f"{layers}.0.norm.weight", "backbone.norm.weight", "head.layers.1.bias"} <= plain
    assert {"tokenizer.numbers.weight", "tokenizer.categories.table.weight"} <= plain
    assert decayed | plain == {name for name, _ in network.named_parameters()}


def test_class_token_does_not_decay():
    _, plain = parameter_groups(_network(FTTransformerConfig(d_model=8, n_layers=1, n_heads=2)), 0.1)
    assert "backbone.cls_token" in plain["names"]


def test_decay_acts_on_its_group_alone():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(network, TrainerConfig(lr=0.1, weight_decay=0.5))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        factor = 1 - 0.1 * 0.5 if name == "0.weight" else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


@pytest.mark.parametrize(("name", "cls"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_optimizer_by_name(name, cls):
    optimizer = make_optimizer(torch.nn.Linear(2, 2), TrainerConfig(optimizer=name))
    assert type(optimizer).__name__ == cls


def test_cosine_with_warmup():
    rate = LearningRate(TrainerConfig(lr=2.0, warmup=0.2))
    for p in np.linspace(0.001, 0.999, 50):
        want = 2 * p / 0.2 if p < 0.2 else 2 * 0.5 * (1 + math.cos(math.pi * (p - 0.2) / 0.8))
        assert rate.at(p) == pytest.approx(want, rel=1e-12)


def test_constant_without_warmup():
    rate = LearningRate(TrainerConfig(lr=2.0, warmup=0.0, lr_schedule="constant"))
    assert {rate.at(p) for p in (1e-9, 0.5, 1.0)} == {2.0}


def test_plateau_halves_after_a_third_of_the_patience():
    rate = LearningRate(TrainerConfig(lr=1.0, warmup=0.0, lr_schedule="plateau", patience=6))
    seen = []
    for improved in (True, False, False, False, True, False, False):
        rate.observe(improved=improved)
        seen.append(rate.at(0.5))
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_hold_out_is_stratified_and_repeats():
    codes = np.repeat([0, 1, 2], [70, 20, 10])
    train, val = hold_out(100, 0.2, 7, codes)
    assert np.bincount(codes[val]).tolist() == [14, 4, 2]
    assert sorted([*train, *val]) == list(range(100))
    again = hold_out(100, 0.2, 7, codes)
    assert (again[1] == val).all()
    assert (hold_out(100, 0.2, 8, codes)[1] != val).any()


@pytest.mark.parametrize(
    ("counts", "share", "n_held"),
    [([9, 1], 0.2, 2), ([5, 5], 0.2, 2), ([1, 1, 8], 0.2, 2), ([2, 1], 0.2, 1), ([40, 1, 1, 1], 0.5, 21)],
)
def test_every_class_keeps_a_training_row(counts, share, n_held):
    codes = np.repeat(np.arange(len(counts)), counts)
    train, val = hold_out(len(codes), share, 0, codes)
    assert len(val) == n_held
    assert len(train) + len(val) == len(codes)
    assert set(codes[train]) == set(codes)


def test_nothing_to_hold_out():
    train, val = hold_out(3, 0.2, 0, np.array([0, 1, 2]))
    assert train.tolist() == val.tolist() == [0, 1, 2]


def test_two_rows_without_classes():
    train, val = hold_out(2, 0.2, 0)
    assert len(train) == len(val) == 1
    assert set(train) | set(val) == {0, 1}

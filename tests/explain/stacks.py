"""Stacks of every mixer with perturbed weights, so that no factor is at the value it was initialised with."""

import torch

from mambattn.stack import Stack

SETTINGS = {
    "M": {"d_state": 5},
    "S": {"d_head": 8, "n_groups": 2, "d_state": 6},
    "A": {"n_heads": 4, "n_kv_heads": 2, "positions": "rotary", "causal": True},
    "L": {"n_heads": 2, "window": 3, "causal": True},
    "G": {"n_heads": 2, "window": 3, "causal": True},
}


def perturbed(module, seed=0, size=0.3):
    """Add noise to every parameter, biases, skips and norms among them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module.eval()


def make_stack(schedule, *, d_model=16, settings=None, dtype=torch.float32, seed=0, size=0.3, **options):
    torch.manual_seed(seed)
    chosen = {letter: values for letter, values in SETTINGS.items() if letter in schedule}
    for letter, values in (settings or {}).items():
        chosen[letter] = chosen.get(letter, {}) | values
    return perturbed(Stack(d_model, schedule, settings=chosen, **options).to(dtype), seed, size)


def off(got, want):
    """Give the error relative to the 2-norm."""
    return ((got - want).norm() / want.norm()).item()

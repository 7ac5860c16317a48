"""Integrals along a path equal those that are known in closed form, with as many gradients as were asked for."""

import pytest
import torch

from mambattn.explain.path import integrate_path

WEIGHTS = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)


def tokens(batch=5):
    return torch.randn(batch, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def integrate(output, end, n_steps, start=None):
    """Give the integrals and how many gradients were taken."""
    taken = []

    def mean_gradient(low, high):
        at = ((low + high) / 2).requires_grad_()
        taken.append(at)
        return torch.autograd.grad(output(at).sum(), at)[0]

    start = torch.zeros_like(end) if start is None else start
    return integrate_path(output, mean_gradient, start, end, n_steps), len(taken)


def along(x):
    """Give a number a row that is linear in the tokens, and what each token gives to it."""
    parts = (WEIGHTS.to(x) * x).sum(2)
    return parts.sum(1), parts


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 7, 16, 33, 64])
def test_as_many_gradients_are_taken_as_asked_for(n_steps):
    assert integrate(lambda x: x.pow(4).sum((1, 2)), tokens(), n_steps)[1] == n_steps


def test_a_product_is_shared_as_in_closed_form():
    """Of x_0 x_1 x_2 from b the integral is a polynomial; from zeros each factor gets a third."""
    x = torch.rand(4, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    found, _ = integrate(lambda x: x.prod(1)[:, 0], x, 64)
    torch.testing.assert_close(found, (x.prod(1) / 3).expand(-1, 3), rtol=1e-6, atol=0)
    start = torch.full_like(x, 0.25)
    found, _ = integrate(lambda x: x.prod(1)[:, 0], x, 64, start)
    rest = (x - start)[:, :, 0]
    for j, (k, m) in enumerate([(1, 2), (0, 2), (0, 1)]):
        want = rest[:, j] * (1 / 16 + (rest[:, k] + rest[:, m]) / 8 + rest[:, k] * rest[:, m] / 3)
        torch.testing.assert_close(found[:, j], want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-6])
def test_a_step_at_the_start_is_found(width):
    """As a norm from zeros is: u / sqrt(u² + ε²), by the rule of the chain shared as u is."""

    def step(x):
        total, _ = along(x)
        return total / (total.square() + width**2).sqrt()

    x = tokens()
    total, parts = along(x)
    found, _ = integrate(step, x, 64)
    torch.testing.assert_close(found, parts / total[:, None] * step(x)[:, None], rtol=2e-3, atol=0)


def test_kinks_are_found():
    """Relu units of different tokens, each with its kink elsewhere on the path: each token has what its unit gains."""
    x = tokens()
    kinks = torch.tensor([0.137, 0.419, 0.803], dtype=torch.float64) * x.detach().sum(2)

    def output(x):
        return torch.relu((x.sum(2) - kinks) * x.sum(2).detach().sign()).sum(1)

    gains = torch.relu((x.sum(2) - kinks) * x.sum(2).sign())
    found, _ = integrate(output, x, 64)
    torch.testing.assert_close(found, gains, rtol=2e-3, atol=1e-9)
    # As many even points, the middles of cells of one size, are off by more than ten times as much.
    even = torch.stack([((i + 0.5) / 64 > kinks / x.sum(2)) * x.sum(2).abs() / 64 for i in range(64)]).sum(0)
    assert (even - gains).abs().max() > 10 * (found - gains).abs().max()


def test_a_row_does_not_depend_on_the_others():
    x = tokens()

    def output(x):
        return torch.tanh(30 * along(x)[0]) + x.square().sum((1, 2))

    together, _ = integrate(output, x, 32)
    alone = torch.cat([integrate(output, row[None], 32)[0] for row in x])
    torch.testing.assert_close(together, alone)


def test_a_jump_leaves_an_error_and_no_nan():
    x = tokens().float()
    found, _ = integrate(lambda x: (along(x)[0] > 0.1 * along(tokens())[0]).float() + along(x)[0], x, 64)
    torch.testing.assert_close(found, along(x)[1])

"""MLPs and mixtures of experts, held at one input: token by token, and so a route that mixes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mambattn.explain._gradient import with_gradient

__all__ = ["Pointwise"]

_ACTIVATIONS = ("act_fn", "activation")
_ROUTERS = ("router", "gate")


class Pointwise:
    """A feed-forward module at one input, by the rules of relevance; any that is built from maps and one activation.

    The activation f(a) is ``a · (f(a) / a)`` with the ratio held, the choice and weights of experts are held; what is
    left is a sum of products of so many linear maps of the token, two where there is a gate. Half of the gradient of
    such a product, for two, is what `Route.halved` does.

    Parameters
    ----------
    modules : sequence of nn.Module
        The feed-forward modules, whose outputs add up.
    x : Tensor of shape (batch, seq_len, d_model)
        Their input.
    factor : float, default 1.0
        What their sum is multiplied by.
    n_factors : int, default 2
        Linear maps in a product: 2 with a gate, 1 without.
    """

    label = ""
    mixing = None
    gate = None

    def __init__(self, modules: tuple[nn.Module, ...], x: Tensor, factor: float = 1.0, n_factors: int = 2) -> None:
        self.modules, self.x, self.factor, self.n_factors = modules, x, factor, n_factors

    def halved(self, x: Tensor) -> Tensor:
        """Run the held modules; see `Route.halved`.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            The input that they are held at.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            Their output, with its share of the gradient.
        """
        y = self._held(x)
        return y / self.n_factors + y.detach() * (1 - 1 / self.n_factors)

    def output(self, x: Tensor) -> Tensor:
        """Map as the affine map that `halved` is at its input.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The output.
        """
        with with_gradient():
            y, change = torch.autograd.functional.jvp(self.halved, self.x, x - self.x)
        assert isinstance(y, Tensor)
        assert isinstance(change, Tensor)
        return y + change

    def _held(self, x: Tensor) -> Tensor:
        with _holding(self.modules):
            return self.factor * torch.stack([module(x) for module in self.modules]).sum(0)


@contextmanager
def _holding(modules: tuple[nn.Module, ...]) -> Iterator[None]:
    """Let activations and routers pass no gradient of their own, until the end of the block."""
    swapped: list[tuple[nn.Module, str, Any]] = []
    hooks = []
    try:
        for module in [part for whole in modules for part in whole.modules()]:
            for name in _ACTIVATIONS:
                act = getattr(module, name, None)
                if callable(act):
                    swapped.append((module, name, act))
                    setattr(module, name, _Held(act))
            for name in _ROUTERS:
                router = getattr(module, name, None)
                if isinstance(router, nn.Module) and not isinstance(router, nn.Linear):
                    hooks.append(router.register_forward_hook(_detached))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, name, act in swapped:
            setattr(module, name, act)


class _Held(nn.Module):
    """An activation whose ratio to its argument is constant."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def forward(self, a: Tensor) -> Tensor:
        ratio = torch.where(a == 0, 0.0, self.act(a) / torch.where(a == 0, 1.0, a))
        return a * ratio.detach()


def _detached(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tuple(part.detach() for part in output)

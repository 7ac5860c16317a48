"""One layer at one input, as an affine map of what enters it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from mambattn.explain.held import FrozenNorm
from mambattn.explain.pointwise import Pointwise
from mambattn.explain.route import Route

__all__ = ["Aside", "Layer"]


@dataclass(frozen=True)
class Layer:
    """One layer at one input: ``y = leave(x + Σ_r route_r(enter(x)))``, norms and routing held.

    With a block `aside` of it the mixer reads ``x + aside(x, origin)``, origin being what enters the first layer of the
    model; the residual is x all the same.

    Parameters
    ----------
    layer : int
        Depth index, from 0; an MLP counts too.
    kind : str
        What it is: "Mamba", "global attention", "MLP", …
    x : Tensor of shape (batch, seq_len, d_model)
        What enters.
    y : Tensor of shape (batch, seq_len, d_model)
        What leaves.
    enter : FrozenNorm or None
        The norm before the mixer.
    routes : tuple of Route or Pointwise
        The ways through the mixer.
    leave : FrozenNorm or None, default None
        The norm behind the residual sum.
    aside : Aside or None, default None
        The block whose output is added to what the mixer reads.
    """

    layer: int
    kind: str
    x: Tensor
    y: Tensor
    enter: FrozenNorm | None
    routes: tuple[Route | Pointwise, ...]
    leave: FrozenNorm | None = None
    aside: Aside | None = None

    @property
    def mixing_routes(self) -> tuple[Route, ...]:
        """The routes that mix tokens: none of an MLP."""
        return tuple(route for route in self.routes if isinstance(route, Route) and route.mixing is not None)

    @property
    def mixes(self) -> bool:
        """Whether it mixes tokens."""
        return bool(self.mixing_routes)

    @property
    def parts(self) -> tuple[Layer, ...]:
        """Itself, behind the layers of the block aside: in the order in which they run."""
        return (self,) if self.aside is None else (self.aside.mixer, self.aside.mlp, self)

    @property
    def read(self) -> Tensor:
        """What the mixer reads, before the norm."""
        return self.x if self.aside is None else self.x + self.aside.y

    def entered(self, read: Tensor) -> Tensor:
        """Give the mixer's input.

        Parameters
        ----------
        read : Tensor of shape (batch, seq_len, d_model)
            What the mixer reads, before the norm.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The normed tokens.
        """
        return read if self.enter is None else self.enter(read)

    def mixed(self, read: Tensor) -> Tensor:
        """Run the held mixer, differentiable, by the rules of relevance; see `Route.halved`.

        Parameters
        ----------
        read : Tensor of shape (batch, seq_len, d_model)
            What the mixer reads, before the norm.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            What it adds to the residual.
        """
        entered = self.entered(read)
        return reduce(torch.add, (route.halved(entered) for route in self.routes))

    def halved(self, x: Tensor, origin: Tensor) -> tuple[Tensor, ...]:
        """Run the held layer, differentiable in both, by the rules of relevance.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            What enters.
        origin : Tensor of shape (batch, seq_len, d_model)
            What enters the first layer of the model.

        Returns
        -------
        tuple of Tensor
            What leaves each of the `parts`; at the layer's own input their `y`.
        """
        beside = () if self.aside is None else self.aside.halved(x, origin)
        y = x + self.mixed(x + beside[-1] if beside else x)
        return (*beside, y if self.leave is None else self.leave(y))


@dataclass(frozen=True)
class Aside:
    """A block beside the residual stream: ``y = mlp(mixer([x, origin]))``, as Zamba2 shares one among its layers.

    Its layers have no residuals: what leaves them is what their routes give.

    Parameters
    ----------
    mixer : Layer
        Reads what enters the layer beside what enters the first layer of the model, (batch, seq_len, 2 · d_model).
    mlp : Layer
        Reads what the mixer gives.
    """

    mixer: Layer
    mlp: Layer

    @property
    def y(self) -> Tensor:
        """What is added to what the layer's own mixer reads: (batch, seq_len, d_model)."""
        return self.mlp.y

    def halved(self, x: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
        """Run the held block; see `Layer.halved`.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            What enters the layer.
        origin : Tensor of shape (batch, seq_len, d_model)
            What enters the first layer of the model.

        Returns
        -------
        tuple of Tensor
            What the mixer gives, and what the MLP makes of it.
        """
        mixed = self.mixer.mixed(torch.cat([x, origin], dim=-1))
        return mixed, self.mlp.mixed(mixed)

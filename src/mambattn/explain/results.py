"""What explanations give: plain results, to look at, save and draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Attribution", "Contributions", "Flow", "LayerMap", "Reach"]


class Plain:
    """A dataclass of tensors, tuples, text and numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields, tensors and tuples as lists.
        """
        return {name: _listed(value) for name, value in vars(self).items()}


def _listed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class LayerMap(Plain):
    """What the tokens of one layer read from each other.

    Parameters
    ----------
    layer : int
        Depth index, from 0; layers that mix no tokens are counted and have no map.
    kind : str
        What the layer is: "Mamba", "global attention", …
    labels : tuple of str
        Name of each map: "mean", "head 3", "channel 17", with the direction or branch before it where there are two.
    values : Tensor of shape (batch, n_maps, query, source)
        Signed weights.
    """

    layer: int
    kind: str
    labels: tuple[str, ...]
    values: Tensor


@dataclass(frozen=True)
class Contributions(Plain):
    """What each token of a layer contributes to each token of its mixer's output, as vectors.

    ``values.sum(2) + bias`` is the output of the mixer, before the residual sum.

    Parameters
    ----------
    layer : int
        Depth index, from 0.
    kind : str
        What the layer is.
    values : Tensor of shape (batch, query, source, d_model)
        Contributions, linear in the layer's tokens, the norm before the mixer included.
    bias : Tensor of shape (batch, query, d_model)
        The bias column: what all biases contribute.
    """

    layer: int
    kind: str
    values: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Flow(Plain):
    """How much of each token of the input has arrived at each position, layer by layer.

    Parameters
    ----------
    kind : str
        How the flow through a layer is measured: "norm", "alti" or "paper".
    layers : tuple of int
        Depth index of each layer that mixes tokens; of chosen positions the last one alone.
    positions : tuple of int
        The positions that read.
    values : Tensor of shape (n_layers, batch, n_positions, source)
        The flow from the input up to and with each of the layers; of "norm" and "alti" the rows sum to 1.
    """

    kind: str
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    values: Tensor

    @property
    def total(self) -> Tensor:
        """The flow through all layers: Tensor of shape (batch, n_positions, source)."""
        return self.values[-1]


@dataclass(frozen=True)
class Reach(Plain):
    """How far back or ahead the maps of one layer read.

    Parameters
    ----------
    layer : int
        Depth index, from 0.
    kind : str
        What the layer is.
    labels : tuple of str
        Name of each map.
    distance : Tensor of shape (batch, n_maps)
        Mean distance between query and source, weighted by the absolute weights, over the rows that have any.
    """

    layer: int
    kind: str
    labels: tuple[str, ...]
    distance: Tensor


@dataclass(frozen=True)
class Attribution(Plain):
    """How much each token of the input has to do with one output.

    Parameters
    ----------
    method : str
        Name of the method.
    values : Tensor of shape (batch, source)
        Signed scores.
    completeness_error : Tensor of shape (batch,)
        Distance between what the scores and the absorbed share add up to and what the method promises, relative to it;
        NaN where it promises nothing.
    absorbed : Tensor of shape (batch,)
        Share of the output that biases and constants account for, relative to the output.
    """

    method: str
    values: Tensor
    completeness_error: Tensor
    absorbed: Tensor

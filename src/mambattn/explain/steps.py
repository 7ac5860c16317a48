"""How much each position takes from each source, in one layer: the matrices that a flow is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.explain.layer import Layer
from mambattn.explain.route import Route

__all__ = ["Step", "steps_of"]


@dataclass(frozen=True)
class Step:
    """A layer that mixes tokens, with what its mixer reads in parts.

    Parameters
    ----------
    layer : Layer
        The layer.
    sources : tuple of Tensor
        Parts of what the mixer reads, before the norm, that add up to it, each (batch, seq_len, d_in).
    passes : bool, default True
        Whether the residual carries the first part past the mixer.
    """

    layer: Layer
    sources: tuple[Tensor, ...]
    passes: bool = True

    def matrix(self, kind: str) -> Tensor:
        """Give R; see `mambattn.explain.rollout`.

        Parameters
        ----------
        kind : {"norm", "alti", "paper"}
            How it is measured.

        Returns
        -------
        Tensor of shape (batch, seq_len, n_parts · seq_len)
            What each position takes from those of each part.
        """
        if kind != "paper":
            return torch.cat([rows for _, rows in self._rows(kind)], dim=1)
        mean = torch.stack([route.mean_scan() for route in self.layer.mixing_routes]).mean(0)
        own = torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device)
        return torch.cat([mean + own if self.passes else mean, *[mean] * (len(self.sources) - 1)], dim=2)

    def sent_back(self, kind: str, flow: Tensor) -> tuple[Tensor, ...]:
        """Give ``flow · R``, part by part, without all of R at once.

        Parameters
        ----------
        kind : {"norm", "alti", "paper"}
            How R is measured.
        flow : Tensor of shape (batch, n_rows, seq_len)
            What rows take from what leaves the layer.

        Returns
        -------
        tuple of Tensor
            What they take from each part, (batch, n_rows, seq_len).
        """
        n_parts = len(self.sources)
        if kind == "paper":
            sent = torch.stack([_sent_back(route, flow) for route in self.layer.mixing_routes]).mean(0)
            return (flow + sent if self.passes else sent, *[sent] * (n_parts - 1))
        before = flow.new_zeros(*flow.shape[:2], n_parts * flow.shape[2])
        for rows_at, rows in self._rows(kind):
            before += flow[:, :, rows_at] @ rows
        return before.chunk(n_parts, dim=2)

    def _rows(self, kind: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Give rows of R, some at a time: their positions and (batch, n_rows, n_parts · seq_len)."""
        layer = self.layer
        entered = [source if layer.enter is None else layer.enter.linear(source) for source in self.sources]
        routes = layer.mixing_routes
        chunks = min((route.row_chunks(layer.y.shape[2]) for route in routes), key=lambda cut: len(cut[0]))
        by_part = [zip(*(route.contributions(x, chunks) for route in routes), strict=True) for x in entered]
        for parts in zip(*by_part, strict=True):
            index = parts[0][0][0]
            vectors = torch.cat([reduce(torch.add, (one for _, one in part)) for part in parts], dim=2)
            if self.passes:
                vectors[:, torch.arange(len(index)), index] += self.sources[0][:, index]
            if layer.leave is not None:
                vectors = _left(layer, vectors, index)
            yield index, _measured(vectors, layer.y[:, index], index, kind)


def steps_of(layer: Layer) -> tuple[Step, ...]:
    """Give the steps of a layer that mixes tokens: itself, and before it the mixer of a block aside.

    Parameters
    ----------
    layer : Layer
        The layer.

    Returns
    -------
    tuple of Step
        Without a block aside one step, from the stream. With one two: the block's, from the stream and from what enters
        the model; then the layer's, from the stream and from what the block gives. Its MLP keeps tokens to themselves.
    """
    if layer.aside is None:
        return (Step(layer, (layer.x,)),)
    mixer = layer.aside.mixer
    stream, origin = mixer.x.chunk(2, dim=-1)
    width = stream.shape[-1]
    halves = (F.pad(stream, (0, width)), F.pad(origin, (width, 0)))
    return Step(mixer, halves, passes=False), Step(layer, (layer.x, layer.aside.y))


def _left(layer: Layer, vectors: Tensor, index: Tensor) -> Tensor:
    """Send contributions through the norm behind the sum, held at the position that reads."""
    assert layer.leave is not None
    if layer.leave.centred:
        vectors = vectors - vectors.mean(-1, keepdim=True)
    return vectors * layer.leave.scale[:, index, None]


def _measured(vectors: Tensor, y: Tensor, index: Tensor, kind: str) -> Tensor:
    if kind == "norm":
        size = vectors.norm(dim=-1)
    else:
        size = (y.abs().sum(-1)[:, :, None] - (y[:, :, None] - vectors).abs().sum(-1)).clamp_min(0)
    whole = size.sum(-1, keepdim=True)
    itself = F.one_hot(index, size.shape[2]).to(size.dtype)
    return torch.where(whole > 0, size / whole.clamp_min(torch.finfo(size.dtype).tiny), itself)


def _sent_back(route: Route, flow: Tensor) -> Tensor:
    """Give ``flow · mean of α`` by the adjoint of the scan, which never forms α."""
    assert route.mixing is not None
    return torch.stack([route.turn(route.mixing.sent_back(route.turn(row))) for row in flow.unbind(1)], dim=1)

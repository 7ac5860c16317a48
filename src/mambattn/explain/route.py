"""A mixer at one input, as a linear map of its tokens: the one form that maps, flow and attribution read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.explain.held import Gate
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.weights import Weights
from mambattn.ops import causal_conv1d

__all__ = ["Mixing", "Route"]

Mixing = Recurrence | Weights
"""What mixes the tokens inside a layer: a linear operator over positions for each map."""

_BUDGET = 1 << 25
"""Numbers of a temporary tensor, about: 128 MiB in float32."""


@dataclass(frozen=True)
class Route:
    """One way through a mixer, at one input: project, convolve, mix, gate, project.

    ::

        v = W_v x + b_v;  u = act ⊙ (T(conv_weight) v + conv_bias)
        output = W_o (gate ⊙ mixing(u)) + b_o

    A mixer is the sum of its routes: one for most, two for both directions of a bidirectional Mamba, for global and
    local attention side by side, for state space and attention in parallel. Factors of the sum (one half for two
    directions, multipliers of published models) are in W_o and b_o.

    Parameters
    ----------
    label : str
        What it is among the routes of its mixer: "", "forward", "backward", "global", "local", …
    mixing : Recurrence, Weights or None
        The operator over positions, in the route's own order of time; None mixes none, as an MLP.
    value_weight : Tensor of shape (d_inner, d_in)
        The map W_v; d_inner = n_maps · d_value. Heads that share keys and values repeat it.
    out_weight : Tensor of shape (d_model, d_inner)
        The map W_o.
    value_bias : Tensor of shape (d_inner,) or None
        Bias before the convolution, b_v.
    out_bias : Tensor of shape (d_model,) or None
        Bias of the output, b_o.
    conv_weight : Tensor of shape (d_inner, d_conv) or None
        Taps, the last one for the current token; None is no convolution.
    conv_bias : Tensor of shape (d_inner,) or None
        Bias in the convolution.
    act : Tensor of shape (batch, seq_len, d_inner) or None
        Held activation: σ(c) where u = silu(c) = c σ(c).
    gate : Gate or None
        The gate.
    gate_values : Tensor of shape (batch, seq_len, d_inner) or None
        Its values at the input.
    is_reversed : bool
        Whether the route reads the sequence from its end. What is given here by position is then in that order;
        inputs and outputs of the methods are not.
    """

    label: str
    mixing: Mixing | None
    value_weight: Tensor
    out_weight: Tensor
    value_bias: Tensor | None = None
    out_bias: Tensor | None = None
    conv_weight: Tensor | None = None
    conv_bias: Tensor | None = None
    act: Tensor | None = None
    gate: Gate | None = None
    gate_values: Tensor | None = None
    is_reversed: bool = False

    @property
    def n_maps(self) -> int:
        """How many maps it has."""
        return 1 if self.mixing is None else self.mixing.n_maps

    @property
    def d_value(self) -> int:
        """How many channels a map carries."""
        return self.value_weight.shape[0] // self.n_maps

    def scaled(self, factor: float) -> Route:
        """Give the route with its output multiplied.

        Parameters
        ----------
        factor : float
            The factor.

        Returns
        -------
        Route
            The same way, its last map scaled.
        """
        if factor == 1.0:
            return self
        out_bias = None if self.out_bias is None else self.out_bias * factor
        return replace(self, out_weight=self.out_weight * factor, out_bias=out_bias)

    def turn(self, x: Tensor, dim: int = 1) -> Tensor:
        """Put a tensor from the order of the sequence into that of the route, or back.

        Parameters
        ----------
        x : Tensor
            A tensor by position.
        dim : int, default 1
            The axis of positions.

        Returns
        -------
        Tensor
            The tensor, flipped if the route reads from the end.
        """
        return x.flip(dim) if self.is_reversed else x

    def linear(self, x: Tensor) -> Tensor:
        """Map without any bias, the gate held; differentiable.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            What the tokens contribute to the output.
        """
        return self.turn(self._read_out(self._mixed(F.linear(self.turn(x), self.value_weight), biased=False)))

    def output(self, x: Tensor) -> Tensor:
        """Map with all biases; at the input that the route is held at, this is its share of the mixer's output.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The output.
        """
        y = self._read_out(self._mixed(F.linear(self.turn(x), self.value_weight, self.value_bias), biased=True))
        return self.turn(y if self.out_bias is None else y + self.out_bias)

    def halved(self, x: Tensor) -> Tensor:
        """Map as `output`, the gate moving too: of a product with the gate, each factor passes half of the gradient.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The output, whose gradient times the input is its relevance (arXiv 2406.07592, section 3).
        """
        if self.gate is None:
            return self.output(x)
        x = self.turn(x)
        mixed = self._mixed(F.linear(x, self.value_weight, self.value_bias), biased=True)
        gate = self.gate(x)
        gated = (mixed * gate.detach() + mixed.detach() * gate) / 2
        return self.turn(F.linear(gated, self.out_weight, self.out_bias))

    def offset(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Give what the biases contribute to the output, and a constant added to every token of the input.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input, of which only the shape counts.
        bias : Tensor of shape (d_in,) or None, default None
            The constant, such as the bias of the norm before the mixer.

        Returns
        -------
        Tensor of shape (batch, seq_len, d_model)
            The bias column.
        """
        return self.output(torch.zeros_like(x) if bias is None else bias.expand_as(x))

    def scan_rows(self, index: Tensor) -> Tensor:
        """Give rows of what mixes inside, without the skip.

        Parameters
        ----------
        index : Tensor of int, (n_rows,)
            Positions that read, in the order of the sequence.

        Returns
        -------
        Tensor of shape (batch, n_rows, seq_len, n_maps)
            Weights of the sources, in the order of the sequence.
        """
        assert self.mixing is not None, "a route that mixes no tokens has no rows"
        return self.turn(self.mixing.rows(self._turned(index)), 2)

    def mean_scan(self) -> Tensor:
        """Give the mean over maps of what mixes inside, without the skip.

        Returns
        -------
        Tensor of shape (batch, seq_len, seq_len)
            The mean map, in the order of the sequence.
        """
        assert self.mixing is not None, "a route that mixes no tokens has no map"
        ones = self.value_weight.new_ones(self.mixing.batch, self.mixing.seq_len, self.n_maps, 1)
        mean = self.mixing.weighted(ones / self.n_maps, ones[:, None])[:, 0]
        return self.turn(self.turn(mean, 1), 2)

    def row_chunks(self, d_model: int) -> tuple[Tensor, ...]:
        """Cut the positions into as many at a time as fit in 128 MiB.

        Parameters
        ----------
        d_model : int
            Numbers that each pair of positions takes besides its channels.

        Returns
        -------
        tuple of Tensor
            Indices of positions.
        """
        assert self.mixing is not None, "a route that mixes no tokens has no rows"
        pair = max(len(self.value_weight), d_model)
        n_rows = max(1, _BUDGET // max(1, self.mixing.batch * self.mixing.seq_len * pair))
        return torch.arange(self.mixing.seq_len, device=self.value_weight.device).split(n_rows)

    def operator_rows(self, index: Tensor) -> Tensor:
        """Give rows of the operator from the convolution's input to the gated values, channel by channel.

        ``diag(gate) (α + D I) diag(act) T(conv_weight)`` (after arXiv 2405.16504): the mixer between its projections.

        Parameters
        ----------
        index : Tensor of int, (n_rows,)
            Positions that read, in the order of the sequence.

        Returns
        -------
        Tensor of shape (batch, n_rows, seq_len, d_inner)
            Coefficients of the sources, in the order of the sequence.
        """
        assert self.mixing is not None, "a route that mixes no tokens has no rows"
        seq_len = self.mixing.seq_len
        alpha = self.turn(self.scan_rows(index), 2)
        index = self._turned(index)
        if self.mixing.D is not None:
            own = torch.arange(seq_len, device=index.device) == index[:, None]
            alpha = alpha + own[None, :, :, None] * self.mixing.D
        rows = alpha.repeat_interleave(self.d_value, dim=3) if self.d_value > 1 else alpha
        if self.act is not None:
            rows = rows * self.act[:, None]
        if self.conv_weight is not None:
            lags = range(self.conv_weight.shape[1])
            taps = (F.pad(rows, (0, 0, 0, lag))[:, :, lag:] * self.conv_weight[:, -1 - lag] for lag in lags)
            rows = sum(taps, start=torch.zeros_like(rows))
        if self.gate_values is not None:
            rows = rows * self.gate_values[:, index, None]
        return self.turn(rows, 2)

    def contributions(self, x: Tensor, rows: Iterable[Tensor] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give what each token contributes to each output, some rows at a time.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_in)
            The mixer's input; or a part of it, as the map is linear.
        rows : iterable of Tensor or None, default None
            Positions that read, so many at a time; None is all of them, as `row_chunks` cuts them.

        Yields
        ------
        index : Tensor of int, (n_rows,)
            Positions that read.
        contributions : Tensor of shape (batch, n_rows, seq_len, d_model)
            Their vectors; the sum over sources is ``linear(x)`` at these positions.
        """
        values = F.linear(x, self.value_weight)
        for index in self.row_chunks(len(self.out_weight)) if rows is None else rows:
            yield index, F.linear(self.operator_rows(index) * values[:, None], self.out_weight)

    def _turned(self, index: Tensor) -> Tensor:
        """Give positions in the route's own order of time."""
        assert self.mixing is not None
        return self.mixing.seq_len - 1 - index if self.is_reversed else index

    def _mixed(self, v: Tensor, *, biased: bool) -> Tensor:
        if self.conv_weight is not None:
            v = causal_conv1d(v, self.conv_weight, self.conv_bias if biased else None)
        if self.act is not None:
            v = v * self.act
        if self.mixing is None:
            return v
        return self.mixing.apply(v.unflatten(-1, (self.n_maps, self.d_value))).flatten(2)

    def _read_out(self, mixed: Tensor) -> Tensor:
        return F.linear(mixed if self.gate_values is None else mixed * self.gate_values, self.out_weight)

"""The gradient of an output, integrated along a straight path that is cut where it is hard to integrate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["integrate_path"]

_N_STEPS_A_FIRST_CELL = 8
_LEAST_SHARE = 0.1


def integrate_path(
    output: Callable[[Tensor], Tensor],
    mean_gradient: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    n_steps: int,
) -> Tensor:
    """Integrate ``Σ_d (x_jd − b_jd) ∂output/∂x_jd`` on the path from b to x, each row on cells of its own.

    A cell [l, h] of the path is integrated by the gradient g at its middle, and how far that is off is known, because
    the gradient's integral is the output's change:

    ``e = f(h) − f(l) − (h − l) g``,  ``f(s) = output(b + s (x − b))``,  ``g = f′((l + h) / 2)``.

    From a few even cells on, the one that is off most is cut in three, again and again; its gradient goes on serving
    the middle one. So no gradient is lost, and they gather where the slope of the output changes: where a norm is all
    but a step, at the kinks of a ReLU. What the slopes of its neighbours say of the curvature in a cell is added to it,
    ``(h − l)³ g″ / 24``, if that brings its sum nearer to its change: in smooth parts it does, beside a kink it does
    not.

    Parameters
    ----------
    output : callable
        Maps tokens (batch, n_sources, d_model) to what is explained, (batch,).
    mean_gradient : callable
        Maps the tokens at both ends of a cell to the gradient at its middle, (batch, n_sources, d_model).
    start : Tensor of shape (batch, n_sources, d_model)
        The baseline b.
    end : Tensor of shape (batch, n_sources, d_model)
        The tokens x.
    n_steps : int
        How many gradients are taken of each row, at least 1. Beside them the output is asked for twice as often.

    Returns
    -------
    Tensor of shape (batch, n_sources)
        The integrals.

    Examples
    --------
    >>> square = lambda x: x.square().sum((1, 2))
    >>> x = torch.tensor([[[1.0], [2.0]]])
    >>> integrate_path(square, lambda low, high: low + high, torch.zeros_like(x), x, 3)
    tensor([[1., 4.]])
    """
    length = end - start

    def at(where: Tensor) -> Tensor:
        return start + where[:, None, None] * length

    def outputs(where: Tensor) -> Tensor:
        return torch.stack([output(at(one)) for one in where.unbind(1)], 1)

    def slopes(low: Tensor, high: Tensor) -> Tensor:
        pairs = zip(low.unbind(1), high.unbind(1), strict=True)
        return torch.stack([(mean_gradient(at(a), at(b)) * length).sum(-1) for a, b in pairs], 1)

    n_cells = max(1, n_steps // _N_STEPS_A_FIRST_CELL)
    n_cells += (n_steps - n_cells) % 2  # each cut adds two
    ends = torch.linspace(0, 1, n_cells + 1).to(start).expand(len(start), -1)
    cells = _Cells(ends, outputs(ends), slopes(ends[:, :-1], ends[:, 1:]))
    while cells.slopes.shape[1] < n_steps:
        worst = (cells.changes - cells.integrals.sum(-1)).abs().argmax(1, keepdim=True)
        cuts = cells.cuts(worst, outputs)
        low, high = cells.ends.gather(1, worst), cells.ends.gather(1, worst + 1)
        outer = torch.cat([low, cuts[:, 1:]], 1), torch.cat([cuts[:, :1], high], 1)
        cells = cells.cut(cuts, outputs(cuts), (outer[0] + outer[1]) / 2, slopes(*outer))
    return cells.integrals.sum(1)


@dataclass(frozen=True)
class _Cells:
    """Cells of the path of each row, in order.

    `ends` (batch, n + 1) from 0 to 1, the `outputs` there, and of each cell the `slopes` (batch, n, n_sources) by s, of
    which the sum over sources is f′ at the middle.
    """

    ends: Tensor
    outputs: Tensor
    slopes: Tensor

    @property
    def middles(self) -> Tensor:
        return (self.ends[:, 1:] + self.ends[:, :-1]) / 2

    @property
    def changes(self) -> Tensor:
        return self.outputs.diff(dim=1)

    @property
    def integrals(self) -> Tensor:
        """Of each cell, (batch, n, n_sources)."""
        widths = self.ends.diff(dim=1)[..., None]
        plain = widths * self.slopes
        if self.slopes.shape[1] < 3:
            return plain
        middles = self.middles[..., None]
        bends = (self.slopes.diff(dim=1) / middles.diff(dim=1)).diff(dim=1) / (middles[:, 2:] - middles[:, :-2])
        bent = plain + widths**3 / 12 * torch.cat([bends[:, :1], bends, bends[:, -1:]], 1)
        off, off_bent = ((self.changes - one.sum(-1)).abs() for one in (plain, bent))
        return torch.where((off_bent < off)[..., None], bent, plain)

    def cuts(self, which: Tensor, outputs: Callable[[Tensor], Tensor]) -> Tensor:
        """Say where to cut one cell of each row in three, around the same middle: (batch, 2).

        If the cell is off because of a kink, how far a part around the middle is off rises from 0 in a line from the
        kink on; two radii tell where. Of a smooth output it rises with the third power, and the same line then begins
        near a third.
        """
        ends, values = (x.gather(1, torch.cat([which, which + 1], 1)) for x in (self.ends, self.outputs))
        slope = self.slopes.sum(-1).gather(1, which)
        middle, radius = ends.mean(1, keepdim=True), ends.diff(dim=1) / 4

        def around(radius: Tensor) -> Tensor:
            return torch.cat([middle - radius, middle + radius], 1)

        whole = (values.diff(dim=1) - 4 * radius * slope).abs()
        half = (outputs(around(radius)).diff(dim=1) - 2 * radius * slope).abs()
        share = 1 - half / (whole - half).clamp_min(torch.finfo(half.dtype).tiny)
        return around(radius * share.clamp(_LEAST_SHARE, 1))

    def cut(self, cuts: Tensor, outputs: Tensor, middles: Tensor, slopes: Tensor) -> _Cells:
        """Add ends with their outputs, and the slopes of the cells that have other middles than before."""
        by_middle = torch.cat([self.middles, middles], 1).argsort(1)[..., None].expand(-1, -1, slopes.shape[2])
        ends, by_end = torch.cat([self.ends, cuts], 1).sort(1)
        return _Cells(
            ends,
            torch.cat([self.outputs, outputs], 1).gather(1, by_end),
            torch.cat([self.slopes, slopes], 1).gather(1, by_middle),
        )

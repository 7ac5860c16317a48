"""A selective scan held at one input: a lower-triangular operator over positions, never formed channel by state.

A map is a channel of Mamba or a head of Mamba-2; it carries d_value channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mambattn.explain._gradient import with_gradient
from mambattn.ops import selective_scan, ssd

__all__ = ["Recurrence"]

_BUDGET = 1 << 24
"""Numbers of a temporary tensor, about: 64 MiB in float32."""


@dataclass(frozen=True)
class Recurrence:
    """A selective scan whose step sizes, B and C are given numbers.

    ``y_i = Σ_{j ≤ i} α[i, j] u_j + D u_i`` with ``α[i, j] = Σ_n C_i[n] exp(A[n] Σ_{k=j+1..i} dt_k) dt_j B_j[n]`` for
    each map (arXiv 2403.01590, equation 12).

    Parameters
    ----------
    dt : Tensor of shape (batch, seq_len, n_maps)
        Step sizes, after bias, softplus and limits.
    A : Tensor of shape (n_maps, d_state) or (n_maps,)
        Decay rates, at most 0; one a map where all its states share it (Mamba-2).
    B, C : Tensor of shape (batch, seq_len, n_groups, d_state)
        Maps into and out of the state, shared by the maps of a group.
    D : Tensor of shape (n_maps,) or None
        Skip.
    """

    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None

    @property
    def batch(self) -> int:
        """How many sequences there are."""
        return self.dt.shape[0]

    @property
    def seq_len(self) -> int:
        """How long they are."""
        return self.dt.shape[1]

    @property
    def n_maps(self) -> int:
        """How many maps there are."""
        return self.dt.shape[2]

    def apply(self, values: Tensor) -> Tensor:
        """Mix values, the skip included, in time linear in seq_len; differentiable in the values.

        Parameters
        ----------
        values : Tensor of shape (batch, seq_len, n_maps, d_value)
            What is mixed.

        Returns
        -------
        Tensor of shape (batch, seq_len, n_maps, d_value)
            The mixed values.
        """
        if self.A.ndim == 1:
            return ssd(values, self.dt, self.A, self.B, self.C, self.D)
        dt, A, D, d_value = self.dt, self.A, self.D, values.shape[3]
        if d_value > 1:
            dt, A = dt.repeat_interleave(d_value, dim=2), A.repeat_interleave(d_value, dim=0)
            D = None if D is None else D.repeat_interleave(d_value)
        return selective_scan(values.flatten(2), dt, A, self.B, self.C, D).view_as(values)

    def rows(self, index: Tensor) -> Tensor:
        """Give rows of α, without the skip.

        Parameters
        ----------
        index : Tensor of int, (n_rows,)
            Positions that read.

        Returns
        -------
        Tensor of shape (batch, n_rows, seq_len, n_maps)
            Weights of the sources; exactly 0 for later ones.
        """
        total = self.dt.double().cumsum(1)
        seq_len = total.shape[1]
        span = (total[:, index, None] - total[:, None]).clamp(min=0).to(self.dt.dtype)
        later = torch.arange(seq_len, device=index.device)[None, :] > index[:, None]
        per_group = self.n_maps // self.B.shape[2]
        C = self.C[:, index]
        if self.A.ndim == 1:
            alike = torch.einsum("brgn,bjgn->brjg", C, self.B).repeat_interleave(per_group, dim=3)
            alpha = alike * torch.exp(self.A * span)
        else:
            alpha = torch.zeros_like(span)
            for n in range(self.A.shape[1]):
                alike = (C[:, :, None, :, n] * self.B[:, None, :, :, n]).repeat_interleave(per_group, dim=3)
                alpha += alike * torch.exp(self.A[:, n] * span)
        return (alpha * self.dt[:, None]).masked_fill(later[None, :, :, None], 0.0)

    def weighted(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Sum α over all maps and value channels, with a weight for each row and several for each column.

        ``out[t, i, j] = Σ_m α_m[i, j] Σ_p rows[i, m, p] columns[t, j, m, p]``. Two positions of which one lies in the
        first and one in the second half of a block are joined at the block's middle r: the factors
        ``exp(A (S_i − S_r))`` and ``exp(A (S_r − S_j))`` have exponents of at most 0, and their product is a matrix
        product over maps and states. Blocks of 2, 4, 8, … positions cover all pairs.

        Parameters
        ----------
        rows : Tensor of shape (batch, seq_len, n_maps, d_value)
            Weights of the positions that read.
        columns : Tensor of shape (batch, n_sums, seq_len, n_maps, d_value)
            Weights of the sources.

        Returns
        -------
        Tensor of shape (batch, n_sums, seq_len, seq_len)
            The sums, 0 above the diagonal.
        """
        if self.A.ndim == 1:
            return self._weighted_by_head(rows, columns)
        seq_len, n_maps = columns.shape[2:4]
        size = 1 << max(seq_len - 1, 0).bit_length()
        short = size - seq_len
        # Step sizes of 0 decay nothing and write nothing.
        total = _longer(self.dt, 1, short).double().cumsum(1)
        columns = _longer(columns * self.dt[:, None, :, :, None], 2, short)
        rows, B, C = (_longer(x, 1, short) for x in (rows, self.B, self.C))
        here = torch.einsum("bign,bign->big", B, C).repeat_interleave(n_maps // B.shape[2], dim=2)
        out = torch.diag_embed(torch.einsum("bim,bimp,btimp->bti", here, rows, columns))
        half = 1
        while half < size:
            out = out + self._joined(half, total, rows, columns, B, C)
            half *= 2
        return out[:, :, :seq_len, :seq_len]

    def sent_back(self, weights: Tensor) -> Tensor:
        """Give ``Σ_i w_i mean_m α_m[i, j]``, by the adjoint of the scan, in memory linear in seq_len.

        Parameters
        ----------
        weights : Tensor of shape (batch, seq_len)
            Weights w of the positions that read.

        Returns
        -------
        Tensor of shape (batch, seq_len)
            What they read from each source.
        """
        scan = replace(self, D=None)
        with with_gradient():
            values = weights.new_ones(*self.dt.shape, 1).requires_grad_()
            read = scan.apply(values).mean(2)[..., 0]
            (back,) = torch.autograd.grad(read, values, weights)
        return back.sum((2, 3))

    def _joined(self, half: int, total: Tensor, rows: Tensor, columns: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """Sum over pairs in the two halves of blocks of 2 · half positions."""
        batch, n_sums, size, n_maps, d_value = columns.shape
        n_blocks, n_groups, d_state = size // (2 * half), B.shape[2], B.shape[3]

        def halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
            first, second = x.unflatten(dim, (n_blocks, 2, half)).unbind(dim + 1)
            return first, second

        before, after = halves(total, 1)
        middle = before[:, :, -1:]
        to_middle, from_middle = (x.to(self.dt.dtype) for x in (middle - before, after - middle))
        rows_after, columns_before = halves(rows, 1)[1], halves(columns, 2)[0]
        B_before, C_after = halves(B, 1)[0], halves(C, 1)[1]
        by_group = (n_groups, n_maps // n_groups)
        out = rows.new_zeros(batch, n_sums, n_blocks, half, half)
        # As many states at once as fit the budget.
        step = max(1, _BUDGET // max(1, batch * size * n_maps * d_value * n_sums // 2))
        for n in range(0, d_state, step):
            A = self.A[:, n : n + step]
            kept_after, kept_before = (
                torch.exp(A * span[..., None]).unflatten(3, by_group) for span in (from_middle, to_middle)
            )
            read = C_after[..., n : n + step].unsqueeze(4) * kept_after
            written = B_before[..., n : n + step].unsqueeze(4) * kept_before
            # (batch, block, position, map · value · state), the sums beside the positions of the columns
            read = read.flatten(3, 4)[..., None, :] * rows_after[..., None]
            written = written.flatten(3, 4)[:, None, ..., None, :] * columns_before[..., None]
            product = read.flatten(3) @ written.transpose(1, 2).flatten(4).flatten(2, 3).transpose(-1, -2)
            out += product.unflatten(3, (n_sums, half)).permute(0, 3, 1, 2, 4)
        whole = rows.new_zeros(batch, n_sums, n_blocks, 2, half, n_blocks, 2, half)
        block = torch.arange(n_blocks, device=rows.device)
        whole[:, :, block, 1, :, block, 0] = out.permute(2, 0, 1, 3, 4)
        return whole.reshape(batch, n_sums, size, size)

    def _weighted_by_head(self, rows: Tensor, columns: Tensor) -> Tensor:
        total = self.dt.double().cumsum(1)
        seq_len = total.shape[1]
        per_group = self.n_maps // self.B.shape[2]
        out = rows.new_zeros(*columns.shape[:2], seq_len, seq_len)
        for head in range(self.n_maps):
            span = (total[:, :, None, head] - total[:, None, :, head]).clamp(min=0).to(self.dt.dtype)
            group = head // per_group
            alpha = self.C[:, :, group] @ self.B[:, :, group].transpose(1, 2) * torch.exp(self.A[head] * span)
            alpha = (alpha * self.dt[:, None, :, head]).tril()
            out += alpha[:, None] * (rows[:, None, :, head] @ columns[:, :, :, head].transpose(-1, -2))
        return out


def _longer(x: Tensor, dim: int, n: int) -> Tensor:
    """Append n zeros along an axis."""
    shape = list(x.shape)
    shape[dim] = n
    return torch.cat([x, x.new_zeros(shape)], dim) if n else x

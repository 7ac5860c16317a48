"""State-space duality over chunks: matrix products within a chunk, the recurrence only from chunk to chunk.

Index letters of the shapes: batch, chunk, group, head of a group, token of a chunk (j written, i read).
The derivation is in README.md.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.ops._definition import gradients_of
from mambattn.ops.scan.reference import step_size
from mambattn.ops.ssd_scan.reference import ssd_reference


def ssd_torch(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    seq_idx: Tensor | None,
    dt_softplus: bool,
    chunk_size: int,
    return_final_state: bool,
) -> tuple[Tensor, Tensor]:
    """Give `mambattn.ops.ssd` on checked arguments of one type, with the final state in any case."""
    dt = step_size(dt, dt_bias, dt_softplus)
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[3])
    y, final_state = _ChunkedSSD.apply(x, dt, A, B, C, initial_state, seq_idx, min(chunk_size, x.shape[1]))
    if D is not None:
        y = y + x * D.reshape(x.shape[2], -1)
    if z is not None:
        y = y * F.silu(z)
    return y, final_state


class _Chunks(NamedTuple):
    """A sequence cut into chunks, and how much of what is written survives until it is read."""

    dt: Tensor  # (batch, chunk, group, token, head)
    x: Tensor  # (batch, chunk, group, token, head, d_head)
    written: Tensor  # dt · x
    B: Tensor  # (batch, chunk, group, token, d_state)
    C: Tensor
    within: Tensor  # from j to i: (batch, chunk, group, head, j, i), 0 for j > i
    from_start: Tensor  # from the state entering the chunk to token i: (batch, chunk, group, token, head)
    to_end: Tensor  # from token j to the state leaving the chunk
    across: Tensor  # from the state entering to the state leaving: (batch, chunk, group, 1, head)


def _cut(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, seq_idx: Tensor | None, chunk: int) -> _Chunks:
    n_groups = B.shape[2]
    # A token added at the end has dt = 0: it neither decays the state nor writes to it.
    x = _split(x, chunk).unflatten(3, (n_groups, -1)).transpose(2, 3)
    dt = _split(dt, chunk).unflatten(3, (n_groups, -1)).transpose(2, 3)
    B, C = (_split(tensor, chunk).transpose(2, 3) for tensor in (B, C))

    decay = dt * A.unflatten(0, (n_groups, 1, -1))
    causal = torch.ones(chunk, chunk, dtype=x.dtype, device=x.device).triu_()
    # Sums over the segment (j, i] themselves, not differences of sums from the start: nothing cancels.
    within = decay.transpose(3, 4).unsqueeze(-2).expand(*(-1,) * 4, chunk, -1).triu(1).cumsum_(-1).exp_()
    from_start = decay.cumsum(3).exp_()
    across = from_start[..., -1:, :]
    if seq_idx is None:
        within.mul_(causal)
    else:
        run, before = _runs(seq_idx, chunk)
        same = run[..., :, None] == run[..., None, :]
        within.mul_((same * causal)[:, :, None, None])
        from_start = from_start * (run == before)[:, :, None, :, None]
        across = across * (run[..., -1:] == before)[:, :, None, :, None]
    to_end = within[..., -1].transpose(3, 4)
    return _Chunks(dt, x, dt[..., None] * x, B, C, within, from_start, to_end, across)


def _split(tensor: Tensor, chunk: int) -> Tensor:
    """Cut (batch, seq_len, …) into (batch, n_chunks, chunk, …), with zeros after the end."""
    missing = -tensor.shape[1] % chunk
    if missing:
        tensor = F.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing))
    return tensor.unflatten(1, (-1, chunk))


def _runs(seq_idx: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Number the packed sequences anew, in order, by token; and give the one that each chunk's entering state is of."""
    starts = F.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, -seq_idx.shape[1] % chunk))
    run = starts.cumsum(1).unflatten(1, (-1, chunk))
    return run, F.pad(run[:, :-1, -1:], (0, 0, 1, 0))


def _states(cut: _Chunks, initial_state: Tensor) -> Tensor:
    """Give the state before each chunk and after the last: (batch, chunk + 1, group, d_state, head · d_head)."""
    added = cut.B.mT @ (cut.written * cut.to_end[..., None]).flatten(4)
    states = torch.cat([_by_group(initial_state, cut), added], dim=1)
    keep = _by_channel(cut.across, added.shape[-1])
    for c in range(added.shape[1]):
        states[:, c + 1].addcmul_(keep[:, c], states[:, c])
    return states


def _by_channel(per_head: Tensor, channels: int) -> Tensor:
    """Repeat a number per head for each channel of the head, on the last axis."""
    return per_head.repeat_interleave(channels // per_head.shape[-1], dim=-1)


def _by_group(state: Tensor, cut: _Chunks) -> Tensor:
    """Turn (batch, n_heads, d_head, d_state) into (batch, 1, group, d_state, head · d_head)."""
    n_groups, heads = cut.dt.shape[2], cut.dt.shape[4]
    return state.unflatten(1, (n_groups, heads)).permute(0, 1, 4, 2, 3).flatten(3).unsqueeze(1)


def _as_state(states: Tensor, n_heads: int) -> Tensor:
    """Turn (batch, group, d_state, head · d_head) into (batch, n_heads, d_head, d_state)."""
    heads = n_heads // states.shape[1]
    return states.unflatten(3, (heads, -1)).permute(0, 1, 3, 4, 2).flatten(1, 2).contiguous()


class _ChunkedSSD(torch.autograd.Function):
    """The recurrence without D and z. Training keeps the inputs alone; the backward makes the rest again.

    The products run in the type of the inputs under autocast too, as the sums of a recurrence must.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        initial_state: Tensor,
        seq_idx: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, dt, A, B, C, initial_state, seq_idx)
        ctx.chunk = chunk
        with _without_autocast(x.device):
            cut = _cut(x, dt, A, B, C, seq_idx, chunk)
            states = _states(cut, initial_state)
            scores = (cut.B @ cut.C.mT)[:, :, :, None] * cut.within
            y = (scores.mT @ cut.written.transpose(3, 4)).transpose(3, 4)
            carried = (cut.C @ states[:, :-1]).unflatten(4, (y.shape[4], -1))
            y = torch.addcmul(y, carried, cut.from_start[..., None])
            return _join(y, x.shape[1]), _as_state(states[:, -1], x.shape[2])

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        d_y, d_final = grad_outputs
        x, dt, A, B, C, initial_state, seq_idx = ctx.saved_tensors
        if torch.is_grad_enabled():
            tensors = (x, dt, A, B, C, initial_state)
            return (*gradients_of(partial(_definition, seq_idx), tensors, grad_outputs), None, None)
        with _without_autocast(x.device):
            return (*_gradients(d_y, d_final, x, dt, A, B, C, initial_state, seq_idx, ctx.chunk), None, None)


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    # The meta device has no autocast to turn off. By name: torch 2.11 cannot compile torch.amp.is_autocast_available.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _definition(
    seq_idx: Tensor | None, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    return ssd_reference(x, dt, A, B, C, None, None, None, initial_state, seq_idx, False, 1, True)


def _gradients(
    d_y: Tensor,
    d_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    initial_state: Tensor,
    seq_idx: Tensor | None,
    chunk: int,
) -> tuple[Tensor, ...]:
    """Give the gradients of x, dt, A, B, C and the initial state."""
    cut = _cut(x, dt, A, B, C, seq_idx, chunk)
    states = _states(cut, initial_state)
    n_groups, heads = cut.dt.shape[2], cut.dt.shape[4]
    d_y = _split(d_y, chunk).unflatten(3, (n_groups, heads)).transpose(2, 3)

    # Within a chunk: y_i = Σ_j within_ji (B_j·C_i) written_j.
    by_head = d_y.transpose(3, 4)
    products = (cut.B @ cut.C.mT)[:, :, :, None]
    d_written = ((products * cut.within) @ by_head).transpose(3, 4)
    d_scores = (cut.written.transpose(3, 4) @ by_head.mT).mul_(cut.within)
    d_products = d_scores.sum(3)
    d_B, d_C = d_products @ cut.C, d_products.mT @ cut.B
    d_decay = _crossing(d_scores.mul_(products))

    # From chunk to chunk: the states' gradients, last to first.
    d_read = (d_y * cut.from_start[..., None]).flatten(4)
    d_states = torch.cat([cut.C.mT @ d_read, _by_group(d_final, cut)], dim=1)
    keep = _by_channel(cut.across, states.shape[-1])
    for c in reversed(range(keep.shape[1])):
        d_states[:, c].addcmul_(keep[:, c], d_states[:, c + 1])
    entering, d_leaving = states[:, :-1], d_states[:, 1:]
    d_C += d_read @ entering.mT
    carried = (d_read * (cut.C @ entering)).unflatten(4, (heads, -1)).sum(5)
    d_B += (cut.written * cut.to_end[..., None]).flatten(4) @ d_leaving.mT
    d_kept = (cut.B @ d_leaving).unflatten(4, (heads, -1)) * cut.to_end[..., None]
    d_written += d_kept
    kept_before = F.pad((cut.written * d_kept).sum(5).cumsum(3)[:, :, :, :-1], (0, 0, 1, 0))
    whole = (d_leaving * entering * keep).unflatten(4, (heads, -1)).sum((3, 5)).unsqueeze(3)
    d_decay += carried.flip(3).cumsum(3).flip(3) + kept_before + whole

    d_A = (d_decay * cut.dt).sum((0, 1, 3)).flatten()
    d_dt = d_decay * A.unflatten(0, (n_groups, 1, heads)) + (d_written * cut.x).sum(5)
    d_x = d_written * cut.dt[..., None]
    d_initial = _as_state(d_states[:, 0], x.shape[2])
    seq_len = x.shape[1]
    d_B, d_C = (tensor.transpose(2, 3).flatten(1, 2)[:, :seq_len] for tensor in (d_B, d_C))
    return _join(d_x, seq_len), _join(d_dt, seq_len), d_A, d_B, d_C, d_initial


def _crossing(d_log: Tensor) -> Tensor:
    """Sum the gradient of each segment's decay over the segments (j, i] that contain token k, so j < k ≤ i."""
    written_before = d_log.cumsum_(-2).triu_(1).sum(-1)  # over j ≤ k and i > k, which is token k + 1
    return F.pad(written_before[..., :-1], (1, 0)).transpose(3, 4)


def _join(tensor: Tensor, seq_len: int) -> Tensor:
    """Undo the cut of (batch, chunk, group, token, head, …) to (batch, seq_len, n_heads, …)."""
    return tensor.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :seq_len]

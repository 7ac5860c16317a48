"""Backend "torch": the selective scan in tensor operations, on any device, with a backward of its own."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambattn.ops._definition import gradients_of
from mambattn.ops._dispatch import Request
from mambattn.ops.scan.reference import step_size

# Steps between two states kept, and elements (batch, d_inner, d_state) worked on at once. On a CPU the buffers of a
# chunk then stay in the caches; on an accelerator what counts is that each launch is large.
_CHUNK = 16
_ELEMENTS = {"cpu": 1 << 15}
_ELEMENTS_ELSEWHERE = 1 << 24


class _Blocks:
    """How a scan is cut: rows of the batch, and chunks of time whose first states are kept for the backward."""

    def __init__(self, u: Tensor, d_state: int) -> None:
        self.batch, self.seq_len, n_groups, d_group = u.shape
        elements = _ELEMENTS.get(u.device.type, _ELEMENTS_ELSEWHERE)
        self.chunk = min(self.seq_len, _CHUNK)
        self.n_rows = min(self.batch, max(1, elements // (n_groups * d_group * d_state)))
        self.shape = (self.chunk, n_groups, d_state, d_group)
        self.chunks = [slice(t, min(t + self.chunk, self.seq_len)) for t in range(0, self.seq_len, self.chunk)]
        self.rows = [slice(b, min(b + self.n_rows, self.batch)) for b in range(0, self.batch, self.n_rows)]

    def buffer(self, like: Tensor) -> Tensor:
        return like.new_empty(self.n_rows, *self.shape)


def _states(
    a: Tensor, x: Tensor, dt: Tensor, dtu: Tensor, A: Tensor, B: Tensor, starts: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill the buffers with the decays and the states of a chunk, and return the parts of them that are in use."""
    a, x = (buffer[: dt.shape[0], : dt.shape[1]] for buffer in (a, x))
    torch.mul(dt[..., None, :], A, out=a).exp_()
    if starts is not None:
        a.masked_fill_(starts[:, :, None, None, None], 0.0)
    torch.mul(dtu[..., None, :], B[..., None], out=x)
    for x_t, a_t in zip(x.unbind(1), a.unbind(1), strict=True):
        state = x_t.addcmul_(a_t, state)
    return a, x


class _Scan(torch.autograd.Function):
    """The recurrence alone, for step sizes ready to use.

    Channels are the last axis, so that every product runs over long contiguous rows: u, dt (batch, seq_len, n_groups,
    d_group), B, C (batch, seq_len, n_groups, d_state), states (batch, n_groups, d_state, d_group), A likewise.
    """

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        initial: Tensor,
        starts: Tensor | None,
        keep_states: bool,
    ) -> tuple[Tensor, Tensor]:
        blocks = _Blocks(u, A.shape[-2])
        dtu = dt * u
        y = torch.empty_like(dtu)
        final = torch.empty_like(initial)
        kept = u.new_empty(len(blocks.chunks), *initial.shape) if keep_states else None
        a, x = (blocks.buffer(u) for _ in range(2))
        for rows in blocks.rows:
            state = initial[rows]
            for i, steps in enumerate(blocks.chunks):
                if kept is not None:
                    kept[i, rows] = state
                here = (rows, steps)
                mask = None if starts is None else starts[here]
                _, states = _states(a, x, dt[here], dtu[here], A, B[here], mask, state)
                y[here] = (C[here][..., None, :] @ states)[..., 0, :]
                state = states[:, -1].clone()
            final[rows] = state
        ctx.save_for_backward(u, dt, A, B, C, initial, starts, kept)
        return y, final

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        dy, dfinal = grad_outputs
        u, dt, A, B, C, initial, starts, kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*gradients_of(partial(_definition, starts), (u, dt, A, B, C, initial), grad_outputs), None, None)
        blocks = _Blocks(u, A.shape[-2])
        dtu = dt * u
        gB, qA = torch.empty_like(dtu), torch.empty_like(dtu)
        dA, dB, dC = torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        dinitial = torch.empty_like(dfinal)
        buffers = [blocks.buffer(u) for _ in range(3)]
        for rows in blocks.rows:
            carry = dfinal[rows]
            for i in reversed(range(len(blocks.chunks))):
                here = (rows, blocks.chunks[i])
                start = kept[i, rows]
                mask = None if starts is None else starts[here]
                a, h = _states(buffers[0], buffers[1], dt[here], dtu[here], A, B[here], mask, start)
                dC[here] = (dy[here][..., None, :] @ h.mT)[..., 0, :]
                g = buffers[2][: a.shape[0], : a.shape[1]]
                torch.mul(dy[here][..., None, :], C[here][..., None], out=g)
                for t in reversed(range(a.shape[1])):
                    carry = a[:, t].mul_(g[:, t].add_(carry))
                dB[here] = (dtu[here][..., None, :] @ g.mT)[..., 0, :]
                gB[here] = (B[here][..., None, :] @ g)[..., 0, :]
                carry = carry.clone()
                a[:, 0].mul_(start)
                a[:, 1:].mul_(h[:, :-1])
                dA += torch.mul(a, dt[here][..., None, :], out=g).sum((0, 1))
                qA[here] = a.mul_(A).sum(-2)
            dinitial[rows] = carry
        return dt * gB, qA + u * gB, dA, dB, dC, dinitial, None, None


def _definition(
    starts: Tensor | None, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence as a loop, with the layout of `_Scan`."""
    outputs = []
    for t in range(u.shape[1]):
        decay = torch.exp(dt[:, t, :, None] * A)
        if starts is not None:
            decay = decay.masked_fill(starts[:, t, None, None, None], 0.0)
        state = decay * state + (dt[:, t] * u[:, t])[:, :, None] * B[:, t, ..., None]
        outputs.append((C[:, t, ..., None] * state).sum(-2))
    return torch.stack(outputs, 1), state


def selective_scan_torch(
    u: Tensor,
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
    reverse: bool,
    return_final_state: bool,
) -> tuple[Tensor, Tensor | None]:
    """Scan in blocks that fit the caches; arguments and result are those of `selective_scan_reference`."""
    batch, _, d_inner = u.shape
    n_groups, d_state = B.shape[2:]
    d_group = d_inner // n_groups
    sequences = (u, step_size(dt, dt_bias, dt_softplus), B, C)
    if reverse:
        sequences = tuple(x.flip(1) for x in sequences)
        seq_idx = None if seq_idx is None else seq_idx.flip(1)
    starts = None
    if seq_idx is not None:
        starts = torch.nn.functional.pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0))
    state = u.new_zeros(batch, d_inner, d_state) if initial_state is None else initial_state
    inputs = (
        *(x.unflatten(2, (n_groups, d_group)) for x in sequences[:2]),
        A.unflatten(0, (n_groups, d_group)).transpose(-1, -2).contiguous(),
        *sequences[2:],
        state.unflatten(1, (n_groups, d_group)).transpose(-1, -2).contiguous(),
    )
    keep_states = Request(inputs).differentiable
    y, final_state = _Scan.apply(*inputs, starts, keep_states)
    y = y.flatten(2)
    if reverse:
        y = y.flip(1)
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * torch.nn.functional.silu(z)
    return y, final_state.transpose(-1, -2).flatten(1, 2) if return_final_state else None

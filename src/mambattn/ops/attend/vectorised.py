"""Attention through torch's kernels: whole, as a window, or as blocks of queries that share one mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mambattn.ops.attend.varlen import attend_varlen, varlen_serves

SMALLEST_BLOCK = 64
"""Queries in a block at least: below it the kernel's start outweighs the keys saved."""


def attention_torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    window: int | None,
    n_global: int,
    scale: float,
    dropout_p: float,
) -> Tensor:
    """Give `mambattn.ops.attention` on checked arguments, in time linear in seq_len wherever there is a window."""
    seq_len = q.shape[1]
    if window is not None and window < seq_len and varlen_serves(q, n_global, dropout_p):
        return attend_varlen(q, k, v, causal, window, scale)
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))  # views (batch, heads, seq_len, d_head)
    if window is None or window >= seq_len or n_global >= seq_len:
        return _attend(q, k, v, None, causal, scale, dropout_p).transpose(1, 2)

    # The global tokens' own rows are dense; the others form a sequence of their own, to whose every window the
    # global keys are added in front. So no key is ever met twice.
    rows = []
    if n_global:
        reach = n_global if causal else seq_len
        rows.append(_attend(q[:, :, :n_global], k[:, :, :reach], v[:, :, :reach], None, causal, scale, dropout_p))
    rows += _windowed(q, k, v, causal, window, n_global, scale, dropout_p)
    return torch.cat(rows, dim=2).transpose(1, 2)


def attend_one(q_t: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Let one query a head (batch, n_heads, d_head) read all of keys and values (batch, slots, n_kv_heads, d_head)."""
    y_t = _attend(q_t[:, :, None], keys.transpose(1, 2), values.transpose(1, 2), None, False, scale, 0.0)
    return y_t[:, :, 0]


def _windowed(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, n_global: int, scale: float, dropout_p: float
) -> list[Tensor]:
    """Give the rows of the tokens from ``n_global`` on, in order.

    Each block of queries reads the keys from ``window − 1`` before its first to ``window − 1`` after its last query
    (causal: to its last). The blocks whose reach lies within the sequence see it through the same mask, so they are
    one call on overlapping views; the few at the ends are clipped, one call each, and nothing is padded.
    """
    seq_len = q.shape[2]
    left, right = window - 1, 0 if causal else window - 1
    block = max(window // 2 if causal else window, SMALLEST_BLOCK)  # so that its reach is about three blocks
    starts = range(n_global, seq_len, block)
    inside = [start for start in starts if start - left >= n_global and start + block + right <= seq_len]

    rows: list[Tensor] = []
    for start in starts:
        if inside and inside[0] < start <= inside[-1]:
            continue
        n_blocks = len(inside) if inside and start == inside[0] else 1
        stop = min(start + n_blocks * block, seq_len)
        low, high = max(n_global, start - left), min(stop + right, seq_len)
        span = high - low - (n_blocks - 1) * block
        size = min(block, stop - start)
        mask = _band(size, span, start - low, left, right, n_global, q.device)
        blocks = [_overlapping(q[:, :, start:stop], size, block)]
        for tensor in (k, v):
            part = _overlapping(tensor[:, :, low:high], span, block)
            first = tensor[:, None, :, :n_global].expand(-1, n_blocks, -1, -1, -1)
            blocks.append(torch.cat([first, part], dim=3) if n_global else part)
        y = _attend(*(tensor.flatten(0, 1) for tensor in blocks), mask, False, scale, dropout_p)
        rows.append(y.unflatten(0, (q.shape[0], n_blocks)).transpose(1, 2).flatten(2, 3))
    return rows


def _overlapping(tensor: Tensor, size: int, stride: int) -> Tensor:
    """View (batch, heads, seq_len, d_head) as (batch, n_blocks, heads, size, d_head), a block every ``stride``."""
    return tensor.unfold(2, size, stride).permute(0, 2, 1, 4, 3)


def _band(
    n_queries: int, n_keys: int, offset: int, left: int, right: int, n_global: int, device: torch.device
) -> Tensor:
    """Mask of a block: query i stands at key ``offset + i``, sees ``left`` before, ``right`` after, and all globals."""
    query = torch.arange(n_queries, device=device)[:, None] + offset
    key = torch.arange(n_keys, device=device)
    seen = (key >= query - left) & (key <= query + right)
    return F.pad(seen, (n_global, 0), value=True)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, dropout_p: float
) -> Tensor:
    """Call the library kernel on (batch, heads, tokens, d_head), with fewer key heads than query heads or as many."""
    if k.shape[1] != q.shape[1]:
        # By hand, as the masked CUDA kernels take no grouped heads.
        k, v = (tensor.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for tensor in (k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p, causal, scale=scale)

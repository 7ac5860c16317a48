"""Attention as its definition: a dense matrix of weights under an explicit mask."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attention_mask", "attention_weights"]


def attention_mask(
    seq_len: int,
    *,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    device: torch.device | None = None,
) -> Tensor:
    """Say which token sees which, as a matrix.

    Token i sees token j when ``|i − j| < window`` (or window is None), or when i or j is among the first ``n_global``
    tokens; a causal token sees no later one.

    Parameters
    ----------
    seq_len : int
        Number of tokens.
    causal : bool, default False
        Whether a token is kept from later ones.
    window : int, optional
        Number of tokens seen to either side, the token itself included; None for all.
    n_global : int, default 0
        Number of leading tokens that see all and are seen by all.
    device : torch.device, optional
        Where the mask is made.

    Returns
    -------
    Tensor
        Booleans (seq_len, seq_len), rows are queries; every diagonal entry is True.

    Examples
    --------
    >>> attention_mask(4, causal=True, window=2, n_global=1).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)
    """
    position = torch.arange(seq_len, device=device)
    query, source = position[:, None], position[None, :]
    seen = torch.ones(seq_len, seq_len, dtype=torch.bool, device=device)
    if window is not None:
        seen = ((query - source).abs() < window) | (query < n_global) | (source < n_global)
    return seen & (source <= query) if causal else seen


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    scale: float | None = None,
) -> Tensor:
    """Give the whole softmax matrix; for small inputs, quadratic in seq_len.

    softmax_j(scale · q_i·k_j) over the tokens j that token i sees (`attention_mask`).

    Parameters
    ----------
    q : Tensor
        Queries (batch, seq_len, n_heads, d_head).
    k : Tensor
        Keys (batch, seq_len, n_kv_heads, d_head); query head h reads key head h · n_kv_heads // n_heads.
    causal : bool, default False
        Whether a token is kept from later ones.
    window : int, optional
        Number of tokens seen to either side, the token itself included; None for all.
    n_global : int, default 0
        Number of leading tokens that see all and are seen by all.
    scale : float, optional
        Factor of the logits; None for 1/√d_head.

    Returns
    -------
    Tensor
        Weights (batch, n_heads, seq_len, seq_len); each row sums to 1. In float32 where q is of a lower precision.

    Examples
    --------
    >>> q, k = torch.zeros(1, 3, 2, 4), torch.zeros(1, 3, 1, 4)
    >>> attention_weights(q, k, causal=True)[0, 0]
    tensor([[1.0000, 0.0000, 0.0000],
            [0.5000, 0.5000, 0.0000],
            [0.3333, 0.3333, 0.3333]])
    """
    _, seq_len, n_heads, d_head = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    k = k.to(dtype).repeat_interleave(n_heads // k.shape[2], dim=2)
    logits = torch.einsum("bihd,bjhd->bhij", q.to(dtype), k) * (1 / math.sqrt(d_head) if scale is None else scale)
    seen = attention_mask(seq_len, causal=causal, window=window, n_global=n_global, device=q.device)
    return logits.masked_fill(~seen, -math.inf).softmax(dim=-1)


def attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool,
    window: int | None,
    n_global: int,
    scale: float | None,
    dropout_p: float,
) -> Tensor:
    """Mix the values by the dense matrix of weights. The arguments are those of `mambattn.ops.attention`, checked."""
    weights = attention_weights(q, k, causal=causal, window=window, n_global=n_global, scale=scale)
    weights = F.dropout(weights, dropout_p)
    v_heads = v.to(weights.dtype).repeat_interleave(q.shape[2] // v.shape[2], dim=2)
    return torch.einsum("bhij,bjhd->bihd", weights, v_heads).to(q.dtype)

"""`attention` and its one-token form: the arguments, their checks, and the choice of a backend."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError
from mambattn.ops._checks import check_floating, check_integer, check_shape, compute_dtype
from mambattn.ops._dispatch import run
from mambattn.ops.attend.vectorised import attend_one

__all__ = ["AttentionState", "attention", "attention_init_state", "attention_step"]


class AttentionState(NamedTuple):
    """What `attention_step` remembers: keys and values of the tokens that later ones can still see.

    Without a window the cache grows by a token a step. With one it has ``n_global + window`` slots from the start: the
    first ``n_global`` tokens stay, the others take the ring of ``window`` slots in turn. Attention does not depend
    on the order of its keys, so the ring is never unrolled.

    Parameters
    ----------
    k : Tensor
        Keys (batch, slots, n_kv_heads, d_head).
    v : Tensor
        Values, of the shape of ``k``.
    n_seen : int
        Number of tokens taken in so far.
    """

    k: Tensor
    v: Tensor
    n_seen: int


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    n_global: int = 0,
    scale: float | None = None,
    dropout_p: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Softmax attention over all tokens, over a window, or over a window and the first tokens.

    y_i = Σ_j softmax_j(scale · q_i·k_j) v_j (arXiv 1706.03762 §3.2.1), where j runs over the tokens that token i sees:
    all; with ``window`` those with ``|i − j| < window`` (arXiv 2004.05150 §3.1); with ``n_global`` also every pair of
    which one is among the first ``n_global`` tokens (§3.1 there, with one projection for both kinds). A causal token
    sees no later one. Each key counts once. With a window, time and memory are O(seq_len · (window + n_global)),
    forward and backward. Without one, time is O(seq_len²), and memory O(seq_len) where a fused kernel serves the call;
    dropout on a CPU has none beyond 1024 tokens, nor has float64 on a GPU, and memory is O(seq_len²) there too.

    Parameters
    ----------
    q : Tensor
        Queries (batch, seq_len, n_heads, d_head).
    k : Tensor
        Keys (batch, seq_len, n_kv_heads, d_head); n_kv_heads divides n_heads, and query head h reads key head
        h · n_kv_heads // n_heads (arXiv 2305.13245 §2.2).
    v : Tensor
        Values, of the shape of ``k``.
    causal : bool, default False
        Whether a token is kept from later ones.
    window : int, optional
        Number of tokens seen to either side, the token itself included; None for all.
    n_global : int, default 0
        Number of leading tokens that see all and are seen by all; needs ``window``.
    scale : float, optional
        Factor of the logits; None for 1/√d_head.
    dropout_p : float, default 0.0
        Probability with which a weight is dropped, the others being scaled by 1/(1 − dropout_p); it acts in every
        call, so pass 0 outside training.
    backend : str, default "auto"
        One of "auto", "reference" (dense, with an explicit mask), "torch" and "native" (plain C on the CPU, float32
        inside, for up to 1024 tokens without global ones); auto takes the fastest.

    Returns
    -------
    Tensor
        Mixed values (batch, seq_len, n_heads, d_head), in the type of ``q``.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others.
    ConfigError
        If ``window``, ``n_global`` or ``dropout_p`` is out of range, or ``n_global`` comes without ``window``.
    BackendUnavailableError
        If the backend asked for by name cannot run.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import attention
    >>> q = k = torch.zeros(1, 4, 1, 2)
    >>> v = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 1, 2)
    >>> attention(q, k, v, causal=True, window=2)[0, :, 0, 0]
    tensor([0.0000, 0.5000, 1.5000, 2.5000])
    """
    check_floating("q", q=q, k=k, v=v)
    _check_reach(window, n_global)
    check_shape("q", q, "the call", batch=None, seq_len=None, n_heads=None, d_head=None)
    batch, seq_len, n_heads, d_head = q.shape
    check_shape("k", k, "`q`", batch=batch, seq_len=seq_len, n_kv_heads=None, d_head=d_head)
    check_shape("v", v, "`k`", batch=batch, seq_len=seq_len, n_kv_heads=k.shape[2], d_head=d_head)
    _check_heads(n_heads, k.shape[2])
    if not 0 <= dropout_p < 1:
        raise ConfigError(f"`dropout_p` must be at least 0 and below 1, however dropout_p={dropout_p}. Use 0 for none.")
    dtype = compute_dtype(q, k, v, at_least=q.dtype)
    scale = 1 / math.sqrt(d_head) if scale is None else scale
    tensors = (q.to(dtype), k.to(dtype), v.to(dtype))
    return run("attention", backend, tensors, causal, window, n_global, scale, dropout_p).to(q.dtype)


def attention_init_state(
    batch: int,
    n_kv_heads: int,
    d_head: int,
    *,
    window: int | None = None,
    n_global: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> AttentionState:
    """Make the empty cache that `attention_step` starts from.

    Parameters
    ----------
    batch : int
        Number of sequences.
    n_kv_heads : int
        Number of key and value heads.
    d_head : int
        Width of a head.
    window : int, optional
        Number of tokens seen, the current one included; None for all.
    n_global : int, default 0
        Number of leading tokens that are always seen; needs ``window``.
    device : torch.device or str, optional
        Where the cache lies.
    dtype : torch.dtype, optional
        Its type; that of the keys to come.

    Returns
    -------
    AttentionState
        No token seen; ``n_global + window`` slots, or none without a window.

    Raises
    ------
    ConfigError
        If ``window`` or ``n_global`` is out of range.

    Examples
    --------
    >>> from mambattn.ops import attention_init_state
    >>> attention_init_state(1, 2, 8, window=16).k.shape
    torch.Size([1, 16, 2, 8])
    """
    _check_reach(window, n_global)
    slots = 0 if window is None else n_global + window
    k, v = torch.zeros(2, batch, slots, n_kv_heads, d_head, device=device, dtype=dtype).unbind()
    return AttentionState(k, v, 0)


def attention_step(
    q_t: Tensor,
    k_t: Tensor,
    v_t: Tensor,
    *,
    state: AttentionState,
    window: int | None = None,
    n_global: int = 0,
    scale: float | None = None,
) -> tuple[Tensor, AttentionState]:
    """Take one more token of causal `attention`.

    A loop of steps equals `attention` with ``causal=True`` and the same ``window`` and ``n_global``. A step costs
    O(window + n_global), or O(tokens so far) without a window.

    Parameters
    ----------
    q_t : Tensor
        The token's query (batch, n_heads, d_head).
    k_t : Tensor
        Its key (batch, n_kv_heads, d_head).
    v_t : Tensor
        Its value, of the shape of ``k_t``.
    state : AttentionState
        The cache, from `attention_init_state` with the same window and n_global, or from the step before; not changed.
    window : int, optional
        Number of tokens seen, the current one included; None for all.
    n_global : int, default 0
        Number of leading tokens that are always seen; needs ``window``.
    scale : float, optional
        Factor of the logits; None for 1/√d_head.

    Returns
    -------
    y_t : Tensor
        Mixed values (batch, n_heads, d_head), in the type of ``q_t``.
    state : AttentionState
        The cache for the next token.

    Raises
    ------
    ShapeError
        If a tensor does not fit the others or the cache.
    ConfigError
        If ``window`` or ``n_global`` is out of range.

    Examples
    --------
    >>> import torch
    >>> from mambattn.ops import attention_init_state, attention_step
    >>> state, q_t = attention_init_state(1, 1, 2, window=2), torch.zeros(1, 1, 2)
    >>> for value in (0.0, 1.0, 2.0):
    ...     y_t, state = attention_step(q_t, q_t, torch.full_like(q_t, value), state=state, window=2)
    >>> y_t
    tensor([[[1.5000, 1.5000]]])
    """
    check_floating("q_t", q_t=q_t, k_t=k_t, v_t=v_t, **{"state.k": state.k, "state.v": state.v})
    _check_reach(window, n_global)
    check_shape("q_t", q_t, "the call", batch=None, n_heads=None, d_head=None)
    batch, n_heads, d_head = q_t.shape
    check_shape("k_t", k_t, "`q_t`", batch=batch, n_kv_heads=None, d_head=d_head)
    check_shape("v_t", v_t, "`k_t`", batch=batch, n_kv_heads=k_t.shape[1], d_head=d_head)
    _check_heads(n_heads, k_t.shape[1])
    slots = state.n_seen if window is None else n_global + window
    if state.k.shape != (batch, slots, *k_t.shape[1:]) or state.v.shape != state.k.shape:
        raise ShapeError(
            f"`state` must hold keys and values of the shape {(batch, slots, *k_t.shape[1:])} for window={window}, "
            f"n_global={n_global}, however state.k.shape={tuple(state.k.shape)}, state.v.shape={tuple(state.v.shape)}. "
            "Make it with attention_init_state, with the same window and n_global."
        )
    k_t, v_t = k_t.to(state.k.dtype), v_t.to(state.v.dtype)
    if window is None:
        keys, values = torch.cat([state.k, k_t[:, None]], dim=1), torch.cat([state.v, v_t[:, None]], dim=1)
    else:
        slot = state.n_seen if state.n_seen < n_global else n_global + (state.n_seen - n_global) % window
        keys, values = state.k.clone(), state.v.clone()
        keys[:, slot], values[:, slot] = k_t, v_t
    n_seen = state.n_seen + 1
    filled = min(n_seen, keys.shape[1])
    dtype = compute_dtype(q_t, keys, values, at_least=q_t.dtype)
    seen_keys, seen_values = keys[:, :filled].to(dtype), values[:, :filled].to(dtype)
    y_t = attend_one(q_t.to(dtype), seen_keys, seen_values, 1 / math.sqrt(d_head) if scale is None else scale)
    return y_t.to(q_t.dtype), AttentionState(keys, values, n_seen)


def _check_reach(window: int | None, n_global: int) -> None:
    if window is not None:
        check_integer("window", window, at_least=1, mend="Use 1 for the token itself, None for all tokens.")
    check_integer("n_global", n_global, at_least=0, mend="Use 0 for no global tokens.")
    if n_global and window is None:
        raise ConfigError(
            f"`n_global` must be 0 without a window, because every token sees all, however n_global={n_global}, "
            "window=None. Set `window`, or leave `n_global` out."
        )


def _check_heads(n_heads: int, n_kv_heads: int) -> None:
    if n_heads % n_kv_heads:
        divisors = ", ".join(str(n) for n in range(1, n_heads + 1) if n_heads % n == 0)
        raise ShapeError(
            f"`n_kv_heads` must divide `n_heads`, however n_heads={n_heads}, n_kv_heads={n_kv_heads}. "
            f"Use n_kv_heads={divisors.replace(', ' + str(n_heads), f' or {n_heads}')}."
        )

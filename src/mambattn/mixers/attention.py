"""Self-attention as a mixer: global, or over a sliding window."""

from __future__ import annotations

from mambattn.mixers._self_attention import SelfAttention

__all__ = ["Attention"]


class Attention(SelfAttention):
    """Multi-head self-attention, over all tokens or over a window.

    ``y_i = W_out concat_h(Σ_j softmax_j(q_hi · k_hj / sqrt(d_head)) v_hj)`` (arXiv 1706.03762, section 3.2), j running
    over the tokens in sight of token i: all, j ≤ i when causal, and with a window those with ``|i − j| < window``.
    Fewer key and value heads than query heads (arXiv 2305.13245) shrink the cache of `step`. The attention view has
    one map a head. Dropout acts on the weights, in training mode.

    Parameters
    ----------
    d_model : int
        Width of a token.
    n_heads : int, default 8
        Heads; they divide `d_model`, and d_head = d_model / n_heads.
    n_kv_heads : int or None, default None
        Key and value heads, which divide `n_heads`; None is one for each query head.
    positions : {None, "rotary"}, default None
        Whether queries and keys are turned by their position (arXiv 2104.09864).
    causal : bool, default False
        Whether a token sees only itself and those before.
    window : int or None, default None
        Tokens in sight to each side, the current one included; None is all.
    log_length : int or None, default None
        Length n from which on the logits grow: those of the i-th token are multiplied by ``max(1, log i / log n)``
        (log-length scaled attention, arXiv 2202.12172), so that attention stays as sharp over more tokens. n is the
        length in training; causal attention only.
    log_floor : bool, default True
        Whether the factor is 1 up to `log_length`; False is ``log i / log n`` everywhere, in training too.
    dropout : float, default 0.0
        Share of the attention weights dropped in training.
    bias : bool, default True
        Whether the projections have a bias.
    backend : str, default "auto"
        Backend of `mambattn.ops.attention`.

    Raises
    ------
    ConfigError
        If a setting is out of range, or the heads do not divide the width.

    Examples
    --------
    >>> import torch
    >>> mixer = Attention(16, n_heads=4, window=3, causal=True)
    >>> x = torch.randn(2, 9, 16)
    >>> view = mixer.attention_view(x)
    >>> view.matrix.shape, torch.allclose(view.reconstruct(), mixer(x), atol=1e-6)
    (torch.Size([2, 4, 9, 9]), True)
    """

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int = 8,
        n_kv_heads: int | None = None,
        positions: str | None = None,
        causal: bool = False,
        window: int | None = None,
        log_length: int | None = None,
        log_floor: bool = True,
        dropout: float = 0.0,
        bias: bool = True,
        backend: str = "auto",
    ) -> None:
        super().__init__(
            d_model,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            positions=positions,
            causal=causal,
            window=window,
            log_length=log_length,
            log_floor=log_floor,
            n_global=0,
            dropout=dropout,
            bias=bias,
            backend=backend,
        )

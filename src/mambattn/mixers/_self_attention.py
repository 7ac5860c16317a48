"""What global, windowed and sparse self-attention share: projections, positions and the three views."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from mambattn._checks import check_divides
from mambattn._errors import ConfigError
from mambattn.mixers.base import AttentionView, Mixer
from mambattn.nn import Linear, rotate
from mambattn.nn._checks import check_counts, check_dropout, check_one_of
from mambattn.ops import AttentionState, attention, attention_init_state, attention_step
from mambattn.ops._checks import is_integer
from mambattn.ops.attend.reference import attention_weights

__all__ = ["SelfAttention", "n_pairs"]


class SelfAttention(Mixer):
    """Multi-head self-attention over what `window` and `n_global` leave in sight; see `Attention` for the settings."""

    _shown: ClassVar[tuple[str, ...]] = (
        "n_heads",
        "n_kv_heads",
        "positions",
        "causal",
        "window",
        "n_global",
        "log_length",
        "dropout",
    )

    def __init__(
        self,
        d_model: int,
        *,
        n_heads: int,
        n_kv_heads: int | None,
        positions: str | None,
        causal: bool,
        window: int | None,
        n_global: int,
        dropout: float,
        bias: bool,
        backend: str,
        log_length: int | None = None,
        log_floor: bool = True,
    ) -> None:
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        check_counts(d_model=d_model, n_heads=n_heads, n_kv_heads=n_kv_heads)
        check_divides("d_model", d_model, "n_heads", n_heads)
        check_divides("n_heads", n_heads, "n_kv_heads", n_kv_heads)
        check_one_of("positions", positions, (None, "rotary"))
        check_dropout(dropout)
        if window is not None:
            check_counts(window=window)
        if log_length is not None and not is_integer(log_length, at_least=2):
            raise ConfigError(
                f"`log_length` must be None or an integer of at least 2, however log_length={log_length!r}. Use the "
                "length of the sequences in training."
            )
        if log_length is not None and not causal:
            raise ConfigError(
                "`log_length` needs causal attention, where token i sees i tokens, "
                f"however log_length={log_length}, causal=False. Set causal=True, or leave it out."
            )
        if positions == "rotary" and (d_model // n_heads) % 2:
            raise ConfigError(
                "Rotary positions need an even d_head = d_model / n_heads, "
                f"however d_model={d_model}, n_heads={n_heads}. Use another n_heads or positions=None."
            )
        super().__init__(d_model, n_maps=n_heads, causal=causal)
        self.n_heads = n_heads
        self.n_kv_heads = n_kv_heads
        self.d_head = d_model // n_heads
        self.positions = positions
        self.window = window
        self.n_global = n_global
        self.log_length = log_length
        self.log_floor = log_floor
        self.dropout = dropout
        self.backend = backend
        self.in_proj = Linear(d_model, (n_heads + 2 * n_kv_heads) * self.d_head, bias=bias)
        self.out_proj = Linear(d_model, d_model, bias=bias)

    def _forward(self, x: Tensor) -> Tensor:
        q, k, v = self._project(x)
        mixed = attention(
            q,
            k,
            v,
            causal=self.causal,
            window=self.window,
            n_global=self.n_global,
            dropout_p=self.dropout if self.training else 0.0,
            backend=self.backend,
        )
        return self.out_proj(mixed.flatten(2))

    def _view(self, x: Tensor) -> AttentionView:
        q, k, v = self._project(x)
        weights = attention_weights(q, k, causal=self.causal, window=self.window, n_global=self.n_global)
        values = v.repeat_interleave(self.n_heads // self.n_kv_heads, dim=2)
        return AttentionView(weights.to(v.dtype), values, lambda mixed: self.out_proj(mixed.flatten(2)))

    def _flops(self, seq_len: int) -> int:
        projections = 2 * seq_len * self.d_model * (self.in_proj.out_features + self.d_model)
        pairs = n_pairs(seq_len, causal=self.causal, window=self.window, n_global=self.n_global)
        return projections + 4 * self.d_model * pairs

    def _project(self, x: Tensor, offset: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (batch, seq_len, heads, d_head) of tokens that start at position `offset`."""
        heads = self.in_proj(x).unflatten(-1, (-1, self.d_head))
        q, k, v = heads.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], dim=2)
        if self.positions == "rotary":
            q, k = rotate(q, offset), rotate(k, offset)
        if self.log_length is not None:
            q = q * self._log_scale(offset, x)
        return q, k, v

    def _log_scale(self, offset: int, x: Tensor) -> Tensor:
        """Factors (seq_len, 1, 1) of the logits of each token."""
        assert self.log_length is not None
        n_seen = torch.arange(1 + offset, 1 + offset + x.shape[1], device=x.device, dtype=torch.float64)
        scale = n_seen.log() / math.log(self.log_length)
        return (scale.clamp(min=1) if self.log_floor else scale).to(x.dtype)[:, None, None]

    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> AttentionState:
        return attention_init_state(
            batch, self.n_kv_heads, self.d_head, window=self.window, n_global=self.n_global, device=device, dtype=dtype
        )

    def _step(self, x_t: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        q, k, v = self._project(x_t[:, None], offset=state.n_seen)
        mixed, state = attention_step(
            q[:, 0], k[:, 0], v[:, 0], state=state, window=self.window, n_global=self.n_global
        )
        return self.out_proj(mixed.flatten(1)), state

    def _grown_bytes(self, seq_len: int, batch: int) -> int:
        if self.window is not None:
            return 0
        return 2 * batch * seq_len * self.n_kv_heads * self.d_head * self.in_proj.weight.itemsize


def n_pairs(seq_len: int, *, causal: bool, window: int | None, n_global: int) -> int:
    """Count the pairs of a query and a source that attention compares."""
    if causal:
        reach = seq_len if window is None else min(seq_len, window + n_global)
        return seq_len * reach - reach * (reach - 1) // 2
    if window is None:
        return seq_len**2
    n_global = min(n_global, seq_len)
    rest = seq_len - n_global
    reach = min(rest, window)
    band = rest * (2 * reach - 1) - reach * (reach - 1) if reach else 0
    return seq_len**2 - rest**2 + band

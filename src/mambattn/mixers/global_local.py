"""Global and local attention in one mixer."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mambattn._errors import ConfigError
from mambattn.mixers._self_attention import SelfAttention
from mambattn.mixers.base import AttentionView, Mixer
from mambattn.nn._checks import check_counts, check_one_of, is_count
from mambattn.ops import AttentionState
from mambattn.ops.attend.reference import attention_mask

__all__ = ["GlobalLocalAttention", "GlobalLocalState", "local_global_masks"]


class GlobalLocalState(NamedTuple):
    """What a causal `GlobalLocalAttention` remembers.

    Parameters
    ----------
    parts : tuple of AttentionState
        The caches of its attentions: global, then local; with form "sparse" there is one.
    """

    parts: tuple[AttentionState, ...]


class GlobalLocalAttention(Mixer):
    """Attention that sees the neighbourhood in a window and the whole by a second way.

    ``form="dual"`` is a global and a windowed attention over the same tokens, each with projections of its own, their
    outputs summed; the cost is quadratic in seq_len. ``form="sparse"`` is one attention in which token i sees token j
    if ``|i − j| < window``, or if i or j is among the first `n_global` tokens (after arXiv 2004.05150, section 3.1,
    with one projection for both); the cost is linear in seq_len. Causal, both see j ≤ i only. The attention view has
    one map a head, the global heads of "dual" first.

    Parameters
    ----------
    d_model : int
        Width of a token.
    n_heads : int, default 8
        Heads of each attention; they divide `d_model`.
    window : int, default 64
        Tokens in sight to each side, the current one included.
    form : {"dual", "sparse"}, default "dual"
        Two attentions summed, or one.
    n_global : int, default 0
        Leading tokens that all see and that see all; at least 1 with form "sparse", and not given with "dual".
    causal : bool, default False
        Whether a token sees only itself and those before.
    dropout : float, default 0.0
        Share of the attention weights dropped in training.
    n_kv_heads : int or None, default None
        Key and value heads, which divide `n_heads`; None is one for each query head.
    positions : {None, "rotary"}, default None
        Whether queries and keys are turned by their position (arXiv 2104.09864).
    bias : bool, default True
        Whether the projections have a bias.
    backend : str, default "auto"
        Backend of `mambattn.ops.attention`.

    Raises
    ------
    ConfigError
        If a setting is out of range, or `n_global` does not go with `form`.

    Examples
    --------
    >>> mixer = GlobalLocalAttention(16, n_heads=4, window=3)
    >>> mixer.n_maps, mixer(torch.randn(2, 9, 16)).shape
    (8, torch.Size([2, 9, 16]))
    >>> GlobalLocalAttention(16, n_heads=4, window=3, form="sparse", n_global=1).n_maps
    4
    """

    _shown: ClassVar[tuple[str, ...]] = ("form", "causal")

    def __init__(
        self,
        d_model: int,
        n_heads: int = 8,
        window: int = 64,
        *,
        form: str = "dual",
        n_global: int = 0,
        causal: bool = False,
        dropout: float = 0.0,
        n_kv_heads: int | None = None,
        positions: str | None = None,
        bias: bool = True,
        backend: str = "auto",
    ) -> None:
        _check_form(form, n_global)
        check_counts(window=window)
        super().__init__(d_model, n_maps=2 * n_heads if form == "dual" else n_heads, causal=causal)
        self.form = form
        shared: dict[str, Any] = {
            "n_heads": n_heads,
            "n_kv_heads": n_kv_heads,
            "positions": positions,
            "causal": causal,
            "dropout": dropout,
            "bias": bias,
            "backend": backend,
        }
        self.local_attention = SelfAttention(d_model, window=window, n_global=n_global, **shared)
        self.global_attention = SelfAttention(d_model, window=None, n_global=0, **shared) if form == "dual" else None

    @property
    def _parts(self) -> tuple[SelfAttention, ...]:
        if self.global_attention is None:
            return (self.local_attention,)
        return (self.global_attention, self.local_attention)

    def _forward(self, x: Tensor) -> Tensor:
        return _sum(part(x) for part in self._parts)

    def _view(self, x: Tensor) -> AttentionView:
        views = [part.attention_view(x) for part in self._parts]

        def output(mixed: Tensor) -> Tensor:
            return _sum(view.output(heads) for view, heads in zip(views, mixed.chunk(len(views), dim=2), strict=True))

        matrix = torch.cat([view.matrix for view in views], dim=1)
        return AttentionView(matrix, torch.cat([view.values for view in views], dim=2), output)

    def _flops(self, seq_len: int) -> int:
        return sum(part.flops(seq_len) for part in self._parts)

    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> GlobalLocalState:
        return GlobalLocalState(tuple(part._init_state(batch, device, dtype) for part in self._parts))

    def _step(self, x_t: Tensor, state: GlobalLocalState) -> tuple[Tensor, GlobalLocalState]:
        steps = [part._step(x_t, part_state) for part, part_state in zip(self._parts, state.parts, strict=True)]
        return _sum(y_t for y_t, _ in steps), GlobalLocalState(tuple(part_state for _, part_state in steps))

    def _grown_bytes(self, seq_len: int, batch: int) -> int:
        return sum(part._grown_bytes(seq_len, batch) for part in self._parts)


def local_global_masks(
    seq_len: int, *, window: int, n_global: int = 0, causal: bool = False, form: str = "dual"
) -> tuple[Tensor, Tensor]:
    """Draw the two contexts of `GlobalLocalAttention` as masks, for display and tests; no computation forms them.

    Parameters
    ----------
    seq_len : int
        Number of tokens.
    window : int
        Tokens in sight to each side, the current one included.
    n_global : int, default 0
        Leading tokens that all see and that see all; at least 1 with form "sparse", and not given with "dual".
    causal : bool, default False
        Whether a token sees only itself and those before.
    form : {"dual", "sparse"}, default "dual"
        Form of the mixer.

    Returns
    -------
    local : Tensor of bool, (seq_len, seq_len)
        Which token (row) sees which (column) by the window.
    everywhere : Tensor of bool, (seq_len, seq_len)
        Which token sees which by the second way: all of them in "dual"; in "sparse" the pairs with a global token.
        The one attention of "sparse" sees the union of both.

    Raises
    ------
    ConfigError
        If `seq_len` or `window` is no integer of at least 1, or `n_global` does not go with `form`.

    Examples
    --------
    >>> local, everywhere = local_global_masks(4, window=1, n_global=1, causal=True, form="sparse")
    >>> (local | everywhere).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 0, 1]], dtype=torch.int32)
    """
    _check_form(form, n_global)
    check_counts(seq_len=seq_len, window=window)
    local = attention_mask(seq_len, causal=causal, window=window)
    everywhere = attention_mask(seq_len, causal=causal)
    if form == "sparse":
        token = torch.arange(seq_len)
        everywhere = everywhere & ((token[:, None] < n_global) | (token[None, :] < n_global))
    return local, everywhere


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, tensors)


def _check_form(form: str, n_global: int) -> None:
    check_one_of("form", form, ("dual", "sparse"))
    if form == "dual" and n_global != 0:
        raise ConfigError(
            f"`n_global` acts only with form='sparse', however form='dual', n_global={n_global!r}. Leave it out, since "
            "the global attention of 'dual' sees every token anyway, or use form='sparse'."
        )
    if form == "sparse" and not is_count(n_global):
        raise ConfigError(
            f"`n_global` must be an integer of at least 1 with form='sparse', however n_global={n_global!r}. Use "
            "n_global=1, or form='dual', or a window alone (Attention with `window`)."
        )

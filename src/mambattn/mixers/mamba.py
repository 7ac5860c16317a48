"""Mamba: a selective state space as a mixer."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.mixers._ssm import check_dt_range, decay_rates, draw_conv, draw_dt_bias, segment_sums
from mambattn.mixers.base import AttentionView, Mixer
from mambattn.nn import Linear, make_norm
from mambattn.nn._checks import check_counts, is_count
from mambattn.ops import causal_conv1d, causal_conv1d_step, selective_scan, selective_scan_step
from mambattn.ops.scan.reference import step_size

__all__ = ["Mamba", "MambaState"]


class MambaState(NamedTuple):
    """What a `Mamba` remembers.

    Parameters
    ----------
    conv : Tensor of shape (batch, d_conv − 1, d_inner)
        The last inputs of the convolution.
    scan : Tensor of shape (batch, d_inner, d_state)
        The state h, in float32 at least.
    """

    conv: Tensor
    scan: Tensor


class Mamba(Mixer):
    """Mamba (arXiv 2312.00752, section 3.4): a short convolution, a selective scan and a gate.

    ::

        u, z = split(W_in x)
        u = silu(conv(u))
        dt, B, C = split(W_x u);  dt = softplus(W_dt dt + dt_bias)
        h_t[d, n] = exp(dt_t[d] A[d, n]) h_{t-1}[d, n] + dt_t[d] B_t[n] u_t[d],  A = −exp(A_log)
        y_t[d] = Σ_n C_t[n] h_t[d, n] + D[d] u_t[d]
        output = W_out (y ⊙ silu(z))

    The attention view (arXiv 2403.01590, section 3.1) has one map a channel, ``α + D·I`` with
    ``α[i, j] = Σ_n C_i[n] exp(A[d, n] Σ_{k=j+1..i} dt_k) dt_j B_j[n]`` for j ≤ i, over the values u.

    Parameters
    ----------
    d_model : int
        Width of a token.
    d_state : int, default 16
        States a channel.
    d_conv : int, default 4
        Taps of the short convolution.
    expand : int, default 2
        Inner width d_inner, in units of `d_model`.
    dt_rank : int or "auto", default "auto"
        Rank of the map to the step sizes; "auto" is d_model / 16, rounded up.
    dt_min : float, default 1e-3
        Smallest initial step size.
    dt_max : float, default 0.1
        Largest initial step size; they are drawn log-uniform between the two.
    dt_init_floor : float, default 1e-4
        Initial step sizes below it are raised to it.
    bias : bool, default False
        Whether the projections in and out have a bias.
    conv_bias : bool, default True
        Whether the convolution has a bias.
    norm_dt_bc : bool, default False
        Whether dt (before its map), B and C each pass an RMSNorm (arXiv 2403.19887, section 6.4).
    bidirectional : bool, default False
        Whether the output is the mean of this Mamba and of another one, with weights of its own throughout, that
        reads the sequence from its end. Not causal then, and twice the maps.
    backend : str, default "auto"
        Backend of the ops: `mambattn.ops.selective_scan`, `causal_conv1d` and their steps.

    Raises
    ------
    ConfigError
        If a setting is out of range.

    Examples
    --------
    >>> mixer = Mamba(8, d_state=4)
    >>> x = torch.randn(2, 5, 8)
    >>> y = mixer(x)
    >>> state = mixer.init_state(batch=2)
    >>> for t in range(5):
    ...     y_t, state = mixer.step(x[:, t], state)
    >>> torch.allclose(y[:, 4], y_t, atol=1e-5)
    True
    >>> mixer.attention_view(x).matrix.shape
    torch.Size([2, 16, 5, 5])
    """

    _shown: ClassVar[tuple[str, ...]] = ("d_state", "d_conv", "d_inner", "dt_rank")
    _why_not_causal: ClassVar[str] = "the second direction sees later tokens. Make it with bidirectional=False"

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        bias: bool = False,
        conv_bias: bool = True,
        norm_dt_bc: bool = False,
        bidirectional: bool = False,
        backend: str = "auto",
    ) -> None:
        check_counts(d_model=d_model, d_state=d_state, d_conv=d_conv, expand=expand)
        check_dt_range(dt_min, dt_max, dt_init_floor)
        rank = _resolve_rank(dt_rank, d_model)
        d_inner = expand * d_model
        super().__init__(d_model, n_maps=d_inner * (2 if bidirectional else 1), causal=not bidirectional)
        self.d_state = d_state
        self.d_conv = d_conv
        self.d_inner = d_inner
        self.dt_rank = rank
        self.backend = backend
        self.in_proj = Linear(d_model, 2 * d_inner, bias=bias)
        self.conv_weight, self.conv_bias = draw_conv(d_inner, d_conv, conv_bias)
        self.x_proj = Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_norm = make_norm("RMSNorm", rank, eps=1e-6) if norm_dt_bc else nn.Identity()
        self.B_norm = make_norm("RMSNorm", d_state, eps=1e-6) if norm_dt_bc else nn.Identity()
        self.C_norm = make_norm("RMSNorm", d_state, eps=1e-6) if norm_dt_bc else nn.Identity()
        self.dt_proj = Linear(rank, d_inner, bias=False)
        # Step sizes must differ between tokens by about their own size, whatever the rank.
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_bias = draw_dt_bias(d_inner, dt_min, dt_max, dt_init_floor)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=self.dt_bias.dtype).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = Linear(d_inner, d_model, bias=bias)
        settings: dict[str, Any] = {
            "d_state": d_state,
            "d_conv": d_conv,
            "expand": expand,
            "dt_rank": rank,
            "dt_min": dt_min,
            "dt_max": dt_max,
            "dt_init_floor": dt_init_floor,
            "bias": bias,
            "conv_bias": conv_bias,
            "norm_dt_bc": norm_dt_bc,
            "backend": backend,
        }
        self.flipped = Mamba(d_model, **settings) if bidirectional else None

    def _forward(self, x: Tensor) -> Tensor:
        u, z, dt, B, C = self._scan_inputs(x)
        y = selective_scan(
            u,
            dt,
            decay_rates(self.A_log),
            B,
            C,
            self.D,
            z=z,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            backend=self.backend,
        )
        y = self.out_proj(y)
        return y if self.flipped is None else (y + self.flipped(x.flip(1)).flip(1)) / 2

    def _view(self, x: Tensor) -> AttentionView:
        u, z, dt, B, C = self._scan_inputs(x)
        A = decay_rates(self.A_log)
        dt = step_size(dt.to(A.dtype), self.dt_bias, dt_softplus=True)
        spans = segment_sums(dt)
        # State by state, so that memory is d_inner matrices and not d_inner · d_state.
        matrix = torch.diag_embed(self.D[:, None].expand(-1, x.shape[1])).expand_as(spans)
        for n in range(self.d_state):
            written = (dt * B[..., n, None]).transpose(1, 2)
            matrix = (
                matrix + (C[:, None, :, n, None] * torch.exp(A[:, n, None, None] * spans) * written[:, :, None]).tril()
            )
        gate = F.silu(z)

        def output(mixed: Tensor) -> Tensor:
            return self.out_proj(mixed.squeeze(-1) * gate)

        view = AttentionView(matrix.to(u.dtype), u[..., None], output)
        return view if self.flipped is None else _mean_of(view, self.flipped.attention_view(x.flip(1)))

    def _flops(self, seq_len: int) -> int:
        maps = (self.in_proj, self.x_proj, self.dt_proj, self.out_proj)
        per_token = sum(2 * linear.weight.numel() for linear in maps) + 2 * self.conv_weight.numel()
        per_token += self.d_inner * (7 * self.d_state + 3)
        both = 1 if self.flipped is None else 2
        return seq_len * per_token * both

    def _scan_inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = causal_conv1d(u, self.conv_weight, self.conv_bias, activation="silu", backend=self.backend)
        return (u, z, *self._select(u))

    def _select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes (before bias and softplus), B and C of each token."""
        dt, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return self.dt_proj(self.dt_norm(dt)), self.B_norm(B), self.C_norm(C)

    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> MambaState:
        scan_dtype = torch.promote_types(dtype, torch.float32)
        return MambaState(
            torch.zeros(batch, self.d_conv - 1, self.d_inner, device=device, dtype=dtype),
            torch.zeros(batch, self.d_inner, self.d_state, device=device, dtype=scan_dtype),
        )

    def _step(self, x_t: Tensor, state: MambaState) -> tuple[Tensor, MambaState]:
        u, z = self.in_proj(x_t).chunk(2, dim=-1)
        u, conv = causal_conv1d_step(
            u, self.conv_weight, self.conv_bias, state=state.conv, activation="silu", backend=self.backend
        )
        dt, B, C = self._select(u)
        y, scan = selective_scan_step(
            u,
            dt,
            decay_rates(self.A_log),
            B,
            C,
            self.D,
            state=state.scan,
            z=z,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            backend=self.backend,
        )
        return self.out_proj(y), MambaState(conv, scan)


def _resolve_rank(dt_rank: int | str, d_model: int) -> int:
    if dt_rank == "auto":
        return math.ceil(d_model / 16)
    if not is_count(dt_rank):
        raise ConfigError(f"`dt_rank` must be 'auto' or an integer of at least 1, however dt_rank={dt_rank!r}.")
    return int(dt_rank)


def _mean_of(ahead: AttentionView, back: AttentionView) -> AttentionView:
    """Join a view with that of the reversed sequence, put back in order; the read-out is the mean of the two."""

    def output(mixed: Tensor) -> Tensor:
        first, second = mixed.chunk(2, dim=2)
        return (ahead.output(first) + back.output(second.flip(1)).flip(1)) / 2

    matrix = torch.cat([ahead.matrix, back.matrix.flip(2, 3)], dim=1)
    return AttentionView(matrix, torch.cat([ahead.values, back.values.flip(1)], dim=2), output)

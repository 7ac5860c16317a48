"""Mamba-2: a state space with a scalar decay a head, as a mixer."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn._checks import check_divides
from mambattn._errors import ConfigError
from mambattn.mixers._ssm import check_dt_range, decay_rates, draw_conv, draw_dt_bias, segment_sums
from mambattn.mixers.base import AttentionView, Mixer
from mambattn.nn import Linear, RMSNorm
from mambattn.nn._checks import check_counts
from mambattn.ops import causal_conv1d, causal_conv1d_step, ssd, ssd_step
from mambattn.ops.scan.reference import step_size

__all__ = ["Mamba2", "Mamba2State"]

_EPS = 1e-5


class Mamba2State(NamedTuple):
    """What a `Mamba2` remembers.

    Parameters
    ----------
    conv : Tensor of shape (batch, d_conv − 1, d_inner + 2 · n_groups · d_state)
        The last inputs of the convolution.
    scan : Tensor of shape (batch, n_heads, d_head, d_state)
        The state h, in float32 at least.
    """

    conv: Tensor
    scan: Tensor


class Mamba2(Mixer):
    """Mamba-2 (arXiv 2405.21060, section 7): the state-space duality layer, with its convolution, gate and norm.

    ::

        z, x, B, C, dt = split(W_in tokens);  x, B, C = silu(conv(x, B, C));  dt = softplus(dt + dt_bias)
        h_t = exp(dt_t A_h) h_{t-1} + dt_t x_t B_tᵀ,  A = −exp(A_log)
        y_t = h_t C_t + D_h x_t
        output = W_out RMSNorm(y ⊙ silu(z))

    The attention view (section 5.1 there) has one map a head, ``C_i·B_j exp(A_h Σ_{k=j+1..i} dt_k) dt_j`` for j ≤ i
    plus D_h on the diagonal, over the values x. The norm's scale is held at this input's.

    Parameters
    ----------
    d_model : int
        Width of a token.
    d_state : int, default 64
        States a channel.
    d_conv : int, default 4
        Taps of the short convolution.
    expand : int, default 2
        Inner width d_inner, in units of `d_model`.
    d_head : int or None, default None
        Width of a head, which divides d_inner; None is its largest divisor up to 64.
    n_groups : int, default 1
        Groups of heads that share B and C; they divide the heads.
    dt_min : float, default 1e-3
        Smallest initial step size.
    dt_max : float, default 0.1
        Largest initial step size; they are drawn log-uniform between the two.
    dt_init_floor : float, default 1e-4
        Initial step sizes below it are raised to it.
    A_init_range : tuple of float, default (1, 16)
        Range of the initial decay rates −A, drawn uniform.
    bias : bool, default False
        Whether the projections in and out have a bias.
    conv_bias : bool, default True
        Whether the convolution has a bias.
    chunk_size : int, default 64
        Tokens a chunk of the computation; it changes the speed only.
    backend : str, default "auto"
        Backend of the ops: `mambattn.ops.ssd`, `causal_conv1d` and their steps.

    Raises
    ------
    ConfigError
        If a setting is out of range, or `d_head` or `n_groups` do not divide.

    Examples
    --------
    >>> mixer = Mamba2(24, d_state=8)
    >>> mixer.d_head, mixer.n_heads
    (48, 1)
    >>> Mamba2(24, d_head=20)
    Traceback (most recent call last):
    ...
    mambattn._errors.ConfigError: `d_inner` must be divisible by `d_head`, however d_inner=48, d_head=20. \
Use d_head=12, 16 or 24.
    """

    _shown: ClassVar[tuple[str, ...]] = ("d_state", "d_conv", "d_inner", "d_head", "n_groups")

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        d_head: int | None = None,
        n_groups: int = 1,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        A_init_range: tuple[float, float] = (1.0, 16.0),
        bias: bool = False,
        conv_bias: bool = True,
        chunk_size: int = 64,
        backend: str = "auto",
    ) -> None:
        check_counts(
            d_model=d_model, d_state=d_state, d_conv=d_conv, expand=expand, n_groups=n_groups, chunk_size=chunk_size
        )
        check_dt_range(dt_min, dt_max, dt_init_floor)
        low, high = A_init_range
        if not 0 < low <= high:
            raise ConfigError(f"`A_init_range` must be (low, high) with 0 < low <= high, however it is {A_init_range}.")
        d_inner = expand * d_model
        if d_head is None:
            d_head = max(n for n in range(1, 65) if d_inner % n == 0)
        check_counts(d_head=d_head)
        check_divides("d_inner", d_inner, "d_head", d_head)
        n_heads = d_inner // d_head
        check_divides("n_heads", n_heads, "n_groups", n_groups)
        super().__init__(d_model, n_maps=n_heads, causal=True)
        self.d_state = d_state
        self.d_conv = d_conv
        self.d_inner = d_inner
        self.d_head = d_head
        self.n_heads = n_heads
        self.n_groups = n_groups
        self.chunk_size = chunk_size
        self.backend = backend
        d_mixed = d_inner + 2 * n_groups * d_state
        self.in_proj = Linear(d_model, d_inner + d_mixed + n_heads, bias=bias)
        self.conv_weight, self.conv_bias = draw_conv(d_mixed, d_conv, conv_bias)
        self.dt_bias = draw_dt_bias(n_heads, dt_min, dt_max, dt_init_floor)
        self.A_log = nn.Parameter(torch.empty(n_heads).uniform_(low, high).log())
        self.D = nn.Parameter(torch.ones(n_heads))
        self.norm = RMSNorm(d_inner, eps=_EPS)
        self.out_proj = Linear(d_inner, d_model, bias=bias)

    def _forward(self, x: Tensor) -> Tensor:
        z, values, B, C, dt = self._scan_inputs(x)
        y = ssd(
            values,
            dt,
            decay_rates(self.A_log),
            B,
            C,
            self.D,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            chunk_size=self.chunk_size,
            backend=self.backend,
        )
        return self._read_out(y, z)

    def _view(self, x: Tensor) -> AttentionView:
        z, values, B, C, dt = self._scan_inputs(x)
        A = decay_rates(self.A_log)
        dt = step_size(dt.to(A.dtype), self.dt_bias, dt_softplus=True)
        decay = torch.exp(A[:, None, None] * segment_sums(dt))
        alike = torch.einsum("bign,bjgn->bgij", C, B).repeat_interleave(self.n_heads // self.n_groups, dim=1)
        matrix = (alike * decay * dt.transpose(1, 2)[:, :, None]).tril()
        matrix = (matrix + torch.diag_embed(self.D[:, None].expand(-1, x.shape[1]))).to(values.dtype)
        gate = F.silu(z)
        gated = torch.einsum("bhij,bjhp->bihp", matrix, values).flatten(2) * gate
        # RMSNorm(y) is y · weight / rms(y); the root mean square is held at this input's, which leaves a linear map.
        mean_square = gated.to(A.dtype).square().mean(dim=-1, keepdim=True)
        scale = self.norm.weight * torch.rsqrt(mean_square + _EPS).to(gated.dtype)

        def output(mixed: Tensor) -> Tensor:
            return self.out_proj(mixed.flatten(2) * gate * scale)

        return AttentionView(matrix, values, output)

    def _flops(self, seq_len: int) -> int:
        per_token = 2 * (self.in_proj.weight.numel() + self.out_proj.weight.numel() + self.conv_weight.numel())
        return seq_len * (per_token + self.d_inner * (5 * self.d_state + 3))

    def _scan_inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        z, mixed, dt = self._split_in(x)
        mixed = causal_conv1d(mixed, self.conv_weight, self.conv_bias, activation="silu", backend=self.backend)
        return (z, *self._split_mixed(mixed), dt)

    def _split_in(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gate, what goes through the convolution, and step sizes before bias and softplus."""
        z, mixed, dt = self.in_proj(x).split([self.d_inner, len(self.conv_weight), self.n_heads], dim=-1)
        return z, mixed, dt

    def _split_mixed(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values by head, B and C by group."""
        width = self.n_groups * self.d_state
        values, B, C = mixed.split([self.d_inner, width, width], dim=-1)
        by_group = (self.n_groups, self.d_state)
        return values.unflatten(-1, (self.n_heads, self.d_head)), B.unflatten(-1, by_group), C.unflatten(-1, by_group)

    def _read_out(self, y: Tensor, z: Tensor) -> Tensor:
        return self.out_proj(self.norm(y.flatten(-2) * F.silu(z)))

    def _init_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> Mamba2State:
        scan_dtype = torch.promote_types(dtype, torch.float32)
        return Mamba2State(
            torch.zeros(batch, self.d_conv - 1, len(self.conv_weight), device=device, dtype=dtype),
            torch.zeros(batch, self.n_heads, self.d_head, self.d_state, device=device, dtype=scan_dtype),
        )

    def _step(self, x_t: Tensor, state: Mamba2State) -> tuple[Tensor, Mamba2State]:
        z, mixed, dt = self._split_in(x_t)
        mixed, conv = causal_conv1d_step(
            mixed, self.conv_weight, self.conv_bias, state=state.conv, activation="silu", backend=self.backend
        )
        values, B, C = self._split_mixed(mixed)
        y, scan = ssd_step(
            values,
            dt,
            decay_rates(self.A_log),
            B,
            C,
            self.D,
            state=state.scan,
            dt_bias=self.dt_bias,
            dt_softplus=True,
            backend=self.backend,
        )
        return self._read_out(y, z), Mamba2State(conv, scan)

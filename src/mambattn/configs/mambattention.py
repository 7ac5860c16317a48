"""Settings of the tabular MambAttention."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from mambattn._errors import ConfigError
from mambattn.configs._base import check_choice, check_number
from mambattn.configs._tabular import AttentionFields, MambaFields, TokenModelConfig
from mambattn.schedule import parse_schedule, tabular_schedule

__all__ = ["MambAttentionConfig"]

_COUNTS = ("n_layers", "n_attention_layers", "n_mamba_per_attention", "last_layer")
_MAMBA_1 = ("dt_rank", "bidirectional")
_MAMBA_ANY = ("d_state", "expand_factor", "d_conv", "conv_bias", "bias", "dt_min", "dt_max")
_ATTENTION = ("n_heads", "attn_dropout")
_LETTERS_OF = (
    dict.fromkeys(_MAMBA_1, "M")
    | dict.fromkeys(_MAMBA_ANY, "MS")
    | dict.fromkeys(_ATTENTION, "ALG")
    | {"window": "LG", "expand_factor": "MS-"}
)


@dataclass(frozen=True, kw_only=True, repr=False)
class MambAttentionConfig(AttentionFields, MambaFields, TokenModelConfig):
    """Settings of the tabular MambAttention: Mamba and attention layers over one token a column.

    Parameters
    ----------
    d_model : int, default 64
        Width of a token.
    n_layers, n_attention_layers : int, default 4 and 1
        Their sum is the number of blocks before `last_layer` is looked at: see `layer_schedule`, which tells what is
        built; the number of attention layers is seldom `n_attention_layers`.
    n_mamba_per_attention : int, default 1
        Mamba blocks before each attention block.
    last_layer : {"attn", "mamba"}, default "attn"
        What the stack must end with; a block is appended where it does not.
    schedule : str or None, default None
        The layers themselves, one letter each (see `mambattn.schedule`). Overrides the four counts, which must then
        stand at their defaults.
    n_heads : int, default 8
        Heads of an attention layer.
    attn_dropout : float, default 0.2
        Dropout on the attention weights.
    window : int or None, default None
        Tokens that an ``L`` or ``G`` layer of `schedule` sees to each side, the current one included; None is 8.
    expand_factor : int, default 2
        Inner width of a Mamba or MLP layer, in units of `d_model`.
    d_conv : int, default 4
        Taps of the short convolution.
    conv_bias, bias : bool, default True and False
        Whether the convolution, and the projections, have a bias.
    d_state : int, default 128
        States a channel.
    dt_rank : int or "auto", default "auto"
        Rank of the projection to the step size dt; "auto" is d_model / 16, rounded up.
    dt_min, dt_max : float, default 1e-4 and 0.1
        Range of the initial step sizes.
    bidirectional : bool, default False
        Whether a Mamba layer also scans from the last column to the first.
    dropout : float, default 0.0
        Dropout on the output of every layer.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        Norm of the layers.
    norm_position : {"pre", "post"}, default "pre"
        Whether the norm stands before the mixer or after the residual sum.
    shuffle_embeddings : bool, default False
        Permute the tokens by a permutation drawn once from `random_state` and saved with the model.
    use_cls : bool, default False
        Append a learned token from which the head reads; goes with pooling_method "cls".
    pooling_method : {"avg", "max", "sum", "last", "cls", "attention"}, default "avg"
        How the tokens become one vector.
    head_layer_sizes : tuple of int, default ()
        Hidden widths of the MLP head.
    head_dropout : float, default 0.5
        Dropout on the input of every head layer, the last included.
    embedding_type : {"linear", "plr", "ple"}, default "linear"
        How a number becomes a token: linear, periodic, or piecewise-linear (arXiv 2203.05556, section 3).
    n_bins : int, default 32
        Bins a column, for embedding_type "ple".
    n_frequencies : int, default 24
        Frequencies a column, for embedding_type "plr".
    frequency_scale : float, default 0.1
        Standard deviation of the initial frequencies, for embedding_type "plr".

    Examples
    --------
    >>> MambAttentionConfig().layer_schedule
    'MAMAMA'
    >>> MambAttentionConfig(schedule="MMA" * 2).layer_schedule
    'MMAMMA'
    """

    n_layers: int = 4
    n_attention_layers: int = 1
    n_mamba_per_attention: int = 1
    last_layer: str = "attn"
    schedule: str | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        """Check every field, and refuse one that the schedule would ignore."""
        super().__post_init__()
        check_number(self, "n_layers", low=1, integer=True)
        check_number(self, "n_attention_layers", low=0, integer=True)
        check_number(self, "n_mamba_per_attention", low=1, integer=True)
        check_choice(self, "last_layer", ("attn", "mamba"))
        if self.schedule is not None:
            parse_schedule(self.schedule)
            changed = [name for name in _COUNTS if not self.is_default(name)]
            if changed:
                raise ConfigError(
                    f"`schedule` says every layer, so {', '.join(f'`{name}`' for name in changed)} would be ignored, "
                    f"however schedule={self.schedule!r}, {changed[0]}={getattr(self, changed[0])!r}. Give one of them."
                )
        if self.window is not None:
            check_number(self, "window", low=1, integer=True)
        self.check_mamba()
        if set(self.layer_schedule) & set("ALG"):
            self.check_attention(self.d_model)
        for name, letters in _LETTERS_OF.items():
            if not self.is_default(name) and not set(self.layer_schedule) & set(letters):
                raise ConfigError(
                    f"`{name}` acts only on layers {' or '.join(letters)}, however {name}={getattr(self, name)!r} and "
                    f"the schedule is {self.layer_schedule!r}. Leave it out, or change the schedule."
                )
        if self.schedule is None and self.n_attention_layers and "A" not in self.layer_schedule:
            warnings.warn(
                f"n_attention_layers={self.n_attention_layers}, but the schedule that the counts give, "
                f"{self.layer_schedule!r}, has no attention layer. Lower n_mamba_per_attention or give `schedule`.",
                UserWarning,
                stacklevel=3,
            )

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        if self.schedule is not None:
            return self.schedule
        return tabular_schedule(self.n_layers, self.n_attention_layers, self.n_mamba_per_attention, self.last_layer)

    def _settings_of(self, letter: str) -> dict[str, Any]:
        window = 8 if self.window is None else self.window
        if letter == "M":
            return self.mamba_1_settings()
        if letter == "S":
            return self.mamba_settings()
        if letter == "-":
            return {"expand": self.expand_factor}
        return self.attention_settings() | ({} if letter == "A" else {"window": window})

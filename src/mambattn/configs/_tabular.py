"""Fields that several of the tabular models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mambattn._checks import check_divides
from mambattn._errors import ConfigError
from mambattn.configs._base import Config, check_choice, check_number

__all__ = ["AttentionFields", "MambaFields", "TabularModelConfig", "TokenModelConfig"]


@dataclass(frozen=True, kw_only=True, repr=False)
class TabularModelConfig(Config):
    """What all five models share: the tokens and the head.

    Parameters
    ----------
    d_model : int, default 64
        Width of a token.
    dropout : float, default 0.0
        Dropout on the output of every layer.
    norm : {"LayerNorm", "RMSNorm"}, default "LayerNorm"
        Norm of the layers.
    embedding_type : {"linear", "plr", "ple"}, default "linear"
        How a number becomes a token: a linear map; periodic features, a linear map and a ReLU (arXiv 2203.05556,
        section 3.3); or a linear map of its piecewise-linear encoding (section 3.2), whose bins are computed inside.
    n_bins : int, default 32
        Bins a column, for embedding_type "ple".
    n_frequencies : int, default 24
        Frequencies a column, for embedding_type "plr".
    frequency_scale : float, default 0.1
        Standard deviation of the initial frequencies, for embedding_type "plr".
    head_layer_sizes : tuple of int, default ()
        Hidden widths of the MLP head.
    head_dropout : float, default 0.5
        Dropout on the input of every head layer, the last included.
    """

    d_model: int = 64
    dropout: float = 0.0
    norm: str = "LayerNorm"
    embedding_type: str = "linear"
    n_bins: int = 32
    n_frequencies: int = 24
    frequency_scale: float = 0.1
    head_layer_sizes: tuple[int, ...] = ()
    head_dropout: float = 0.5

    def __post_init__(self) -> None:
        """Check the shared fields, and refuse one that would be ignored."""
        self._to_builtin()
        check_number(self, "d_model", low=1, integer=True)
        check_number(self, "dropout", low=0, high=1, open_high=True)
        check_choice(self, "norm", ("LayerNorm", "RMSNorm"))
        check_choice(self, "embedding_type", ("linear", "plr", "ple"))
        check_number(self, "n_bins", low=2, integer=True)
        check_number(self, "n_frequencies", low=1, integer=True)
        check_number(self, "frequency_scale", low=0, open_low=True)
        check_number(self, "head_dropout", low=0, high=1, open_high=True)
        if not isinstance(self.head_layer_sizes, tuple) or not all(
            isinstance(size, int) and size > 0 for size in self.head_layer_sizes
        ):
            raise ConfigError(
                "`head_layer_sizes` must be a tuple of positive integers, "
                f"however head_layer_sizes={self.head_layer_sizes!r}. Use (64,) or ()."
            )
        for name, needed in (("n_bins", "ple"), ("n_frequencies", "plr"), ("frequency_scale", "plr")):
            if not self.is_default(name) and self.embedding_type != needed:
                raise ConfigError(
                    f"`{name}` acts only with embedding_type={needed!r}, however "
                    f"embedding_type={self.embedding_type!r}. Change one of the two."
                )


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenModelConfig(TabularModelConfig):
    """What the models over tokens share: order, pooling and the position of the norm."""

    norm_position: str = "pre"
    shuffle_embeddings: bool = False
    use_cls: bool = False
    pooling_method: str = "avg"

    def __post_init__(self) -> None:
        """Check the shared fields."""
        super().__post_init__()
        check_choice(self, "norm_position", ("pre", "post"))
        check_choice(self, "shuffle_embeddings", (False, True))
        check_choice(self, "use_cls", (False, True))
        check_choice(self, "pooling_method", ("avg", "max", "sum", "last", "cls", "attention"))
        if self.use_cls != (self.pooling_method == "cls"):
            raise ConfigError(
                "`pooling_method` 'cls' and `use_cls` go together, however "
                f"pooling_method={self.pooling_method!r}, use_cls={self.use_cls}. "
                "Use pooling_method='cls' with use_cls=True, or neither."
            )

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        raise NotImplementedError

    def layer_settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each letter of the schedule, as `mambattn.stack.Stack` takes them."""
        return {letter: self._settings_of(letter) for letter in dict.fromkeys(self.layer_schedule)}

    def _settings_of(self, letter: str) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, repr=False)
class MambaFields(Config):
    """Settings of the Mamba layers."""

    expand_factor: int = 2
    d_conv: int = 4
    conv_bias: bool = True
    bias: bool = False
    d_state: int = 128
    dt_rank: str | int = "auto"
    dt_min: float = 1e-4
    dt_max: float = 0.1
    bidirectional: bool = False

    def check_mamba(self) -> None:
        """Check the fields of this class."""
        check_number(self, "expand_factor", low=1, integer=True)
        check_number(self, "d_conv", low=1, integer=True)
        check_choice(self, "conv_bias", (False, True))
        check_choice(self, "bias", (False, True))
        check_number(self, "d_state", low=1, integer=True)
        if self.dt_rank != "auto":
            check_number(self, "dt_rank", low=1, integer=True)
        check_number(self, "dt_min", low=0, open_low=True)
        check_number(self, "dt_max", low=0, open_low=True)
        if self.dt_min > self.dt_max:
            raise ConfigError(
                f"`dt_min` must not exceed `dt_max`, however dt_min={self.dt_min}, dt_max={self.dt_max}. Swap them."
            )
        check_choice(self, "bidirectional", (False, True))

    def mamba_settings(self) -> dict[str, Any]:
        """Return what `mambattn.mixers.Mamba` and `Mamba2` both take."""
        return {
            "d_state": self.d_state,
            "d_conv": self.d_conv,
            "expand": self.expand_factor,
            "dt_min": self.dt_min,
            "dt_max": self.dt_max,
            "bias": self.bias,
            "conv_bias": self.conv_bias,
        }

    def mamba_1_settings(self) -> dict[str, Any]:
        """Return what `mambattn.mixers.Mamba` takes."""
        return self.mamba_settings() | {"dt_rank": self.dt_rank, "bidirectional": self.bidirectional}


@dataclass(frozen=True, kw_only=True, repr=False)
class AttentionFields(Config):
    """Settings of the attention layers."""

    n_heads: int = 8
    attn_dropout: float = 0.2

    def check_attention(self, d_model: int) -> None:
        """Check the fields of this class against the width of a token."""
        check_number(self, "n_heads", low=1, integer=True)
        check_number(self, "attn_dropout", low=0, high=1, open_high=True)
        check_divides("d_model", d_model, "n_heads", self.n_heads)

    def attention_settings(self) -> dict[str, Any]:
        """Return what `mambattn.mixers.Attention` takes in a table: not causal, no positions."""
        return {"n_heads": self.n_heads, "dropout": self.attn_dropout, "causal": False}

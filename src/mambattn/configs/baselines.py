"""Settings of the models that MambAttention is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mambattn._errors import ConfigError
from mambattn.configs._base import check_number
from mambattn.configs._tabular import AttentionFields, MambaFields, TabularModelConfig, TokenModelConfig

__all__ = ["FTTransformerConfig", "MLPConfig", "MambularConfig", "ResNetConfig"]


@dataclass(frozen=True, kw_only=True, repr=False)
class MambularConfig(MambaFields, TokenModelConfig):
    """Settings of Mambular (arXiv 2408.06291): a stack of Mamba layers alone, over one token a column.

    Parameters
    ----------
    n_layers : int, default 4
        Mamba layers.
    d_model, dropout, norm, norm_position, shuffle_embeddings, use_cls, pooling_method, embedding_type, n_bins, \
n_frequencies, frequency_scale, head_layer_sizes, head_dropout, expand_factor, d_conv, conv_bias, bias, d_state, \
dt_rank, dt_min, dt_max, bidirectional : optional
        As in `MambAttentionConfig`.

    Examples
    --------
    >>> MambularConfig().layer_schedule
    'MMMM'
    """

    n_layers: int = 4

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        check_number(self, "n_layers", low=1, integer=True)
        self.check_mamba()

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        return "M" * self.n_layers

    def _settings_of(self, letter: str) -> dict[str, Any]:
        return self.mamba_1_settings()


@dataclass(frozen=True, kw_only=True, repr=False)
class FTTransformerConfig(AttentionFields, TokenModelConfig):
    """Settings of the FT-Transformer (arXiv 2106.11959, section 3.3): attention and MLP layers over one token a column.

    Parameters
    ----------
    n_layers : int, default 4
        Pairs of an attention and an MLP layer.
    mlp_expand : int, default 2
        Hidden width of the MLP layers, in units of `d_model`.
    d_model, dropout, norm, norm_position, shuffle_embeddings, use_cls, pooling_method, embedding_type, n_bins, \
n_frequencies, frequency_scale, head_layer_sizes, head_dropout, n_heads, attn_dropout : optional
        As in `MambAttentionConfig`; here the default is to read from a class token, as published.

    Examples
    --------
    >>> FTTransformerConfig(n_layers=2).layer_schedule
    'A-A-'
    """

    n_layers: int = 4
    mlp_expand: int = 2
    use_cls: bool = True
    pooling_method: str = "cls"

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        check_number(self, "n_layers", low=1, integer=True)
        check_number(self, "mlp_expand", low=1, integer=True)
        self.check_attention(self.d_model)

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        return "A-" * self.n_layers

    def _settings_of(self, letter: str) -> dict[str, Any]:
        return self.attention_settings() if letter == "A" else {"expand": self.mlp_expand}


@dataclass(frozen=True, kw_only=True, repr=False)
class ResNetConfig(TabularModelConfig):
    """Settings of the tabular ResNet (arXiv 2106.11959, section 3.2), on the tokens laid side by side.

    Parameters
    ----------
    n_layers : int, default 4
        Residual blocks.
    d_hidden : int, default 256
        Width of the residual stream.
    d_model, dropout, norm, embedding_type, n_bins, n_frequencies, frequency_scale, head_layer_sizes, \
head_dropout : optional
        As in `MambAttentionConfig`; `d_model` is the width of a token.

    Examples
    --------
    >>> ResNetConfig().d_hidden
    256
    """

    n_layers: int = 4
    d_hidden: int = 256
    dropout: float = 0.1
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        check_number(self, "n_layers", low=1, integer=True)
        check_number(self, "d_hidden", low=1, integer=True)


@dataclass(frozen=True, kw_only=True, repr=False)
class MLPConfig(TabularModelConfig):
    """Settings of the MLP on the tokens laid side by side.

    Parameters
    ----------
    layer_sizes : tuple of int, default (256, 128)
        Hidden widths.
    d_model, dropout, norm, embedding_type, n_bins, n_frequencies, frequency_scale, head_layer_sizes, \
head_dropout : optional
        As in `MambAttentionConfig`; `d_model` is the width of a token.

    Examples
    --------
    >>> MLPConfig(layer_sizes=(64,)).layer_sizes
    (64,)
    """

    layer_sizes: tuple[int, ...] = (256, 128)
    dropout: float = 0.1
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        if not self.layer_sizes or not all(isinstance(size, int) and size > 0 for size in self.layer_sizes):
            raise ConfigError(
                "`layer_sizes` must be a tuple of at least one positive integer, "
                f"however layer_sizes={self.layer_sizes!r}. Use (256, 128)."
            )

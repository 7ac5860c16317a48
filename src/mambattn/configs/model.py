"""Settings of the five tabular models."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from mambattn._errors import ConfigError
from mambattn.configs._base import Config, check_choice, check_number
from mambattn.schedule import parse_schedule, tabular_schedule

__all__ = [
    "FTTransformerConfig",
    "MLPConfig",
    "MambAttentionConfig",
    "MambularConfig",
    "ResNetConfig",
    "TabularModelConfig",
]

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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class _TokenModelConfig(TabularModelConfig):
    """What the models over tokens share: order, pooling and the position of the norm."""

    norm_position: str = "pre"
    shuffle_embeddings: bool = False
    use_cls: bool = False
    pooling_method: str = "avg"

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, kw_only=True)
class _MambaFields(Config):
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

    def _check_mamba(self) -> None:
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

    def _mamba_settings(self) -> dict[str, Any]:
        return {
            "d_state": self.d_state,
            "d_conv": self.d_conv,
            "expand": self.expand_factor,
            "dt_min": self.dt_min,
            "dt_max": self.dt_max,
            "bias": self.bias,
            "conv_bias": self.conv_bias,
        }

    def _mamba_1_settings(self) -> dict[str, Any]:
        return self._mamba_settings() | {"dt_rank": self.dt_rank, "bidirectional": self.bidirectional}


@dataclass(frozen=True, kw_only=True)
class _AttentionFields(Config):
    """Settings of the attention layers."""

    n_heads: int = 8
    attn_dropout: float = 0.2

    def _check_attention(self, d_model: int) -> None:
        check_number(self, "n_heads", low=1, integer=True)
        check_number(self, "attn_dropout", low=0, high=1, open_high=True)
        if d_model % self.n_heads:
            divisors = [n for n in range(1, min(d_model, 2 * self.n_heads) + 1) if d_model % n == 0]
            nearest = sorted(sorted(divisors, key=lambda n: abs(n - self.n_heads))[:3])
            raise ConfigError(
                f"`d_model` must be divisible by `n_heads`, however d_model={d_model}, n_heads={self.n_heads}. "
                f"Use n_heads={', '.join(map(str, nearest[:-1]))} or {nearest[-1]}."
                if len(nearest) > 1
                else f"`d_model` must be divisible by `n_heads`, however d_model={d_model}, n_heads={self.n_heads}. "
                f"Use n_heads={nearest[0]}."
            )

    def _attention_settings(self) -> dict[str, Any]:
        return {"n_heads": self.n_heads, "dropout": self.attn_dropout, "causal": False}


@dataclass(frozen=True, kw_only=True)
class MambAttentionConfig(_AttentionFields, _MambaFields, _TokenModelConfig):
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
        self._check_mamba()
        if set(self.layer_schedule) & set("ALG"):
            self._check_attention(self.d_model)
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
            return self._mamba_1_settings()
        if letter == "S":
            return self._mamba_settings()
        if letter == "-":
            return {"expand": self.expand_factor}
        return self._attention_settings() | ({} if letter == "A" else {"window": window})


@dataclass(frozen=True, kw_only=True)
class MambularConfig(_MambaFields, _TokenModelConfig):
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
        self._check_mamba()

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        return "M" * self.n_layers

    def _settings_of(self, letter: str) -> dict[str, Any]:
        return self._mamba_1_settings()


@dataclass(frozen=True, kw_only=True)
class FTTransformerConfig(_AttentionFields, _TokenModelConfig):
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
        self._check_attention(self.d_model)

    @property
    def layer_schedule(self) -> str:
        """The schedule of the stack, one letter a layer."""
        return "A-" * self.n_layers

    def _settings_of(self, letter: str) -> dict[str, Any]:
        return self._attention_settings() if letter == "A" else {"expand": self.mlp_expand}


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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

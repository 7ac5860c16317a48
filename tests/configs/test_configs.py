import json

import numpy as np
import pytest

from mambattn._errors import ConfigError, MambAttnError
from mambattn.configs import (
    FTTransformerConfig,
    MambAttentionConfig,
    MambularConfig,
    MLPConfig,
    PreprocessingConfig,
    ResNetConfig,
    TrainerConfig,
)
from mambattn.schedule import layer_kinds, parse_schedule, tabular_schedule

ALL = (
    FTTransformerConfig,
    MLPConfig,
    MambAttentionConfig,
    MambularConfig,
    PreprocessingConfig,
    ResNetConfig,
    TrainerConfig,
)


@pytest.mark.parametrize("config", ALL)
def test_a_config_survives_its_own_dict(config):
    made = config()
    assert config.from_dict(made.to_dict()) == made
    assert hash(made) == hash(config())


def test_documented_defaults_of_mambattention():
    assert MambAttentionConfig().to_dict() == {
        "d_model": 64,
        "n_layers": 4,
        "n_attention_layers": 1,
        "n_mamba_per_attention": 1,
        "last_layer": "attn",
        "n_heads": 8,
        "attn_dropout": 0.2,
        "dropout": 0.0,
        "expand_factor": 2,
        "d_conv": 4,
        "conv_bias": True,
        "bias": False,
        "d_state": 128,
        "dt_rank": "auto",
        "dt_min": 1e-4,
        "dt_max": 0.1,
        "norm": "LayerNorm",
        "norm_position": "pre",
        "bidirectional": False,
        "shuffle_embeddings": False,
        "use_cls": False,
        "pooling_method": "avg",
        "head_layer_sizes": [],
        "head_dropout": 0.5,
        "embedding_type": "linear",
        "n_bins": 32,
        "n_frequencies": 24,
        "frequency_scale": 0.1,
        "schedule": None,
        "window": None,
    }


def test_numpy_scalars_and_lists_become_plain_values():
    made = MambAttentionConfig(d_model=np.int64(32), use_cls=np.bool_(False), dt_max=np.float64(0.2))
    assert type(made.d_model) is int
    assert made.use_cls is False
    assert type(made.dt_max) is float
    assert MLPConfig(layer_sizes=[8, 4]).layer_sizes == (8, 4)
    assert [type(size) for size in MLPConfig(layer_sizes=tuple(np.array([8, 4]))).layer_sizes] == [int, int]
    assert json.dumps(PreprocessingConfig(categorical_columns=list(np.arange(2))).to_dict()["categorical_columns"])


def test_verbose_may_be_a_boolean():
    assert TrainerConfig(verbose=False) == TrainerConfig(verbose=0)


def test_repr_shows_what_was_changed():
    assert repr(MambAttentionConfig()) == "MambAttentionConfig()"
    assert repr(MLPConfig(layer_sizes=(8,), dropout=0.2)) == "MLPConfig(dropout=0.2, layer_sizes=(8,))"
    assert eval(repr(TrainerConfig(lr=1e-3))) == TrainerConfig(lr=1e-3)


def test_configs_are_frozen():
    with pytest.raises(AttributeError):
        MambAttentionConfig().d_model = 3  # type: ignore[misc]


def test_schedule_rule():
    assert tabular_schedule(4, 1, 1, "attn") == "MAMAMA"
    assert MambAttentionConfig(schedule="MMA" * 2).layer_schedule == "MMAMMA"
    assert layer_kinds("S-") == ("Mamba-2", "MLP")
    assert parse_schedule("MSALG-") == "MSALG-"
    with pytest.warns(UserWarning, match="'MMM', has no attention layer"):
        MambAttentionConfig(n_layers=2, n_attention_layers=1, n_mamba_per_attention=3, last_layer="mamba")


def test_layer_settings_hold_the_letters_of_the_schedule():
    settings = MambAttentionConfig(schedule="MSLG-A", window=3, expand_factor=3).layer_settings()
    assert list(settings) == list("MSLG-A")
    assert settings["L"]["window"] == settings["G"]["window"] == 3
    assert settings["-"] == {"expand": 3}
    assert settings["M"]["expand"] == 3
    assert settings["A"] == {"n_heads": 8, "dropout": 0.2, "causal": False}


BAD = [
    (lambda: MambAttentionConfig.from_dict({"d_modle": 3}), "has no setting 'd_modle'. Did you mean 'd_model'?"),
    (lambda: TrainerConfig().replace(epochs=3), "has no setting 'epochs'"),
    (lambda: MambAttentionConfig(d_model=100), "d_model=100, n_heads=8. Use n_heads=4, 5 or 10."),
    (lambda: MambAttentionConfig(d_model=0), "`d_model` must be an integer in [1, inf), however d_model=0."),
    (lambda: MambAttentionConfig(d_model=64.0), "however d_model=64.0"),
    (lambda: MambAttentionConfig(schedule="MXA"), "'X' at position 2"),
    (lambda: MambAttentionConfig(schedule=""), "at least one letter"),
    (lambda: MambAttentionConfig(schedule="MA", n_layers=2), "`n_layers` would be ignored"),
    (lambda: MambAttentionConfig(schedule="AA", d_state=8), "`d_state` acts only on layers M or S"),
    (lambda: MambAttentionConfig(window=4), "`window` acts only on layers L or G"),
    (lambda: MambAttentionConfig(schedule="M", n_heads=4), "`n_heads` acts only on layers A or L or G"),
    (lambda: MambAttentionConfig(last_layer="attention"), "Did you mean 'attn'?"),
    (lambda: MambAttentionConfig(pooling_method="cls"), "Use pooling_method='cls' with use_cls=True, or neither."),
    (lambda: MambAttentionConfig(use_cls=True), "pooling_method='avg', use_cls=True"),
    (lambda: MambAttentionConfig(dt_min=0.2), "`dt_min` must not exceed `dt_max`"),
    (lambda: MambAttentionConfig(head_layer_sizes=64), "Use (64,) or ()."),
    (lambda: MambAttentionConfig(embedding_type="piecewise"), "must be one of 'linear', 'plr', 'ple'"),
    (lambda: MambAttentionConfig(n_bins=8), "`n_bins` acts only with embedding_type='ple'"),
    (lambda: MambAttentionConfig(norm="BatchNorm"), "must be one of 'LayerNorm', 'RMSNorm'"),
    (lambda: MambAttentionConfig(bidirectional=1), "`bidirectional` must be one of False, True"),
    (lambda: MambularConfig(dt_rank="big"), "`dt_rank` must be an integer"),
    (lambda: MLPConfig(layer_sizes=()), "at least one positive integer"),
    (lambda: PreprocessingConfig(numerical_preprocessing="quantiles"), "Did you mean 'quantile'?"),
    (lambda: PreprocessingConfig(n_bins=8), "`n_bins` acts only with numerical_preprocessing='ple'"),
    (lambda: PreprocessingConfig(categorical_columns="sex"), "Use ('sex',)."),
    (lambda: PreprocessingConfig(categorical_columns={"sex"}), "Use tuple(categorical_columns)."),
    (lambda: TrainerConfig(lr=0), "`lr` must be a number in (0, inf), however lr=0."),
    (lambda: TrainerConfig(lr=float("nan")), "however lr=nan"),
    (lambda: TrainerConfig(val_size=1.0), "in (0, 1), however val_size=1.0"),
    (lambda: TrainerConfig(batch_size=True), "however batch_size=True"),
    (lambda: TrainerConfig(lr_schedule="cosin"), "Did you mean 'cosine'?"),
    (lambda: TrainerConfig(max_seconds=-1), "however max_seconds=-1"),
    (lambda: TrainerConfig(precision="float16"), "must be one of 'auto', 'float32', 'bfloat16'"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_settings_are_refused_with_a_mend(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)
    assert isinstance(caught.value, MambAttnError)
    assert isinstance(caught.value, ValueError)

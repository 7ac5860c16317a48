"""The settings of models, preprocessing and training: frozen dataclasses that refuse unknown keys."""

from mambattn.configs._base import Config
from mambattn.configs._tabular import TabularModelConfig
from mambattn.configs.baselines import FTTransformerConfig, MambularConfig, MLPConfig, ResNetConfig
from mambattn.configs.mambattention import MambAttentionConfig
from mambattn.configs.preprocessing import PreprocessingConfig
from mambattn.configs.trainer import TrainerConfig

__all__ = [
    "Config",
    "FTTransformerConfig",
    "MLPConfig",
    "MambAttentionConfig",
    "MambularConfig",
    "PreprocessingConfig",
    "ResNetConfig",
    "TabularModelConfig",
    "TrainerConfig",
]

"""Token mixers, each usable in three ways that agree: in parallel, token by token, and as attention matrices."""

from mambattn.mixers.attention import Attention
from mambattn.mixers.base import AttentionView, Mixer, state_tensors
from mambattn.mixers.global_local import GlobalLocalAttention, local_global_masks
from mambattn.mixers.mamba import Mamba, MambaState
from mambattn.mixers.mamba2 import Mamba2, Mamba2State
from mambattn.mixers.mlp import MLP, MLPState

__all__ = [
    "MLP",
    "Attention",
    "AttentionView",
    "GlobalLocalAttention",
    "MLPState",
    "Mamba",
    "Mamba2",
    "Mamba2State",
    "MambaState",
    "Mixer",
    "local_global_masks",
    "state_tensors",
]

"""Small layers without a token mixer in them: norms, the gated MLP, rotary positions and pooling."""

from mambattn.nn.mlp import GatedMLP
from mambattn.nn.norms import NORMS, RMSNorm, make_norm
from mambattn.nn.pooling import POOLING_METHODS, AttentionPooling, make_pooling
from mambattn.nn.rotary import rotate

__all__ = [
    "NORMS",
    "POOLING_METHODS",
    "AttentionPooling",
    "GatedMLP",
    "RMSNorm",
    "make_norm",
    "make_pooling",
    "rotate",
]

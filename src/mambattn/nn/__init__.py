"""Small layers without a token mixer in them: linear maps, norms, the gated MLP, rotary positions and pooling."""

from mambattn.nn.maps import Linear, linear
from mambattn.nn.mlp import GatedMLP
from mambattn.nn.norms import NORMS, RMSNorm, make_norm
from mambattn.nn.pooling import POOLING_METHODS, AttentionPooling, make_pooling
from mambattn.nn.rotary import rotate

__all__ = [
    "NORMS",
    "POOLING_METHODS",
    "AttentionPooling",
    "GatedMLP",
    "Linear",
    "RMSNorm",
    "linear",
    "make_norm",
    "make_pooling",
    "rotate",
]

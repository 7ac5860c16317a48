"""Tables as tokens: schema, preprocessing, tokenizer, backbones and heads."""

from mambattn.tabular.backbones import MLPBackbone, ResNetBackbone, TokenBackbone
from mambattn.tabular.batch import TableBatch
from mambattn.tabular.frame import as_frame
from mambattn.tabular.heads import Head
from mambattn.tabular.network import TabularNetwork, build_network, make_preprocessor
from mambattn.tabular.piecewise import bin_edges, piecewise_linear
from mambattn.tabular.preprocessing import TablePreprocessor
from mambattn.tabular.schema import MISSING, UNSEEN, Column, TableSchema
from mambattn.tabular.tokenizer import TableTokenizer

__all__ = [
    "MISSING",
    "UNSEEN",
    "Column",
    "Head",
    "MLPBackbone",
    "ResNetBackbone",
    "TableBatch",
    "TablePreprocessor",
    "TableSchema",
    "TableTokenizer",
    "TabularNetwork",
    "TokenBackbone",
    "as_frame",
    "bin_edges",
    "build_network",
    "make_preprocessor",
    "piecewise_linear",
]

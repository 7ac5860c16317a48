"""The estimators: five models, each a scikit-learn classifier and regressor."""

from mambattn.models.ft_transformer import FTTransformerClassifier, FTTransformerRegressor
from mambattn.models.loading import load
from mambattn.models.mambattention import MambAttentionClassifier, MambAttentionRegressor
from mambattn.models.mambular import MambularClassifier, MambularRegressor
from mambattn.models.mlp import MLPClassifier, MLPRegressor
from mambattn.models.resnet import ResNetClassifier, ResNetRegressor

__all__ = [
    "FTTransformerClassifier",
    "FTTransformerRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "MambAttentionClassifier",
    "MambAttentionRegressor",
    "MambularClassifier",
    "MambularRegressor",
    "ResNetClassifier",
    "ResNetRegressor",
    "load",
]

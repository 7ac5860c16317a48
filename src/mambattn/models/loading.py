"""Reading a model file without knowing its class."""

from __future__ import annotations

import os

from mambattn._errors import DataError
from mambattn.models._base import TabularEstimator
from mambattn.models.ft_transformer import FTTransformerClassifier, FTTransformerRegressor
from mambattn.models.mambattention import MambAttentionClassifier, MambAttentionRegressor
from mambattn.models.mambular import MambularClassifier, MambularRegressor
from mambattn.models.mlp import MLPClassifier, MLPRegressor
from mambattn.models.resnet import ResNetClassifier, ResNetRegressor
from mambattn.training import ModelFile

__all__ = ["load"]

_CLASSES: dict[str, type[TabularEstimator]] = {
    cls.__name__: cls
    for cls in (
        FTTransformerClassifier,
        FTTransformerRegressor,
        MLPClassifier,
        MLPRegressor,
        MambAttentionClassifier,
        MambAttentionRegressor,
        MambularClassifier,
        MambularRegressor,
        ResNetClassifier,
        ResNetRegressor,
    )
}


def load(path: str | os.PathLike[str]) -> TabularEstimator:
    """Read a model that an estimator's `save` wrote; it predicts identically to the bit.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    estimator
        The fitted model, one of the ten classes of `mambattn.models`.

    Raises
    ------
    DataError
        If the file is missing, damaged, changed, of a newer format, or of another program.
    """
    content = ModelFile.read(path)
    if content.model not in _CLASSES:
        raise DataError(
            f"{os.fspath(path)!r} holds a {content.model!r}, which this mambattn does not know. "
            f"Known: {', '.join(sorted(_CLASSES))}."
        )
    return _CLASSES[content.model].rebuild(content, os.fspath(path))

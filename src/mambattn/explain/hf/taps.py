"""Where to step in while a model of transformers runs."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from mambattn.explain.hf.families import FAMILIES, Family
from mambattn.explain.hf.inputs import backbone_of, check_supported
from mambattn.explain.route import Route
from mambattn.explain.sites import Tap

__all__ = ["transformers_taps"]


def transformers_taps(model: Any) -> dict[int, tuple[Tap, ...]]:
    """Give the mixers of each decoder layer; see `mambattn.explain.sites.taps`.

    Parameters
    ----------
    model : PreTrainedModel
        The model.

    Returns
    -------
    dict of int to tuple of Tap
        By depth index.

    Raises
    ------
    ConfigError
        If the model is not supported.
    """
    check_supported(model)
    family = FAMILIES[model.config.model_type]
    found = {}
    for index, block in enumerate(backbone_of(model).layers):
        if not hasattr(block, "shared_transformer"):
            mixers = family.mixers_of(block).values()
            found[index] = tuple(Tap(mixer, partial(_read, family, mixer)) for mixer in mixers)
    return found


def _read(family: Family, mixer: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Tensor, tuple[Route, ...]]:
    x = args[0] if args else given["hidden_states"]
    return x, (family.read(mixer, x, given),)

"""Where to listen in, or step in, while a model of transformers runs."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from mambattn.explain.hf.families import FAMILIES, Family
from mambattn.explain.hf.inputs import backbone_of, check_supported
from mambattn.explain.route import Route
from mambattn.explain.sites import Site, Tap

__all__ = ["transformers_sites"]


def transformers_sites(model: Any) -> tuple[Site, ...]:
    """Give the decoder layers as modules; see `mambattn.explain.sites.sites`.

    Parameters
    ----------
    model : PreTrainedModel
        The model.

    Returns
    -------
    tuple of Site
        One a decoder layer.

    Raises
    ------
    ConfigError
        If the model is not supported.
    """
    check_supported(model)
    family = FAMILIES[model.config.model_type]
    return tuple(_site(family, block) for block in backbone_of(model).layers)


def _site(family: Family, block: Any) -> Site:
    if hasattr(block, "shared_transformer"):  # in Zamba2 such blocks share their weights; each is a module by itself
        return Site(block, _taps(family, block.mamba_decoder), _taps(family, block.shared_transformer))
    return Site(block, _taps(family, block))


def _taps(family: Family, layer: nn.Module) -> tuple[Tap, ...]:
    return tuple(Tap(mixer, partial(_read, family, mixer)) for mixer in family.mixers_of(layer).values())


def _read(family: Family, mixer: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Tensor, tuple[Route, ...]]:
    x = args[0] if args else given["hidden_states"]
    return x, (family.read(mixer, x, given),)

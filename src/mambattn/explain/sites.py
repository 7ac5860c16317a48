"""Where an explanation listens in, or steps in, while the model itself runs; nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, cast

from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.explain.own import routes_of
from mambattn.explain.route import Route
from mambattn.explain.trace import is_of_transformers
from mambattn.stack import Block, Stack
from mambattn.tabular.backbones import TokenBackbone
from mambattn.tabular.network import TabularNetwork

__all__ = ["Site", "Tap", "hooked", "sites"]


@dataclass(frozen=True)
class Tap:
    """A mixer that can be taken apart at each of its calls.

    Parameters
    ----------
    module : nn.Module
        The mixer.
    read : callable
        Maps the positional and the named arguments of a call to the mixer's input and its routes there.
    """

    module: nn.Module
    read: Callable[[tuple[Any, ...], dict[str, Any]], tuple[Tensor, tuple[Route, ...]]]


@dataclass(frozen=True)
class Site:
    """The modules of one layer.

    Parameters
    ----------
    layer : nn.Module
        Takes what enters the layer and gives what leaves it, the residual included.
    taps : tuple of Tap
        The mixers inside, side by side; none of a layer of transformers that mixes no tokens.
    beside : tuple of Tap, default ()
        Those of a block aside; see `mambattn.explain.layer.Aside`.
    """

    layer: nn.Module
    taps: tuple[Tap, ...]
    beside: tuple[Tap, ...] = ()


@singledispatch
def sites(model: nn.Module) -> tuple[Site, ...]:
    """Give the layers of a model as modules, in order of depth, as `trace` counts them.

    Parameters
    ----------
    model : nn.Module
        A `Stack`, the backbone or network of a tabular model that mixes tokens, or a supported model of transformers.

    Returns
    -------
    tuple of Site
        One a layer, an MLP of this library's counted.

    Raises
    ------
    ConfigError
        If the model is of another kind.

    Examples
    --------
    >>> [type(site.taps[0].module).__name__ for site in sites(Stack(8, "M-"))]
    ['Mamba', 'MLP']
    """
    if is_of_transformers(model):
        from mambattn.explain.hf.sites import transformers_sites  # an extra

        return transformers_sites(model)
    raise ConfigError(
        f"`model` must be a Stack, a tabular model that mixes tokens or a supported model of transformers, however it "
        f"is a {type(model).__name__}, whose layers cannot be watched while it runs."
    )


@sites.register
def _(model: Stack) -> tuple[Site, ...]:
    return tuple(_site(cast("Block", block)) for block in model.layers)


@sites.register
def _(model: TokenBackbone) -> tuple[Site, ...]:
    return sites(model.stack)


@sites.register
def _(model: TabularNetwork) -> tuple[Site, ...]:
    return sites(cast("nn.Module", model.backbone))


def _site(block: Block) -> Site:
    return Site(block, (Tap(block.mixer, partial(_read, block.mixer)),))


def _read(mixer: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Tensor, tuple[Route, ...]]:
    return args[0], routes_of(mixer, args[0])


@contextmanager
def hooked(model: nn.Module, hooks: Iterable[tuple[nn.Module, Callable[..., Any]]] = ()) -> Iterator[None]:
    """Put a model in evaluation mode, with hooks, inside a ``with`` block, and leave it as it was.

    Parameters
    ----------
    model : nn.Module
        The model.
    hooks : iterable of (nn.Module, callable), default ()
        Forward hooks ``hook(module, args, given, output)``, given the named arguments, and the modules of `model` that
        get them.

    Yields
    ------
    None
        Nothing; hooks and modes are restored at the end, after an error too.

    Examples
    --------
    >>> import torch
    >>> stack, seen = Stack(8, "M"), []
    >>> with hooked(stack, [(stack, lambda module, args, given, output: seen.append(module.training))]):
    ...     _ = stack(torch.randn(1, 3, 8))
    >>> seen, stack.training, len(stack._forward_hooks)
    ([False], True, 0)
    """
    modes = [(module, module.training) for module in model.modules()]
    handles = []
    try:
        model.eval()
        handles += [module.register_forward_hook(hook, with_kwargs=True) for module, hook in hooks]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode

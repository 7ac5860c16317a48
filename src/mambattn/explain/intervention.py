"""Intervention: cut edges between tokens inside chosen layers, and see what the model does then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mambattn._errors import ConfigError
from mambattn.explain.layer import Layer
from mambattn.explain.maps import they_are
from mambattn.explain.route import Route
from mambattn.explain.sites import Tap, hooked, sites
from mambattn.explain.targets import Target, target_score
from mambattn.explain.trace import run_model, trace
from mambattn.ops._checks import is_integer

__all__ = ["Edges", "Knockout", "knockout"]

Edges = Mapping[int, Iterable[tuple[int, int]]] | Iterable[tuple[int, int, int]]
"""Pairs (source, target) of positions for each layer, or triples (layer, source, target)."""


@dataclass(frozen=True)
class Knockout:
    """What cutting edges changed.

    Parameters
    ----------
    edges : tuple of (int, int, int)
        What was cut: layer, source, target.
    before : Tensor
        The model's output.
    after : Tensor
        The output of the cut model.
    score_before : Tensor of shape (batch,) or None
        The chosen output, if one was chosen.
    score_after : Tensor of shape (batch,) or None
        The same of the cut model.
    """

    edges: tuple[tuple[int, int, int], ...]
    before: Tensor
    after: Tensor
    score_before: Tensor | None = None
    score_after: Tensor | None = None

    @property
    def change(self) -> Tensor:
        """What cutting adds to the output: a Tensor of its shape."""
        return self.after - self.before

    @property
    def score_change(self) -> Tensor | None:
        """What cutting adds to the chosen output: a Tensor of shape (batch,), or None."""
        if self.score_before is None or self.score_after is None:
            return None
        return self.score_after - self.score_before

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields and the changes.
        """
        tensors = {
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "score_before": self.score_before,
            "score_after": self.score_after,
            "score_change": self.score_change,
        }
        plain = {name: None if values is None else values.tolist() for name, values in tensors.items()}
        return {"edges": [list(edge) for edge in self.edges], **plain}


def knockout(model: nn.Module, x: Tensor, edges: Edges, target: Target | None = None) -> Knockout:
    """Cut source → target edges inside chosen layers, and run the model.

    What the mixer gives at `target` loses what `source` contributes to it: in attention the source's weight becomes 0,
    and the others are not renormalised; in a state space the source's value is taken out of every way by which it
    reaches the target, convolution, scan and skip,
    ``y_i ← y_i − W_out (gate_i ⊙ Σ_k (α + D I)[i, k] σ(c_k) T[k, j] ⊙ v_j)``, v_j its value with its bias. The routing
    of a cut layer is that of its input as the cut model has it; the residual, and everything behind, is free to change.
    Of a layer with several mixers, such as Zamba2's with their shared blocks, each loses the edge.

    Parameters
    ----------
    model : nn.Module
        A `Stack`, the backbone or network of a tabular model, or a supported model of transformers.
    x : Tensor
        Tokens; or ids.
    edges : mapping of int to pairs, or iterable of triples
        For a layer, by its depth index, pairs (source, target); or triples (layer, source, target). Positions are those
        of the layer's map: of a tabular model behind its shuffle, a class token last.
    target : int, Tensor of int (batch,), pair, callable or None, default None
        An output whose change is told as well; see `mambattn.explain.targets.target_score`.

    Returns
    -------
    Knockout
        Outputs before and after.

    Raises
    ------
    ConfigError
        If a layer does not exist or mixes no tokens, a position is out of range, or the target does not exist.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> cut = knockout(Stack(8, "MA", settings={"A": {"n_heads": 2}}), torch.randn(2, 5, 8), {1: [(0, 4)]})
    >>> cut.change.abs().sum((0, 2)) > 0
    tensor([False, False, False, False,  True])
    """
    traced = trace(model, x)
    cuts = _checked(edges, traced.layers)
    taps = [(*site.beside, *site.taps) for site in sites(model)]
    hooks = [(tap.module, _without(tap, pairs)) for layer, pairs in cuts.items() for tap in taps[layer]]
    with torch.no_grad():
        with hooked(model):
            before = run_model(model, traced.x)
        with hooked(model, hooks):
            after = run_model(model, traced.x)
        scores = () if target is None else (target_score(before, target), target_score(after, target))
    listed = tuple((layer, *pair) for layer, pairs in cuts.items() for pair in pairs)
    return Knockout(listed, before, after, *scores)


def _checked(edges: Edges, layers: tuple[Layer, ...]) -> dict[int, list[tuple[int, int]]]:
    """Sort edges by layer, each once."""
    mixing = {layer.layer: layer for layer in layers if layer.mixes}
    kinds = {index: layer.kind for index, layer in mixing.items()}
    cuts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    try:
        triples = [(layer, source, target) for layer, source, target in _triples(edges)]
    except (TypeError, ValueError):
        raise ConfigError(
            f"`edges` must be triples (layer, source, target), or pairs by layer, however it is {edges!r}. Use "
            "{0: [(2, 5)]} to cut what token 5 reads of token 2 in layer 0."
        ) from None
    for edge in dict.fromkeys(triples):
        layer, source, target = edge
        if not is_integer(layer, at_least=0) or layer not in mixing:
            raise ConfigError(
                f"`edges` must be in layers that mix tokens, counted from 0, however there is no {layer!r}. "
                f"{they_are(kinds)}"
            )
        last = mixing[layer].x.shape[1] - 1
        for position in (source, target):
            if not is_integer(position, at_least=0) or position > last:
                raise ConfigError(
                    f"`edges` must have positions from 0 to {last}, the tokens there are, however it has {position!r} "
                    f"in {edge!r}."
                )
        cuts[layer].append((source, target))
    return dict(cuts)


def _triples(edges: Edges) -> Iterator[tuple[Any, ...]]:
    if isinstance(edges, Mapping):
        yield from ((layer, *pair) for layer, pairs in edges.items() for pair in pairs)
    else:
        yield from map(tuple, edges)


def _without(tap: Tap, pairs: list[tuple[int, int]]) -> Callable[..., Any]:
    """Make the hook that takes edges out of a mixer's output."""
    sources: dict[int, list[int]] = defaultdict(list)
    for source, target in pairs:
        sources[target].append(source)

    def cut(mixer: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> Any:
        y = (output[0] if isinstance(output, tuple) else output).clone()
        x, routes = tap.read(args, given)
        for route in routes:
            values = F.linear(x, route.value_weight, route.value_bias)
            for target, those in sources.items():
                y[:, target] -= _carried(route, values, target, those)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    return cut


def _carried(route: Route, values: Tensor, target: int, sources: list[int]) -> Tensor:
    """Give what some sources bring to one position: (batch, d_model)."""
    (row,) = route.operator_rows(torch.tensor([target], device=values.device)).unbind(1)
    return F.linear((row[:, sources] * values[:, sources]).sum(1), route.out_weight)

"""Every mixer's map: what its tokens read from each other, at one input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mambattn._errors import ConfigError
from mambattn.explain._checks import integers
from mambattn.explain.layer import Layer
from mambattn.explain.masks import check_mask, without_padding
from mambattn.explain.recurrence import Recurrence
from mambattn.explain.results import Contributions, LayerMap
from mambattn.explain.route import Mixing, Route
from mambattn.explain.trace import Trace, trace
from mambattn.nn._checks import check_one_of

__all__ = ["attention_maps", "chosen_layers", "contributions", "traced_maps"]


def attention_maps(
    model: nn.Module,
    x: Tensor,
    *,
    what: str = "scan",
    channels: str | Sequence[int] = "mean",
    layers: Sequence[int] | None = None,
    mask: Tensor | None = None,
) -> tuple[LayerMap, ...]:
    """Give the map of every mixer at one input, signed.

    ``what="scan"`` is what mixes inside: of Mamba and Mamba-2
    ``α[i, j] = Σ_n C_i[n] exp(A[n] Σ_{k=j+1..i} dt_k) dt_j B_j[n]``, j ≤ i, without the skip D (arXiv 2403.01590,
    equation 12; arXiv 2405.21060, section 5.1), of attention the weights. ``what="block"`` is the whole mixer between
    its projections, ``diag(gate) (α + D I) diag(σ(c)) T(conv)``, c the convolution's output and T(conv) its band
    matrix, on the convolution's input (after arXiv 2405.16504); a gated norm's scale is part of the gate. Attention has
    no more than its weights.

    The mean over channels comes from matrix products of factors that are at most 1, in O(seq_len · d_inner · d_state)
    memory; no matrix is formed for each channel and state.

    Parameters
    ----------
    model : nn.Module
        A `Stack`, the backbone or network of a tabular model, or a supported model of transformers.
    x : Tensor
        Tokens (batch, seq_len, d_model); ids or embeddings of a language model.
    what : {"scan", "block"}, default "scan"
        What is drawn.
    channels : {"mean", "all"} or sequence of int, default "mean"
        One map, the mean; each one; or those numbered. A scan's maps are the channels of Mamba and the heads of Mamba-2
        and of attention; a block's are channels, and heads of attention.
    layers : sequence of int or None, default None
        Depth indices, from 0; None is every layer that mixes tokens.
    mask : Tensor of bool, (batch, seq_len), or None, default None
        Which tokens there are, of a batch padded behind them; padded ones then read nothing. None is all.

    Returns
    -------
    tuple of LayerMap
        In order of depth. Both directions of a bidirectional Mamba, global and local attention have maps of their own,
        named by their labels.

    Raises
    ------
    ConfigError
        If a setting is unknown, a layer or channel does not exist, or padding is read.
    ShapeError
        If `x` or `mask` has another shape.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> stack = Stack(16, "MA", settings={"A": {"n_heads": 2}})
    >>> mamba, attention = attention_maps(stack, torch.randn(3, 5, 16), channels="all")
    >>> mamba.kind, mamba.values.shape, attention.labels
    ('Mamba', torch.Size([3, 32, 5, 5]), ('head 0', 'head 1'))
    """
    return traced_maps(trace(model, x), what=what, channels=channels, layers=layers, mask=mask)


def traced_maps(
    traced: Trace,
    *,
    what: str = "scan",
    channels: str | Sequence[int] = "mean",
    layers: Sequence[int] | None = None,
    mask: Tensor | None = None,
) -> tuple[LayerMap, ...]:
    """Give the maps of a model that has been taken apart, so that several kinds of them need one run.

    Parameters
    ----------
    traced : Trace
        The model at one input, as `trace` gives it.
    what : {"scan", "block"}, default "scan"
        As in `attention_maps`.
    channels : {"mean", "all"} or sequence of int, default "mean"
        Likewise.
    layers : sequence of int or None, default None
        Likewise.
    mask : Tensor of bool, (batch, seq_len), or None, default None
        Likewise.

    Returns
    -------
    tuple of LayerMap
        As `attention_maps` gives them.

    Raises
    ------
    ConfigError
        If a setting is unknown, a layer or channel does not exist, or padding is read.
    ShapeError
        If `mask` has another shape.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> traced = trace(Stack(16, "MA", settings={"A": {"n_heads": 2}}), torch.randn(3, 5, 16))
    >>> [len(one.labels) for what in ("scan", "block") for one in traced_maps(traced, what=what, channels="all")]
    [32, 2, 32, 2]
    """
    check_one_of("what", what, ("scan", "block"))
    if isinstance(channels, str):
        check_one_of("channels", channels, ("mean", "all"))
    else:
        channels = integers("channels", channels)
    with torch.no_grad():
        check_mask(mask, *traced.layers[0].x.shape[:2])
        return tuple(_map_of(layer, what, channels, mask) for layer in chosen_layers(traced.layers, layers))


def contributions(model: nn.Module, x: Tensor, layer: int, kind: str | None = None) -> Contributions:
    """Give what each token contributes to a mixer's output, and what the biases do; for small inputs.

    The routing (gates, step sizes, B, C, weights, the scales of norms) is held at the input, which leaves an affine map
    of the layer's tokens.

    Parameters
    ----------
    model : nn.Module
        As `attention_maps` takes it.
    x : Tensor
        Likewise.
    layer : int
        Depth index of a layer that mixes tokens.
    kind : str or None, default None
        Which, where two of one depth mix tokens one after the other, as in Zamba2: "global attention" or "Mamba-2".

    Returns
    -------
    Contributions
        Vectors (batch, query, source, d_model), and the bias column.

    Raises
    ------
    ConfigError
        If there is no such layer, it mixes no tokens, or `kind` is needed to choose.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> stack, x = Stack(8, "M").eval(), torch.randn(1, 5, 8)
    >>> parts = contributions(stack, x, layer=0)
    >>> torch.allclose(x + parts.values.sum(2) + parts.bias, stack(x), atol=1e-5)
    True
    """
    with torch.no_grad():
        there = list(chosen_layers(trace(model, x).layers, [layer]))
        found = [one for one in there if kind in (None, one.kind)]
        if len(found) != 1:
            kinds = [one.kind for one in there]
            raise ConfigError(
                f"`kind` must choose one of what mixes tokens in layer {layer}, {' and '.join(kinds)}, however it is "
                f"{kind!r}. Use kind={kinds[0]!r}."
            )
        chosen = found[0]
        entered = chosen.read if chosen.enter is None else chosen.enter.linear(chosen.read)
        constant = None if chosen.enter is None else chosen.enter.bias
        parts = [torch.cat([rows for _, rows in route.contributions(entered)], dim=1) for route in chosen.mixing_routes]
        bias = [route.offset(entered, constant) for route in chosen.mixing_routes]
    return Contributions(chosen.layer, chosen.kind, torch.stack(parts).sum(0), torch.stack(bias).sum(0))


def chosen_layers(traced: Sequence[Layer], layers: Sequence[int] | None) -> Iterator[Layer]:
    """Give the layers that mix tokens, all or those asked for; a block aside comes before its layer.

    Parameters
    ----------
    traced : sequence of Layer
        All layers.
    layers : sequence of int or None
        Depth indices, or None for all.

    Yields
    ------
    Layer
        In order of depth.

    Raises
    ------
    ConfigError
        If one asked for does not exist or mixes no tokens.
    """
    mixing = [part for layer in traced for part in layer.parts if part.mixes]
    wanted = None if layers is None else integers("layers", layers)
    known = {layer.layer: layer.kind for layer in mixing}
    for index in wanted or ():
        if index not in known:
            raise ConfigError(
                f"`layers` must be among the layers that mix tokens, counted from 0, however there is no {index!r}. "
                f"{they_are(known)}"
            )
    yield from (layer for layer in mixing if wanted is None or layer.layer in wanted)


def they_are(kinds: Mapping[int, str]) -> str:
    """Name the layers that mix tokens.

    Parameters
    ----------
    kinds : mapping of int to str
        What each is, by its depth index.

    Returns
    -------
    str
        A sentence.

    Examples
    --------
    >>> they_are({0: "Mamba", 2: "global attention"}), they_are({})
    ('They are 0 (Mamba), 2 (global attention).', 'No layer of this model does.')
    """
    if not kinds:
        return "No layer of this model does."
    return f"They are {', '.join(f'{index} ({kind})' for index, kind in kinds.items())}."


def _map_of(layer: Layer, what: str, channels: str | Sequence[int], mask: Tensor | None) -> LayerMap:
    labels: list[str] = []
    values: list[Tensor] = []
    for route in layer.mixing_routes:
        assert route.mixing is not None
        is_plain = route.act is None and route.conv_weight is None and route.gate_values is None
        block = what == "block" and not is_plain
        if channels == "mean":
            names, maps = ["mean"], _mean_block(route, route.mixing) if block else route.mean_scan()[:, None]
        else:
            names, maps = _one_by_one(route, route.mixing, layer, channels, block=block)
        labels += [f"{route.label} {name}".strip() for name in names]
        values.append(maps)
    maps = torch.cat(values, dim=1)
    queries = torch.arange(maps.shape[2], device=maps.device)
    return LayerMap(layer.layer, layer.kind, tuple(labels), without_padding(maps, mask, queries))


def _mean_block(route: Route, mixing: Mixing) -> Tensor:
    """Average the operator over channels: a weighted sum for each tap of the convolution, moved to the tap's source."""
    d_inner = len(route.value_weight)
    ones = route.value_weight.new_ones(mixing.batch, mixing.seq_len, d_inner)
    taps = [ones] if route.conv_weight is None else [weight * ones for weight in route.conv_weight.T.flip(0)]
    columns = torch.stack(taps, dim=1) if route.act is None else torch.stack(taps, dim=1) * route.act[:, None]
    rows = (ones if route.gate_values is None else route.gate_values) / d_inner
    by_map = (mixing.n_maps, route.d_value)
    sums = mixing.weighted(rows.unflatten(2, by_map), columns.unflatten(3, by_map))
    if mixing.D is not None:
        skip = mixing.D.repeat_interleave(route.d_value)
        sums = sums + torch.diag_embed((rows[:, None] * columns * skip).sum(3))
    mean = sum((pad(part, (0, lag))[..., lag:] for lag, part in enumerate(sums.unbind(1))), start=sums.new_zeros(()))
    return route.turn(route.turn(mean[:, None], 2), 3)


def _one_by_one(
    route: Route, mixing: Mixing, layer: Layer, channels: str | Sequence[int], *, block: bool
) -> tuple[list[str], Tensor]:
    n = len(route.value_weight) if block else mixing.n_maps
    unit = "channel" if block or (route.d_value == 1 and isinstance(mixing, Recurrence)) else "head"
    chosen = range(n) if isinstance(channels, str) else channels
    for channel in chosen:
        if not 0 <= channel < n:
            raise ConfigError(
                f"`channels` must be from 0 to {n - 1} in layer {layer.layer} ({layer.kind}), however it has "
                f"{channel!r}. Use those there are, or layers={[layer.layer]} with channels of its own."
            )
    picked = torch.tensor(list(chosen), device=route.value_weight.device)
    parts = []
    for index in route.row_chunks(d_model=0):
        rows = route.operator_rows(index) if block else route.scan_rows(index)
        parts.append(rows[..., picked].permute(0, 3, 1, 2))
    return [f"{unit} {channel}" for channel in chosen], torch.cat(parts, dim=2)

"""Flow: how much of each token of the input has arrived where, through the whole stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.explain._checks import integers
from mambattn.explain.layer import Aside, Layer
from mambattn.explain.maps import chosen_layers
from mambattn.explain.masks import check_mask, without_padding
from mambattn.explain.results import Flow, Reach
from mambattn.explain.steps import steps_of
from mambattn.explain.targets import baseline_tokens
from mambattn.explain.trace import Trace, trace
from mambattn.nn._checks import check_one_of

__all__ = ["receptive_field", "rollout"]


def rollout(
    model: nn.Module,
    x: Tensor,
    kind: str = "norm",
    positions: Sequence[int] | None = None,
    *,
    baseline: Tensor | None = None,
    mask: Tensor | None = None,
) -> Flow:
    """Follow the tokens of the input through all layers, their residuals and norms included.

    Each layer that mixes tokens becomes a matrix R over positions, and the flow is their product, last layer first. A
    layer that mixes none, such as an MLP, is the identity. ``T_i(x_j)`` is what token j contributes to what leaves the
    layer at i, the routing held: through the mixer, at j = i by the residual too, and through a norm behind the sum.

    - "norm": ``R[i, j] = ‖T_i(x_j)‖₂``, rows divided by their sums (after arXiv 2004.10102, equation 4).
    - "alti": ``R[i, j] = max(0, ‖y_i‖₁ − ‖y_i − T_i(x_j)‖₁)``, rows divided by their sums; y_i is what leaves, biases
      included (arXiv 2203.04212, equations 9 and 10). A token that no contribution brings nearer keeps to itself.
    - "paper": ``R = I + mean of α over channels or heads``, signed and not normalised (rollout of arXiv 2403.01590,
      section 3.3). Chosen positions go backwards through the scans, in memory linear in seq_len.

    With a `baseline` the flow is of what differs from it: the model runs on the baseline too, and of each layer's
    tokens and output the difference counts, the routing held at `x`. Position embeddings and what else all inputs share
    then carry nothing; on patches of digits that decides whether the flow finds those that matter.

    A shared block of Zamba2 has no residual: its attention reads the stream and the embeddings, and the layer's own
    mixer the stream and what the block gives. The R of each has the sources of both parts, whose shares of a row make
    up one sum ("paper": the same mean for both, the identity for the stream alone); what is taken from embeddings adds
    to the flow from the tokens that they are of.

    A flow says where information could come from; it does not depend on what is predicted, and weights drawn at random
    have one as well.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    kind : {"norm", "alti", "paper"}, default "norm"
        How the flow through a layer is measured.
    positions : sequence of int or None, default None
        The positions that read, from 0; None is all of them, layer by layer. With positions there is one flow, through
        all layers, and no matrix over all pairs is kept.
    baseline : Tensor or None, default None
        Tokens that say nothing, anything that broadcasts to those of `x`, such as their mean over background rows. Not
        with "paper", whose maps do not look at the tokens.
    mask : Tensor of bool, (batch, seq_len), or None, default None
        Which tokens there are, of a batch padded behind them; padded ones then read nothing. None is all.

    Returns
    -------
    Flow
        The flows.

    Raises
    ------
    ConfigError
        If the kind is unknown, no layer mixes tokens, a position does not exist, `baseline` would be ignored, or
        padding is read.
    ShapeError
        If `x`, `baseline` or `mask` has another shape.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> flow = rollout(Stack(8, "MM"), torch.randn(2, 5, 8))
    >>> flow.values.shape, bool(torch.allclose(flow.total.sum(-1), torch.ones(2, 5)))
    (torch.Size([2, 2, 5, 5]), True)
    """
    check_one_of("kind", kind, ("norm", "alti", "paper"))
    with torch.no_grad():
        traced = trace(model, x)
        layers = traced.mixing_layers
        if not layers:
            raise ConfigError(
                f"`model` must have a layer that mixes tokens, however none of its {len(traced.layers)} does. Use a "
                "schedule with a letter other than '-'."
            )
        if baseline is not None:
            layers = _differing(model, traced, layers, baseline, kind)
        batch, seq_len = traced.layers[0].x.shape[:2]
        check_mask(mask, batch, seq_len)
        if positions is not None:
            return _backwards(traced, layers, kind, positions, mask)
        origin = torch.eye(seq_len, dtype=traced.x.dtype, device=traced.x.device).expand(batch, -1, -1)
        flow, values = origin, []
        for layer in layers:
            *beside, last = steps_of(layer)
            gathered = [step.matrix(kind) @ torch.cat([flow, origin], dim=1) for step in beside]
            flow = last.matrix(kind) @ torch.cat([flow, *gathered], dim=1)
            values.append(flow)
        queries = torch.arange(seq_len, device=traced.x.device)
        whole = without_padding(torch.stack(values, dim=1), mask, queries).transpose(0, 1)
    return Flow(kind, tuple(layer.layer for layer in layers), tuple(range(seq_len)), whole)


def receptive_field(model: nn.Module, x: Tensor, *, mask: Tensor | None = None) -> tuple[Reach, ...]:
    """Give how far each map of each mixer reads: state spaces beside attention.

    ``Σ_ij |w[i, j]| |i − j| / Σ_ij |w[i, j]|`` of the scan maps; the rows of α are not normalised, so that those that
    read much weigh more.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    mask : Tensor of bool, (batch, seq_len), or None, default None
        Which tokens there are, of a batch padded behind them; padded ones then read nothing. None is all.

    Returns
    -------
    tuple of Reach
        One a layer that mixes tokens: a distance for each channel of Mamba, each head of the others.

    Raises
    ------
    ConfigError
        If padding is read.
    ShapeError
        If `x` or `mask` has another shape.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> local = Stack(8, "L", settings={"L": {"n_heads": 2, "window": 2}})
    >>> bool((receptive_field(local, torch.randn(1, 9, 8))[0].distance < 1).all())
    True
    """
    with torch.no_grad():
        traced = trace(model, x).layers
        check_mask(mask, *traced[0].x.shape[:2])
        return tuple(_reach(layer, mask) for layer in chosen_layers(traced, None))


def _differing(
    model: nn.Module, traced: Trace, layers: tuple[Layer, ...], baseline: Tensor, kind: str
) -> tuple[Layer, ...]:
    """Take what the model does on the baseline off each layer's tokens and output."""
    if kind == "paper":
        raise ConfigError(
            "`baseline` must be None with kind='paper', whose maps do not look at the tokens, however one was given. "
            "Use kind='norm' or 'alti'."
        )
    resting = trace(model, baseline_tokens(baseline, traced.x)).mixing_layers
    return tuple(_less(layer, rest) for layer, rest in zip(layers, resting, strict=True))


def _less(layer: Layer, rest: Layer) -> Layer:
    aside = layer.aside
    if aside is not None and rest.aside is not None:
        aside = Aside(_less(aside.mixer, rest.aside.mixer), _less(aside.mlp, rest.aside.mlp))
    return replace(layer, x=layer.x - rest.x, y=layer.y - rest.y, aside=aside)


def _reach(layer: Layer, mask: Tensor | None) -> Reach:
    distances, labels = [], []
    for route in layer.mixing_routes:
        position = torch.arange(layer.x.shape[1], device=layer.x.device)
        moment = weight = layer.x.new_zeros(())
        for index in route.row_chunks(0):
            rows = without_padding(route.scan_rows(index).abs().permute(0, 3, 1, 2), mask, index)
            moment = moment + torch.einsum("bmrj,rj->bm", rows, (index[:, None] - position).abs().to(rows.dtype))
            weight = weight + rows.sum((2, 3))
        distances.append(moment / weight.clamp_min(torch.finfo(weight.dtype).tiny))
        unit = "channel" if route.n_maps == len(route.value_weight) else "head"
        labels += [f"{route.label} {unit} {number}".strip() for number in range(route.n_maps)]
    return Reach(layer.layer, layer.kind, tuple(labels), torch.cat(distances, dim=1))


def _backwards(
    traced: Trace, layers: tuple[Layer, ...], kind: str, positions: Sequence[int], mask: Tensor | None
) -> Flow:
    batch, seq_len = traced.layers[0].x.shape[:2]
    positions = integers("positions", positions)
    for position in positions:
        if not 0 <= position < seq_len:
            raise ConfigError(
                f"`positions` must be from 0 to {seq_len - 1}, the tokens there are, however it has {position!r}."
            )
    index = torch.tensor(positions, device=traced.x.device)
    flow = torch.nn.functional.one_hot(index, seq_len).to(traced.x.dtype).expand(batch, -1, -1)
    origin = torch.zeros_like(flow)
    for layer in reversed(layers):
        *beside, last = steps_of(layer)
        flow, *rest = last.sent_back(kind, flow)
        for step, to_aside in zip(beside, rest, strict=True):
            to_stream, to_origin = step.sent_back(kind, to_aside)
            flow, origin = flow + to_stream, origin + to_origin
    flow = without_padding((flow + origin)[:, None], mask, index).transpose(0, 1)
    return Flow(kind, (layers[-1].layer,), positions, flow)

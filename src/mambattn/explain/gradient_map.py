"""Gradient × map: hidden attention made specific to an output, as published and as released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambattn.explain.results import Attribution
from mambattn.explain.route import Route
from mambattn.explain.sites import hooked, sites
from mambattn.explain.targets import Target, target_score
from mambattn.explain.trace import Layer, Trace, run_model, trace
from mambattn.explain.weights import Weights
from mambattn.nn._checks import check_one_of

__all__ = ["gradient_times_map"]


def gradient_times_map(model: nn.Module, x: Tensor, target: Target, form: str = "equation") -> Attribution:
    """Give Mamba-Attribution (arXiv 2403.01590, section 3.3), for stacks of state spaces and attention.

    Each layer that mixes tokens becomes a matrix M over positions; the flow is their product, last layer first, and
    the scores are its rows at the positions that the output is read from. ∇ is the gradient of the chosen output in the
    model as it is, E the mean, over channels d of a state space or heads h, and ⁺ the positive part.

    "equation" is equation 24, with α the scan map and ŷ′ the gated output of the scan, before the projection:

    ``M[i, j] = I[i, j] + (E_d ∇ŷ′_d[i] · E_d α_d[i, j])⁺``.

    For attention it is equation 23 with the weights for the relevance of the map, which is how arXiv 2103.15679
    (equation 5) has it: ``M = I + E_h (∇A_h ⊙ A_h)⁺``, ∇A_h[i, j] being ∇ŷ′_h[i] · v_h[j].

    "released" is the function ``generate_mamba_attr`` of the authors' repository HiddenMambaAttn, which differs: one
    row, that of the position which is read, stands for all, and the gradient is that of the residual stream r before
    the layer,

    ``a[j] = E_d minmax(α_d⁺)[read, j]``,  ``s[j] = minmax(max_d (∇r_d[j])⁺)``,
    ``M[i, j] = (I[i, j] + a[j] s[j]) / (1 + Σ_k a[k] s[k])``,

    minmax bringing the channels and sources of a row, or the sources, to [0, 1]. Its row of α lacks the token's own
    weight and one factor of decay, and the first layers are left out of the product; here the row is whole and every
    layer counts.

    Both are published for a model that reads one class token. Here the rows are weighted by ``‖∇y[i]‖₂``, y leaving the
    last layer: one row for a last or class token or a chosen position, all of them for a mean. A layer's directions or
    branches are averaged.

    Parameters
    ----------
    model : nn.Module
        A `Stack`, or the backbone or network of a tabular model.
    x : Tensor
        Tokens.
    target : int, Tensor of int (batch,), pair or callable
        Which output; see `mambattn.explain.targets.target_score`.
    form : {"equation", "released"}, default "equation"
        Which of the two.

    Returns
    -------
    Attribution
        Scores of at least 0; completeness and the absorbed share are NaN, as nothing is promised.

    Raises
    ------
    ConfigError
        If the model is not supported, the target does not exist, or the form is unknown.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> scores = gradient_times_map(Stack(8, "MM"), torch.randn(2, 5, 8), target=(3, 0))
    >>> scores.values[:, 4]  # read at 3, which sees no later token
    tensor([0., 0.])
    """
    check_one_of("form", form, ("equation", "released"))
    traced = trace(model, x)
    slopes = _slopes(model, traced, target)
    with torch.no_grad():
        reads = slopes.end.norm(dim=-1)
        reads = reads / reads.sum(1, keepdim=True).clamp_min(torch.finfo(reads.dtype).tiny)
        flow = reads
        for layer, mixed, stream in reversed(list(zip(traced.layers, slopes.mixed, slopes.streams, strict=True))):
            if not layer.mixes:
                continue
            if form == "equation":
                parts = [_by_equation(route, layer, mixed) for route in layer.mixing_routes]
                flow = flow + torch.einsum("bi,bij->bj", flow, torch.stack(parts).mean(0))
            else:
                fused = _as_released(layer, reads) * _minmax(stream.clamp_min(0).amax(2), (1,))
                flow = (flow + flow.sum(1, keepdim=True) * fused) / (1 + fused.sum(1, keepdim=True))
    values = _at_sources(traced, flow)
    nothing = values.new_full((len(values),), torch.nan)
    return Attribution(f"gradient × map, {form}", values, nothing, nothing)


@dataclass(frozen=True)
class _Slopes:
    """Gradients of the output: by what each mixer gives, by the residual stream before each layer and at the end."""

    mixed: tuple[Tensor, ...]
    streams: tuple[Tensor, ...]
    end: Tensor


def _slopes(model: nn.Module, traced: Trace, target: Target) -> _Slopes:
    mixed: list[Tensor] = []
    streams: list[Tensor] = []

    def keep_mixed(module: nn.Module, args: tuple[Tensor, ...], given: dict[str, Any], output: Tensor) -> None:
        mixed.append(output)

    def keep_streams(module: nn.Module, args: tuple[Tensor, ...], given: dict[str, Any], output: Tensor) -> None:
        if not streams:
            streams.append(args[0])
        streams.append(output)

    every = sites(model)
    hooks = [(site.mixer, keep_mixed) for site in every] + [(site.layer, keep_streams) for site in every]
    with hooked(model, hooks), torch.enable_grad():
        score = target_score(run_model(model, traced.x.detach().requires_grad_()), target)
        slopes = torch.autograd.grad(score.sum(), [*mixed, *streams])
    return _Slopes(slopes[: len(mixed)], slopes[len(mixed) : -1], slopes[-1])


def _by_equation(route: Route, layer: Layer, slope: Tensor) -> Tensor:
    if not isinstance(route.mixing, Weights):
        # The mean over channels of a projection back is a projection on the mean column.
        return ((slope @ route.out_weight.mean(1))[:, :, None] * route.mean_scan()).clamp_min(0)
    by_head = (route.n_maps, route.d_value)
    back = (slope @ route.out_weight).unflatten(2, by_head)
    values = nn.functional.linear(layer.entered(layer.x), route.value_weight, route.value_bias).unflatten(2, by_head)
    return (route.mixing.matrix * torch.einsum("bimv,bjmv->bmij", back, values)).clamp_min(0).mean(1)


def _as_released(layer: Layer, reads: Tensor) -> Tensor:
    """Give the mean over channels of the normed rows, of the positions that are read: (batch, seq_len)."""
    rows = torch.zeros_like(reads)
    read = reads.sum(0).nonzero()[:, 0]
    routes = layer.mixing_routes
    for route in routes:
        for position in read:
            row = route.scan_rows(position[None])[:, 0].clamp_min(0)
            rows += reads[:, position, None] * _minmax(row, (1, 2)).mean(2)
    return rows / len(routes)


def _minmax(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    low = x.amin(dims, keepdim=True)
    return (x - low) / (x.amax(dims, keepdim=True) - low).clamp_min(torch.finfo(x.dtype).tiny)


def _at_sources(traced: Trace, scores: Tensor) -> Tensor:
    """Send scores of the stack's positions back to the tokens of the model's input, past a shuffle or class token."""
    with torch.enable_grad():
        zeros = torch.zeros_like(traced.x).requires_grad_()
        entered = traced.enter(zeros)
        (back,) = torch.autograd.grad(entered, zeros, scores[..., None].expand_as(entered))
    return back[..., 0]

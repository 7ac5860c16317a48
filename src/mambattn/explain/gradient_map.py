"""Gradient × map: hidden attention made specific to an output, as published and as released."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mambattn.explain._gradient import with_gradient
from mambattn.explain.results import Attribution
from mambattn.explain.route import Route
from mambattn.explain.sites import Tap, hooked, sites
from mambattn.explain.targets import Target, target_score
from mambattn.explain.trace import Trace, run_model, trace
from mambattn.explain.weights import Weights
from mambattn.nn._checks import check_one_of

__all__ = ["gradient_times_map"]


def gradient_times_map(model: nn.Module, x: Tensor, target: Target, form: str = "equation") -> Attribution:
    """Give Mamba-Attribution (arXiv 2403.01590, section 3.3), for state spaces, attention and any hybrid of them.

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
    branches are averaged. Of Mamba-2 ŷ′ has been through the gated norm.

    A shared block of Zamba2 has no residual: its attention reads the stream and the embeddings, and the layer's own
    mixer the stream and what the block gives. With M = I + S, each has S for either part, and I only what the layer
    reads of the stream; the released form divides by the sum over both parts.

    Both show flow for a good part: the gradient is of one output, but I and, in the released form, the map stay what
    they are whatever was learned. By `mambattn.explain.randomisation_test` they keep .26 to .38 of rank correlation
    where the last token is read, which I puts first (without that token .13 at most), and the released form .75 on a
    table; of one output speak `lrp`, `integrated_gradients` and `occlusion`.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
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
    calls, slope = _heard(model, traced.x, target)
    with torch.no_grad():
        reads = slope.norm(dim=-1)
        reads = reads / reads.sum(1, keepdim=True).clamp_min(torch.finfo(reads.dtype).tiny)
        flow, origin = reads, torch.zeros_like(reads)
        for call in reversed(calls):
            if call.mixed:
                flow, *rest = _sent_back(flow, call, reads, form)
                for to_aside in rest:
                    to_stream, to_origin = _sent_back(to_aside, call, reads, form, beside=True)
                    flow, origin = flow + to_stream, origin + to_origin
    values = _at_sources(traced, flow + origin)
    nothing = values.new_full((len(values),), torch.nan)
    return Attribution(f"gradient × map, {form}", values, nothing, nothing)


@dataclass(frozen=True)
class _Mixed:
    """What one mixer read, its routes there, and the gradient of the output by what it gave."""

    x: Tensor
    routes: tuple[Route, ...]
    slope: Tensor


@dataclass(frozen=True)
class _LayerCall:
    """The mixers of a layer and of a block aside, and the gradient by the residual stream before the layer."""

    mixed: tuple[_Mixed, ...]
    beside: tuple[_Mixed, ...]
    stream: Tensor


def _heard(model: nn.Module, x: Tensor, target: Target) -> tuple[tuple[_LayerCall, ...], Tensor]:
    """Run the model; give what its layers did, and the gradient by what leaves the last one."""
    every = sites(model)
    entered: list[Tensor] = []
    left: list[Tensor] = []
    read: dict[nn.Module, tuple[Tensor, tuple[Route, ...]]] = {}
    given_back: dict[nn.Module, Tensor] = {}

    def note_layer(module: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> None:
        entered.append(args[0] if args else given["hidden_states"])
        left.append(_first(output))

    def note_mixer(tap: Tap, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> None:
        with torch.no_grad():
            x, routes = tap.read(args, given)
        mixing = tuple(route for route in routes if route.mixing is not None)
        if mixing:
            read[module], given_back[module] = (x.detach(), mixing), _first(output)

    hooks = [(tap.module, partial(note_mixer, tap)) for site in every for tap in (*site.beside, *site.taps)]
    with hooked(model, [*hooks, *((site.layer, note_layer) for site in every)]), with_gradient():
        score = target_score(run_model(model, x.detach().requires_grad_()), target)
        found = torch.autograd.grad(score.sum(), [*given_back.values(), *entered, left[-1]])
    slopes = dict(zip(given_back, found, strict=False))
    streams = found[len(given_back) : -1]

    def mixed(taps: tuple[Tap, ...]) -> tuple[_Mixed, ...]:
        return tuple(_Mixed(*read[tap.module], slopes[tap.module]) for tap in taps if tap.module in read)

    pairs = zip(every, streams, strict=True)
    return tuple(_LayerCall(mixed(site.taps), mixed(site.beside), slope) for site, slope in pairs), found[-1]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _sent_back(flow: Tensor, call: _LayerCall, reads: Tensor, form: str, *, beside: bool = False) -> tuple[Tensor, ...]:
    """Give ``flow · M`` for each part that a layer reads, or the block aside, which no residual passes."""
    mixed, passes = (call.beside, 0) if beside else (call.mixed, 1)
    n_parts = 2 if call.beside else 1
    if form == "equation":
        parts = [_by_equation(route, one) for one in mixed for route in one.routes]
        sent = torch.einsum("bi,bij->bj", flow, torch.stack(parts).mean(0))
    else:
        fused = _as_released(mixed, reads) * _minmax(call.stream.clamp_min(0).amax(2), (1,))
        whole = passes + n_parts * fused.sum(1, keepdim=True).clamp_min(torch.finfo(fused.dtype).tiny)
        flow, sent = flow / whole, flow.sum(1, keepdim=True) * fused / whole
    return (flow + sent if passes else sent, *[sent] * (n_parts - 1))


def _by_equation(route: Route, mixed: _Mixed) -> Tensor:
    if not isinstance(route.mixing, Weights):
        # The mean over channels of a projection back is a projection on the mean column.
        return ((mixed.slope @ route.out_weight.mean(1))[:, :, None] * route.mean_scan()).clamp_min(0)
    by_head = (route.n_maps, route.d_value)
    back = (mixed.slope @ route.out_weight).unflatten(2, by_head)
    values = nn.functional.linear(mixed.x, route.value_weight, route.value_bias).unflatten(2, by_head)
    return (route.mixing.matrix * torch.einsum("bimv,bjmv->bmij", back, values)).clamp_min(0).mean(1)


def _as_released(mixed: tuple[_Mixed, ...], reads: Tensor) -> Tensor:
    """Give the mean over channels of the normed rows, of the positions that are read: (batch, seq_len)."""
    rows = torch.zeros_like(reads)
    read = reads.sum(0).nonzero()[:, 0]
    routes = [route for one in mixed for route in one.routes]
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
    with with_gradient():
        zeros = torch.zeros_like(traced.x).requires_grad_()
        entered = traced.enter(zeros)[..., 0]
        # A multiplier of the embeddings moves nothing: what one score more would bring is divided by.
        back, one = (
            torch.autograd.grad(entered, zeros, to, retain_graph=True)[0][..., 0]
            for to in (scores, torch.ones_like(scores))
        )
    return back / one

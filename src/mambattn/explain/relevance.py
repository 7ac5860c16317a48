"""Layer-wise relevance propagation: how much of an output each token, and the biases, account for."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mambattn.explain._gradient import with_gradient
from mambattn.explain.layer import Layer
from mambattn.explain.pointwise import Pointwise
from mambattn.explain.results import Attribution
from mambattn.explain.route import Route
from mambattn.explain.targets import Target, baseline_tokens, target_score
from mambattn.explain.trace import Trace, trace

__all__ = ["lrp", "relative_error"]


def lrp(model: nn.Module, x: Tensor, target: Target, baseline: Tensor | None = None) -> Attribution:
    """Give each token the share of one output that it accounts for, by layer-wise relevance propagation.

    MambaLRP (arXiv 2406.07592, section 4): gradient × input of the model with its routing held. Step sizes, B and C of
    a scan and the weights of attention are constants; so are the scales of norms and of SiLU, ``silu(c) = c σ(c)`` with
    σ(c) held (the identity rule); of a product with a gate each factor passes half (the half rule). What is left is
    homogeneous of degree 1 in the tokens and biases together, so that the relevances of all add up to the output:

    ``Σ_j values_j + absorbed · output = output``,  ``values_j = Σ_d (x_jd − baseline_jd) ∂output/∂x_jd``.

    What is absorbed is measured by itself, from what the biases of each layer put into it, and not as the rest.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    target : int, Tensor of int (batch,), pair or callable
        Which output: an index, one a row, (position, index), or a function of the output; see
        `mambattn.explain.targets.target_score`. Completeness holds for what is linear in the output.
    baseline : Tensor or None, default None
        Part of the tokens that counts as constant: relevance is of what differs from it, and its own is absorbed. None
        is zeros; for a table take the mean of the tokens over background rows.

    Returns
    -------
    Attribution
        Relevance of each token; the share of the output that biases and constants absorb; and how far the sum is from
        the output, relative to it.

    Raises
    ------
    ConfigError
        If the model is not supported or the target does not exist.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> relevance = lrp(Stack(8, "MA", settings={"A": {"n_heads": 2}}), torch.randn(2, 5, 8), target=(4, 0))
    >>> relevance.values.shape, bool((relevance.completeness_error < 1e-3).all())
    (torch.Size([2, 5]), True)
    """
    traced = trace(model, x)
    tokens, constant = traced.x, baseline_tokens(baseline, traced.x)
    with with_gradient():
        leaf = tokens.detach().requires_grad_()
        nodes = traced.nodes(leaf)
        score = target_score(nodes[-1], target)
        gradient, *gradients = torch.autograd.grad(score.sum(), [leaf, *nodes])
    with torch.no_grad():
        values = (gradient * (tokens - constant)).sum(-1)
        absorbed = (gradient * constant).flatten(1).sum(1)
        for at, column in zip(gradients, _columns(traced), strict=True):
            absorbed = absorbed + (at * column).flatten(1).sum(1)
        score = score.detach()
        error = relative_error(values.sum(1) + absorbed, score)
    return Attribution("lrp", values, error, absorbed / score)


def relative_error(got: Tensor, want: Tensor) -> Tensor:
    """Give the distance between two numbers, relative to the second.

    Parameters
    ----------
    got : Tensor of shape (batch,)
        What was found.
    want : Tensor of shape (batch,)
        What should be.

    Returns
    -------
    Tensor of shape (batch,)
        ``|got − want| / |want|``.
    """
    return (got - want).abs() / want.abs()


def _columns(traced: Trace) -> list[Tensor]:
    """Give what the biases put into each of the nodes, before any layer behind it."""
    columns = [traced.enter(torch.zeros_like(traced.x))]
    columns += [_bias_column(part) for layer in traced.layers for part in layer.parts]
    for step in traced.read_out.steps:
        bias = getattr(step, "bias", None)
        columns.append(torch.zeros_like(columns[0][0, 0, 0]) if bias is None else bias)
    return columns


def _bias_column(layer: Layer) -> Tensor:
    entered = layer.entered(layer.read)
    nothing = torch.zeros_like(layer.read)
    constant = nothing if layer.enter is None else layer.enter(nothing)
    column = sum((_route_column(route, entered, constant) for route in layer.routes), start=torch.zeros_like(layer.y))
    return column if layer.leave is None else layer.leave(column)


def _route_column(route: Route | Pointwise, entered: Tensor, constant: Tensor) -> Tensor:
    """Give what the biases put into `Route.halved`, `constant` being that of the norm before it.

    Half of the gated product follows the values, the gate held; half follows the gate, the mixed values held.
    """
    by_values = route.output(constant)
    if not isinstance(route, Route) or route.gate is None:
        return by_values
    # The constant is the same at all positions, and so in either order of time.
    by_gate = replace(route, gate_values=route.gate(constant)).output(entered)
    return (by_values + by_gate) / 2

"""Attributions that ask the model itself: gradient × input, integrated gradients, occlusion."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from mambattn._errors import BackendUnavailableError
from mambattn.explain._gradient import with_gradient
from mambattn.explain.path import integrate_path
from mambattn.explain.relevance import relative_error
from mambattn.explain.results import Attribution
from mambattn.explain.sites import hooked
from mambattn.explain.targets import Target, baseline_tokens, target_score
from mambattn.explain.trace import run_model, trace
from mambattn.nn._checks import check_counts

__all__ = ["gradient_times_input", "integrated_gradients", "occlusion"]


def gradient_times_input(model: nn.Module, x: Tensor, target: Target) -> Attribution:
    """Give gradient × input: ``values_j = Σ_d x_jd ∂output/∂x_jd``, of the model as it is.

    The sum is the output only of a model that is linear in its tokens, which none with gates, routing or norms is: here
    it serves as the negative control of completeness (arXiv 2406.07592, section 3).

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    target : int, Tensor of int (batch,), pair or callable
        Which output; see `mambattn.explain.targets.target_score`.

    Returns
    -------
    Attribution
        The scores, with the distance between their sum and the output; nothing is absorbed.

    Raises
    ------
    ConfigError
        If the model is not supported or the target does not exist.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> gradient_times_input(Stack(8, "M"), torch.randn(2, 5, 8), target=(4, 0)).values.shape
    torch.Size([2, 5])
    """
    with hooked(model), with_gradient():
        tokens = trace(model, x).x.requires_grad_()
        score = target_score(run_model(model, tokens), target)
        (gradient,) = torch.autograd.grad(score.sum(), tokens)
    values = (gradient * tokens.detach()).sum(-1)
    error = relative_error(values.sum(1), score.detach())
    return Attribution("gradient × input", values, error, torch.zeros_like(error))


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Target, baseline: Tensor | None = None, n_steps: int = 64
) -> Attribution:
    """Give integrated gradients, through captum.

    ``values_j = Σ_d (x_jd − b_jd) ∫_0^1 ∂output/∂x_jd (b + s (x − b)) ds`` (arXiv 1703.01365, equation 1); their sum
    is ``output(x) − output(b)``.

    Even points would miss what happens between them: at zeros a norm is all but a step, and of a model that begins with
    one (pre-norm) most of the change on the path from zeros lies in its first hundredths. So the path of each row is
    cut where its own gradients do not add up to the change of the output (`mambattn.explain.path`). On trained models
    the sum is within 1 % in every row, from zeros too. What is left is the path on which the output goes up and down by
    far more than it changes from end to end, as from zeros through a head with ReLU: there the error, being relative to
    that change, tells.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    target : int, Tensor of int (batch,), pair or callable
        Which output; see `mambattn.explain.targets.target_score`.
    baseline : Tensor or None, default None
        Where the path starts, anything that broadcasts to the tokens; None is zeros. For a table take the mean of the
        tokens over background rows, for a language model that of its embeddings.
    n_steps : int, default 64
        Gradients along the path, of each row. The output is asked for twice as often beside them, without gradient.

    Returns
    -------
    Attribution
        The scores; the distance between their sum and the change of the output, relative to it; and as absorbed the
        share of the output that the baseline has already.

    Raises
    ------
    BackendUnavailableError
        If captum is not installed.
    ConfigError
        If the model is not supported, the target does not exist, or `n_steps` is no integer of at least 1.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> x = torch.randn(2, 5, 8)
    >>> scores = integrated_gradients(Stack(8, "M"), x, target=(4, 0), baseline=x.mean((0, 1)))
    >>> bool((scores.completeness_error < 0.01).all())
    True
    """
    check_counts(n_steps=n_steps)
    captum = _captum()
    tokens = trace(model, x).x
    start = baseline_tokens(baseline, tokens)
    run = _scored(model, target)
    method = captum.IntegratedGradients(run, multiply_by_inputs=False)

    def output(at: Tensor) -> Tensor:
        with torch.no_grad():
            return run(at)

    def mean_gradient(low: Tensor, high: Tensor) -> Tensor:
        return method.attribute(high, low, n_steps=1).detach()

    with hooked(model), with_gradient():
        values = integrate_path(output, mean_gradient, start, tokens, n_steps)
        before, after = output(start), output(tokens)
    error = relative_error(values.sum(1), after - before)
    return Attribution("integrated gradients", values, error, before / after)


def occlusion(model: nn.Module, x: Tensor, target: Target, baseline: Tensor | None = None) -> Attribution:
    """Give what the output loses when one token is replaced, through captum.

    ``values_j = output(x) − output(x with b_j for x_j)`` (arXiv 1311.2901, section 4.2). The losses of single tokens
    need not add up to anything.

    Parameters
    ----------
    model : nn.Module
        As `mambattn.explain.attention_maps` takes it.
    x : Tensor
        Likewise.
    target : int, Tensor of int (batch,), pair or callable
        Which output; see `mambattn.explain.targets.target_score`.
    baseline : Tensor or None, default None
        What replaces a token, anything that broadcasts to the tokens; None is zeros. For a table take the mean of the
        tokens over background rows.

    Returns
    -------
    Attribution
        The losses; completeness and the absorbed share are NaN, as nothing is promised.

    Raises
    ------
    BackendUnavailableError
        If captum is not installed.
    ConfigError
        If the model is not supported or the target does not exist.
    ShapeError
        If a shape does not fit.

    Examples
    --------
    >>> from mambattn.stack import Stack
    >>> occlusion(Stack(8, "M"), torch.randn(2, 5, 8), target=(2, 0)).values[:, 3:]  # later tokens do not count
    tensor([[0., 0.],
            [0., 0.]])
    """
    captum = _captum()
    tokens = trace(model, x).x
    start = baseline_tokens(baseline, tokens)
    with hooked(model), torch.no_grad():
        method = captum.Occlusion(_scored(model, target))
        values = method.attribute(tokens, sliding_window_shapes=(1, tokens.shape[2]), baselines=start)
    nothing = values.new_full((len(tokens),), torch.nan)
    return Attribution("occlusion", values[..., 0], nothing, nothing)


def _scored(model: nn.Module, target: Target) -> Callable[[Tensor], Tensor]:
    return lambda tokens: target_score(run_model(model, tokens), target)


def _captum() -> ModuleType:
    try:
        import captum.attr
    except ImportError:
        raise BackendUnavailableError(
            "Integrated gradients and occlusion need captum, which is not installed. Install it with `pip install "
            "'mambattn[explain]'`, or use lrp, which needs nothing."
        ) from None
    return captum.attr

"""Attributions that ask the model itself: gradient × input, integrated gradients, occlusion."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from mambattn._errors import BackendUnavailableError
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
    tokens = trace(model, x).x.detach().requires_grad_()
    with hooked(model), torch.enable_grad():
        score = target_score(run_model(model, tokens), target)
        (gradient,) = torch.autograd.grad(score.sum(), tokens)
    values = (gradient * tokens.detach()).sum(-1)
    error = relative_error(values.sum(1), score.detach())
    return Attribution("gradient × input", values, error, torch.zeros_like(error))


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Target, baseline: Tensor | None = None, n_steps: int = 64
) -> Attribution:
    """Give integrated gradients, through captum.

    ``values_j = Σ_d (x_jd − b_jd) ∫_0^1 ∂output/∂x_jd (b + s (x − b)) ds`` (arXiv 1703.01365, equation 1), by
    Gauss-Legendre quadrature; their sum is ``output(x) − output(b)``.

    Zeros are where a norm is all but a step: of a model that begins with one (pre-norm), most of the change on the path
    from zeros happens in its first hundredths, between the points. The error tells; a mean of tokens as the baseline
    mends it.

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
        Points of the quadrature.

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
    tokens = trace(model, x).x.detach()
    start = baseline_tokens(baseline, tokens)
    run = _scored(model, target)
    with hooked(model), torch.enable_grad():
        # As many rows at a time as there are: a target that tells the rows apart meets them in their order.
        method = captum.IntegratedGradients(run)
        values = method.attribute(tokens, start, n_steps=n_steps, internal_batch_size=len(tokens)).detach().sum(-1)
    with hooked(model), torch.no_grad():
        output, before = run(tokens), run(start)
    error = relative_error(values.sum(1), output - before)
    return Attribution("integrated gradients", values.to(tokens), error, before / output)


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
    tokens = trace(model, x).x.detach()
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

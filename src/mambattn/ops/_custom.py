"""What the custom ops of the compiled backends share: layouts, and how they join autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from mambattn.ops._definition import gradients_of

__all__ = ["begins", "dense", "join_autograd"]


def dense(x: Tensor) -> Tensor:
    """Give a tensor whose last axis is contiguous, which the kernels take as given; a copy only where it is not.

    Parameters
    ----------
    x : Tensor
        Any tensor.

    Returns
    -------
    Tensor
        The same numbers.
    """
    return x if x.stride(-1) == 1 else x.contiguous()


def begins(seq_idx: Tensor) -> Tensor:
    """Say before which tokens a new packed sequence begins; the first of a row continues what came before it.

    Parameters
    ----------
    seq_idx : Tensor
        Number of the sequence of each token (batch, seq_len).

    Returns
    -------
    Tensor
        Booleans (batch, seq_len).
    """
    return pad(seq_idx[:, 1:] != seq_idx[:, :-1], (1, 0))


def join_autograd(
    forward: Any, backward: Any, definition: Callable[..., Any], *, tensors: int, settings: int, outputs: int
) -> None:
    """Make a custom op differentiable, twice too.

    Parameters
    ----------
    forward : CustomOpDef
        Takes so many tensors, of which the last holds whole numbers, the settings, and what else it wants to know.
        Gives the outputs, the first in the shape and type of the first tensor and the others in float32, empty where
        not wanted; then what it keeps for the backward.
    backward : CustomOpDef
        Takes the gradients of the outputs, what was kept, the tensors and the settings; gives the gradients of all
        tensors but the last, anything for those that were None.
    definition : callable
        The op's reference, on the same tensors in one type and the same settings. Where autograd wants a graph of the
        backward, the gradients come from it.
    tensors, settings, outputs : int
        How many there are.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        kept = output[outputs:] if isinstance(output, tuple) else ()
        ctx.settings = inputs[tensors : tensors + settings]
        ctx.n_inputs = len(inputs)
        ctx.save_for_backward(*inputs[:tensors], *kept)
        ctx.set_materialize_grads(False)

    def backward_of_forward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        given, kept = ctx.saved_tensors[:tensors], ctx.saved_tensors[tensors:]
        grads = [None if g is None or not g.numel() else g for g in grad_outputs[:outputs]]
        if grads[0] is None:
            grads[0] = torch.zeros_like(given[0])
        if torch.is_grad_enabled():  # a graph of the backward is wanted

            def defined(*views: Tensor | None) -> tuple[Tensor, ...]:
                wide = (x if x is None or not x.is_floating_point() else x.float() for x in views)
                y, *others = definition(*wide, *ctx.settings)
                found = (y.to(given[0].dtype), *others)[:outputs]
                return tuple(x for x, g in zip(found, grads, strict=True) if g is not None)

            gradients = gradients_of(defined, given, [g for g in grads if g is not None])
        else:
            found = backward(*grads, *kept, *given, *ctx.settings)
            gradients = (None if x is None else g for x, g in zip(given[:-1], found, strict=True))
        gradients = tuple(gradients)
        return gradients + (None,) * (ctx.n_inputs - len(gradients))

    forward.register_autograd(backward_of_forward, setup_context=setup_context)

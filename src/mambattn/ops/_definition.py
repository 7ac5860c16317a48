"""Second derivatives of the ops that have a backward of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["gradients_of"]


def gradients_of(
    definition: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor | None], grad_outputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Give the gradient of each input as something that can be differentiated again, from the op's definition.

    A backward that works on buffers cannot be. Where autograd asks for a graph of the backward (it then runs with
    gradients enabled), the gradients come from here instead, at the cost of the loop: for Hessian-vector products and
    gradient penalties, which would leave the op's share out in silence otherwise.
    """
    # Views, because one tensor may be given twice and each place has a gradient of its own.
    views = [tensor if tensor is None else tensor.view_as(tensor) for tensor in inputs]
    wanted = [view for view in views if view is not None and view.requires_grad]
    found = iter(torch.autograd.grad(definition(*views), wanted, grad_outputs, create_graph=True))
    return tuple(None if view is None or not view.requires_grad else next(found) for view in views)

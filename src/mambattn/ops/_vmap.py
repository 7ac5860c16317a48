"""torch.vmap over the ops: members lie side by side, as channels, heads or rows of one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.utils._pytree import tree_leaves

from mambattn._errors import ConfigError

__all__ = ["is_under_vmap", "lay_side_by_side", "run_members"]

Axes = tuple[int, ...]

_axes: dict[str, tuple[Axes, Axes]] = {}


def lay_side_by_side(op: str, tensors: Axes, outputs: Axes) -> None:
    """Say along which axes one call of an op can serve many members at once.

    Parameters
    ----------
    op : str
        Name of the op.
    tensors : tuple of int
        For each tensor of the op, in its order, the axis along which the members of a population are laid: that of
        channels, heads or groups, which an op works on one by one, or of the batch.
    outputs : tuple of int
        Likewise for what it returns.
    """
    _axes[op] = tensors, outputs


def is_under_vmap(tensors: Sequence[Any]) -> bool:
    """Say whether torch.vmap has put a hidden axis on a tensor.

    Parameters
    ----------
    tensors : sequence
        Arguments of an op; what is no tensor counts for nothing.

    Returns
    -------
    bool
        Whether there is such an axis; False inside torch.compile, which sees none.
    """
    if torch.compiler.is_compiling():
        return False
    # torch has no public name for this question; the one here has been the same since torch 2.0.
    return any(is_batchedtensor(x) for x in tensors if isinstance(x, Tensor))


def run_members(run: Callable[..., Any], op: str, backend: str, tensors: Sequence[Tensor | None], options: Any) -> Any:
    """Run an op once for all members of a torch.vmap.

    Parameters
    ----------
    run : callable
        `mambattn.ops._dispatch.run`.
    op : str
        Name of the op.
    backend : str
        Its backend, as in `run`.
    tensors : sequence of Tensor or None
        The arguments of a floating type.
    options : tuple
        What else the implementations take.

    Returns
    -------
    object
        What `run` would return for each member, stacked.
    """
    return _Members.apply(run, op, backend, options, *tensors)


class _Members(torch.autograd.Function):
    """Only the door through which torch.vmap hands over the tensors with the hidden axis in sight.

    What runs behind it are ordinary calls, so that autograd records those and needs nothing from here.
    """

    @staticmethod
    def forward(run: Callable[..., Any], op: str, backend: str, options: Any, *tensors: Tensor | None) -> Any:
        return run(op, backend, tensors, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: see the class."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        run, op, backend, options, *tensors = inputs
        if any(dim is not None for dim in tree_leaves(in_dims[3])):
            raise ConfigError(
                f"Under torch.vmap all members of {op} must share `seq_idx`, however it is mapped over. Call the op "
                "for one member after the other, or give that argument in_dims=None."
            )
        along, of_outputs = _axes[op]
        laid = tuple(
            None if x is None else _lay(_members_first(x, dim, info.batch_size), axis)
            for x, dim, axis in zip(tensors, in_dims[4:], along, strict=True)
        )
        result = run(op, backend, laid, *options)
        found = result if isinstance(result, tuple) else (result,)
        apart = tuple(
            None if y is None else y.unflatten(axis, (info.batch_size, -1)).movedim(axis, 0)
            for y, axis in zip(found, of_outputs, strict=True)
        )
        dims = tuple(None if y is None else 0 for y in apart)
        return (apart, dims) if isinstance(result, tuple) else (apart[0], dims[0])


def _members_first(x: Tensor, dim: int | None, n_members: int) -> Tensor:
    return x.expand(n_members, *x.shape) if dim is None else x.movedim(dim, 0)


def _lay(x: Tensor, axis: int) -> Tensor:
    return x.movedim(0, axis).flatten(axis, axis + 1)

"""What is timed: plain loops, backends and peers, all called in one way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Contender", "Outcome", "Trial"]

Outcome = tuple[Tensor, ...]


@dataclass(frozen=True)
class Contender:
    """One implementation of an op.

    Parameters
    ----------
    name : str
        What it is called in the results.
    run : callable
        Maps the tensors of a case, by name, to the output or a tuple of outputs.
    is_channels_first : bool, default False
        Whether it takes and gives sequences as (batch, channels, seq_len).
    forms_states : bool, default False
        Whether it holds the states of all tokens in memory at once.
    max_seq_len : int or None, default None
        Longest sequence that it is timed at; None for any.
    """

    name: str
    run: Callable[..., Any]
    is_channels_first: bool = False
    forms_states: bool = False
    max_seq_len: int | None = None


class Trial:
    """A contender with inputs of its own, in the layout that it wants.

    Parameters
    ----------
    contender : Contender
        What runs.
    inputs : dict of Tensor
        Tensors of the case, channels last.
    axes : dict of str
        A letter for each axis of each input, "b" the batch and "t" the tokens; gradients are wanted of these inputs.
    """

    def __init__(self, contender: Contender, inputs: Mapping[str, Tensor], axes: Mapping[str, str]) -> None:
        self._contender = contender
        self._turned = {n for n, letters in axes.items() if contender.is_channels_first and letters[:2] == "bt"}
        self._leaves = {
            n: (x.transpose(1, 2).contiguous() if n in self._turned else x.detach().clone()).requires_grad_()
            for n, x in inputs.items()
        }
        self._weights: Outcome = ()

    def forward(self) -> Outcome:
        """Run it without gradients.

        Returns
        -------
        tuple of Tensor
            Its outputs, in its own layout.
        """
        with torch.no_grad():
            return _as_tuple(self._contender.run(**self._leaves))

    def both(self) -> tuple[Outcome, Outcome]:
        """Run it with gradients of all inputs.

        Returns
        -------
        outputs : tuple of Tensor
            In its own layout.
        gradients : tuple of Tensor
            In the order of the inputs.
        """
        outputs = _as_tuple(self._contender.run(**self._leaves))
        if not self._weights:
            # Contiguous in the contender's own layout, so that it has no copy to make.
            self._weights = tuple(self._turn(_functional(self._turn(y))).contiguous() for y in outputs)
        return outputs, torch.autograd.grad(outputs, list(self._leaves.values()), self._weights)

    def results(self, *, backward: bool) -> tuple[Outcome, dict[str, Tensor]]:
        """Run it once and bring what it gives into the layout of the case.

        Parameters
        ----------
        backward : bool
            Whether gradients are wanted.

        Returns
        -------
        outputs : tuple of Tensor
            Channels last.
        gradients : dict of Tensor
            By the name of the input; empty without `backward`.
        """
        outputs, gradients = self.both() if backward else (self.forward(), ())
        named = dict(zip(self._leaves, gradients, strict=True)) if backward else {}
        turned = {n: g.transpose(1, 2) if n in self._turned else g for n, g in named.items()}
        return tuple(self._turn(y).detach() for y in outputs), turned

    def _turn(self, y: Tensor) -> Tensor:
        """Bring an output from the contender's layout into ours, or back."""
        return y.transpose(1, 2) if self._contender.is_channels_first else y


def _functional(y: Tensor) -> Tensor:
    """Give the gradient of a random functional of an output: a wave along each axis, so that a part of it fits a part.

    Drawn by position rather than in sequence: the part of a batch that is checked gets the part of the gradient.
    """
    weight = torch.ones((), dtype=torch.float64)
    for axis, size in enumerate(y.shape):
        wave = torch.cos(torch.arange(size, dtype=torch.float64) * (1.7 + 0.6 * axis) + axis)
        weight = weight[..., None] * wave if axis else wave
    return weight.to(device=y.device, dtype=y.dtype)


def _as_tuple(outputs: Any) -> Outcome:
    return outputs if isinstance(outputs, tuple) else (outputs,)

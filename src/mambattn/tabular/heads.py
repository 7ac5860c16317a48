"""From one vector a row to the outputs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mambattn.nn import Linear

__all__ = ["Head"]


class Head(nn.Module):
    """An MLP with ReLU: dropout stands on the input of every layer, the last included.

    Parameters
    ----------
    d_in : int
        Width of the input.
    layer_sizes : sequence of int
        Hidden widths; empty for a single linear map.
    n_outputs : int
        Numbers a row: classes, 1 for two classes where they share a logit, 1 for a regression.
    dropout : float, default 0.0
        Probability of the dropout.

    Examples
    --------
    >>> Head(8, (4,), 1, dropout=0.5)
    Head(
      (layers): Sequential(
        (0): Dropout(p=0.5, inplace=False)
        (1): Linear(in_features=8, out_features=4, bias=True)
        (2): ReLU()
        (3): Dropout(p=0.5, inplace=False)
        (4): Linear(in_features=4, out_features=1, bias=True)
      )
    )
    """

    def __init__(self, d_in: int, layer_sizes: Sequence[int], n_outputs: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in layer_sizes:
            layers += [nn.Dropout(dropout), Linear(d_in, size), nn.ReLU()]
            d_in = size
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout), Linear(d_in, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Give the outputs.

        Parameters
        ----------
        x : Tensor of shape (rows, d_in)
            A vector a row.

        Returns
        -------
        Tensor of shape (rows, n_outputs)
            The outputs.
        """
        return self.layers(x)

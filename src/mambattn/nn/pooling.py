"""Poolings: the tokens of a row become one vector."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mambattn.nn._checks import check_one_of

__all__ = ["POOLING_METHODS", "AttentionPooling", "make_pooling"]


class _Reduction(nn.Module):
    """A pooling without parameters."""

    def __init__(self, method: str, reduce: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.method = method
        self._reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        return self._reduce(x)

    def extra_repr(self) -> str:
        return repr(self.method)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=1)


def _max(x: Tensor) -> Tensor:
    return x.amax(dim=1)


def _sum(x: Tensor) -> Tensor:
    return x.sum(dim=1)


def _last(x: Tensor) -> Tensor:
    return x[:, -1]


class AttentionPooling(nn.Module):
    """Weighted mean of the tokens, the weights being the softmax of their products with a learned query.

    ``y = Σ_j softmax_j(q · x_j / sqrt(d_model)) x_j``. The query starts at zero, so that training starts from the mean.

    Parameters
    ----------
    d_model : int
        Width of a token.

    Examples
    --------
    >>> tokens = torch.arange(6.0).reshape(1, 3, 2)
    >>> AttentionPooling(2)(tokens).detach()
    tensor([[2., 3.]])
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(d_model))

    def weights(self, x: Tensor) -> Tensor:
        """Return the weight of each token.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, seq_len)
            Weights that sum to 1.
        """
        return torch.softmax(x @ self.query / self.query.numel() ** 0.5, dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool the tokens.

        Parameters
        ----------
        x : Tensor of shape (batch, seq_len, d_model)
            Tokens.

        Returns
        -------
        Tensor of shape (batch, d_model)
            Their weighted mean.
        """
        return torch.einsum("bl,bld->bd", self.weights(x), x)


_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": _mean,
    "max": _max,
    "sum": _sum,
    "last": _last,
    "cls": _last,
}
POOLING_METHODS = (*_REDUCTIONS, "attention")


def make_pooling(method: str, d_model: int) -> nn.Module:
    """Make a pooling by name.

    Parameters
    ----------
    method : {"avg", "max", "sum", "last", "cls", "attention"}
        "avg", "max" and "sum" go over the tokens; "last" and "cls" read the last token, which is where a class token
        stands, so that a causal mixer has seen the others; "attention" is `AttentionPooling`.
    d_model : int
        Width of a token.

    Returns
    -------
    torch.nn.Module
        A module that maps (batch, seq_len, d_model) to (batch, d_model).

    Raises
    ------
    ConfigError
        If there is no pooling of that name.

    Examples
    --------
    >>> make_pooling("max", 2)(torch.arange(6.0).reshape(1, 3, 2))
    tensor([[4., 5.]])
    """
    check_one_of("pooling_method", method, POOLING_METHODS)
    if method == "attention":
        return AttentionPooling(d_model)
    return _Reduction(method, _REDUCTIONS[method])

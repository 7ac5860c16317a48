"""The norms of the library, by name."""

from collections.abc import Callable

from torch import Tensor, nn

from mambattn.nn._checks import check_one_of

__all__ = ["NORMS", "RMSNorm", "make_norm"]


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm, computed in the type of its weight: in float32 under autocast, as LayerNorm is.

    Parameters
    ----------
    d_model : int
        Width of the last axis.
    eps : float, default 1e-5
        Added to the mean square before the root.

    Examples
    --------
    >>> import torch
    >>> RMSNorm(2)(torch.tensor([3.0, 4.0])).detach()
    tensor([0.8485, 1.1314])
    """

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__(d_model, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Divide by the root mean square of the last axis and scale.

        Parameters
        ----------
        x : Tensor of shape (..., d_model)
            Input.

        Returns
        -------
        Tensor of shape (..., d_model)
            The normed input, in the type of the weight.
        """
        return super().forward(x.to(self.weight.dtype))


NORMS: dict[str, Callable[..., nn.Module]] = {"LayerNorm": nn.LayerNorm, "RMSNorm": RMSNorm}


def make_norm(name: str, d_model: int, *, eps: float = 1e-5) -> nn.Module:
    """Make a norm over the last axis, with a learned scale.

    ``LayerNorm`` (arXiv 1607.06450) is (x − mean) / sqrt(var + eps) · weight + bias, ``RMSNorm`` (arXiv 1910.07467,
    section 3) is x / sqrt(mean(x²) + eps) · weight.

    Parameters
    ----------
    name : {"LayerNorm", "RMSNorm"}
        Which norm.
    d_model : int
        Width of the last axis.
    eps : float, default 1e-5
        Added to the mean square before the root.

    Returns
    -------
    torch.nn.Module
        A module that maps (..., d_model) to the same shape.

    Raises
    ------
    ConfigError
        If there is no norm of that name.

    Examples
    --------
    >>> make_norm("RMSNorm", 8)
    RMSNorm((8,), eps=1e-05, elementwise_affine=True)
    """
    check_one_of("norm", name, tuple(NORMS))
    return NORMS[name](d_model, eps=eps)

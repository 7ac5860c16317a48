"""What the native backends can serve; the same for every op."""

import torch

from mambattn.ops._dispatch import Request
from mambattn.ops._native import library

__all__ = ["missing", "refuses"]


def missing() -> str | None:
    """Say why there are no compiled kernels here.

    Returns
    -------
    str or None
        The reason and its mend, or None.
    """
    return library.missing


def refuses(request: Request) -> str | None:
    """Say why tensors cannot be served.

    Parameters
    ----------
    request : Request
        The tensors.

    Returns
    -------
    str or None
        The reason, or None for float32 and lower precisions on the CPU.
    """
    if request.device.type != "cpu":
        return f"it serves CPU tensors, however the device is {request.device}"
    if request.dtype != torch.float32:
        return f"it computes in float32, however the inputs need {request.dtype}"
    return None

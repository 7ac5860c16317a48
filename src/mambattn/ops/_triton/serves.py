"""What the triton backends can serve; the same for every op."""

import importlib.util
import os
from collections.abc import Callable

import torch

from mambattn.ops._dispatch import Request

__all__ = ["MAX_STATES", "missing", "refuses", "refuses_above"]

MAX_STATES = 256
_IS_INSTALLED = importlib.util.find_spec("triton") is not None  # looked up once: torch.compile cannot trace it


def _interprets() -> bool:
    """Say whether triton runs its kernels in its own interpreter, in which they take CPU tensors: for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def missing() -> str | None:
    """Say why there are no GPU kernels here.

    Returns
    -------
    str or None
        The reason and its mend, or None.
    """
    if not _IS_INSTALLED:
        return "triton is not installed. Install it with pip install 'mambattn[triton]'"
    if not _interprets() and not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


def refuses(request: Request) -> str | None:
    """Say why tensors cannot be served.

    Parameters
    ----------
    request : Request
        The tensors.

    Returns
    -------
    str or None
        The reason, or None for float32 and lower precisions on a CUDA device.
    """
    if request.device.type != ("cpu" if _interprets() else "cuda"):
        return f"it serves CUDA tensors, however the device is {request.device}"
    if request.dtype != torch.float32:
        return f"it computes in float32, however the inputs need {request.dtype}"
    return None


def refuses_above(limit: int, name: str, argument: int) -> Callable[[Request], str | None]:
    """Give a function like `refuses` for kernels that hold a whole axis at once.

    Parameters
    ----------
    limit : int
        The largest size served.
    name : str
        Name of the axis, which is the last one of a tensor.
    argument : int
        Position of the tensor in the request.

    Returns
    -------
    callable
        Maps a `Request` to the reason, or to None.
    """

    def refuses_request(request: Request) -> str | None:
        tensor = request.tensors[argument]
        assert tensor is not None
        if tensor.shape[-1] > limit:
            return f"it serves {name} up to {limit}, however {name}={tensor.shape[-1]}"
        return refuses(request)

    return refuses_request

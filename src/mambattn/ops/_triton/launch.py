"""What the launches of all GPU kernels share."""

from functools import cache
from typing import Any

import torch

__all__ = ["launch", "power", "processors"]


def launch(kernel: Any, programs: int, *arguments: Any, **options: Any) -> None:
    """Run a kernel over a line of programs; where there are none, as for a batch of no rows, run nothing.

    Parameters
    ----------
    kernel : triton.JITFunction
        The kernel.
    programs : int
        How many programs.
    *arguments : object
        Tensors, None and numbers.
    **options : object
        Its constants, and num_warps.
    """
    if programs:
        kernel[(programs,)](*arguments, **options)


def power(n: int) -> int:
    """Give the smallest power of two that is at least n.

    Parameters
    ----------
    n : int
        A size of at least 1.

    Returns
    -------
    int
        The axis of a tile that holds it.
    """
    return 1 << (n - 1).bit_length()


@cache
def processors(device: torch.device) -> int:
    """Give the number of multiprocessors, by which work is cut.

    Parameters
    ----------
    device : torch.device
        Where the kernels run.

    Returns
    -------
    int
        The number; 16 stands for the processor that runs triton's interpreter.
    """
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 16

"""Where a network runs, in what precision, and with how many threads."""

from __future__ import annotations

import torch

from mambattn._errors import ConfigError

__all__ = ["autocast", "resolve_device"]


def resolve_device(name: str) -> torch.device:
    """Turn the setting `device` into a torch device.

    Parameters
    ----------
    name : str
        ``"auto"`` is CUDA where there is one, else the CPU; or the name of a torch device.

    Returns
    -------
    torch.device
        The device, with an index if it is a CUDA device.

    Raises
    ------
    ConfigError
        If the name is unknown to torch, or names a device that this machine lacks.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"`device` must be 'auto' or a torch device such as 'cpu' or 'cuda:0', however device={name!r}."
        ) from error
    if device.type == "cuda":
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise ConfigError(
                f"`device` is {name!r}, however this machine has {torch.cuda.device_count()} CUDA devices. "
                "Use device='auto' or 'cpu'."
            )
        return torch.device("cuda", index)
    try:
        torch.zeros(1).to(device).tolist()
    except (RuntimeError, AssertionError, ImportError) as error:  # NotImplementedError is a RuntimeError
        raise ConfigError(
            f"`device` is {name!r}, however this machine or this torch cannot compute on it. Use device='auto' or "
            "'cpu'."
        ) from error
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Give the autocast context of the setting `precision`.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"`` is bfloat16 on a CUDA device that has it, float32 elsewhere.
    device : torch.device
        Where the network runs.

    Returns
    -------
    torch.autocast
        A reusable ``with`` block; in float32 it does nothing.
    """
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = precision == "bfloat16" or (precision == "auto" and on_gpu)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

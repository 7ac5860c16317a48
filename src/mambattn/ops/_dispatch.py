"""Which implementation of an op runs: the only place that decides, and the only one that knows what is there."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mambattn._errors import BackendUnavailableError, ConfigError

__all__ = ["BACKENDS", "BackendStatus", "list_backends", "register", "resolve"]

BACKENDS = ("reference", "torch", "native", "triton")
_AUTO_ORDER = ("triton", "native", "torch")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendStatus:
    """What `list_backends` says of one op and backend.

    Parameters
    ----------
    op : str
        Name of the op.
    backend : str
        Name of the backend.
    available : bool
        Whether it can run on this machine.
    reason : str
        What it is, or why it cannot run and how to mend that.
    """

    op: str
    backend: str
    available: bool
    reason: str

    def __str__(self) -> str:
        """Give one line for people."""
        return f"{self.op} / {self.backend}: {'available' if self.available else 'not available'}, {self.reason}"


@dataclass(frozen=True)
class _Entry:
    implementation: Callable[..., Any]
    description: str
    missing: str | None
    refuses: Callable[[torch.device, torch.dtype], str | None]


_registry: dict[str, dict[str, _Entry]] = {}


def _refuses_nothing(device: torch.device, dtype: torch.dtype) -> str | None:
    return None


def register(
    op: str,
    backend: str,
    implementation: Callable[..., Any],
    description: str,
    *,
    missing: str | None = None,
    refuses: Callable[[torch.device, torch.dtype], str | None] = _refuses_nothing,
) -> None:
    """Enter one implementation of an op; called once by the op's own package when it is imported.

    Parameters
    ----------
    op : str
        Name of the op, as users call it.
    backend : str
        One of `BACKENDS`.
    implementation : callable
        What `resolve` returns; every backend of an op takes the same arguments.
    description : str
        A few words on what it is and what it serves, for `list_backends`.
    missing : str, optional
        Why it cannot run on this machine and how to mend that; None if it can.
    refuses : callable, optional
        Maps device and dtype to the reason why it cannot serve them, or to None if it can.
    """
    _registry.setdefault(op, {})[backend] = _Entry(implementation, description, missing, refuses)


def _no_kernel(backend: str) -> str:
    return f"this version of mambattn has no {backend} kernel for it"


def _why_not(op: str, backend: str, device: torch.device, dtype: torch.dtype) -> str | None:
    entry = _registry[op].get(backend)
    if entry is None:
        return _no_kernel(backend)
    return entry.missing or entry.refuses(device, dtype)


def resolve(op: str, backend: str, device: torch.device, dtype: torch.dtype) -> Callable[..., Any]:
    """Pick the implementation of an op for inputs of a device and dtype.

    Parameters
    ----------
    op : str
        Name of the op.
    backend : str
        One of `BACKENDS`, or "auto": the first of triton, native and torch that can serve the inputs.
    device : torch.device
        Where the inputs are.
    dtype : torch.dtype
        What the op computes in.

    Returns
    -------
    callable
        The implementation.

    Raises
    ------
    ConfigError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend named is missing or cannot serve the inputs.
    """
    if backend == "auto":
        backend = next(name for name in _AUTO_ORDER if _why_not(op, name, device, dtype) is None)
        # A logging call cannot be traced, and under torch.compile the choice is made once for the whole graph.
        if not torch.compiler.is_compiling():
            _log.debug("%s: auto runs %s for %s on %s", op, backend, dtype, device)
    elif backend not in BACKENDS:
        raise ConfigError(
            f"`backend` must be 'auto' or one of {', '.join(map(repr, BACKENDS))}, however backend={backend!r}."
        )
    else:
        reason = _why_not(op, backend, device, dtype)
        if reason is not None:
            raise BackendUnavailableError(
                f"`backend`={backend!r} cannot run {op}: {reason}. Use backend='auto', which takes the best one "
                f"that can; mambattn.ops.list_backends() shows them all."
            )
    return _registry[op][backend].implementation


def list_backends() -> tuple[BackendStatus, ...]:
    """Say for every op and backend whether it can run here, and why not.

    Returns
    -------
    tuple of BackendStatus
        One for each op and backend, with the fields `op`, `backend`, `available` and `reason`.

    Examples
    --------
    >>> from mambattn.ops import list_backends
    >>> print(next(b for b in list_backends() if b.op == "selective_scan" and b.backend == "reference"))
    selective_scan / reference: available, sequential loop, the definition
    """
    rows = []
    for op, entries in _registry.items():
        for backend in BACKENDS:
            entry = entries.get(backend)
            if entry is None:
                rows.append(BackendStatus(op, backend, False, _no_kernel(backend)))
            else:
                rows.append(BackendStatus(op, backend, entry.missing is None, entry.missing or entry.description))
    return tuple(rows)

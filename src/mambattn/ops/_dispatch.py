"""Which implementation of an op runs: the only place that decides, and the only one that knows what is there."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambattn._errors import BackendUnavailableError, ConfigError
from mambattn.ops._checks import compute_dtype
from mambattn.ops._vmap import is_under_vmap, run_members

__all__ = [
    "BACKENDS",
    "VARIABLE",
    "BackendStatus",
    "Request",
    "constant_when_compiled",
    "forward_only",
    "list_backends",
    "register",
    "run",
]

BACKENDS = ("reference", "torch", "native", "triton")
_AUTO_ORDER = ("triton", "native", "torch")
VARIABLE = "MAMBATTN_BACKEND"
"""Environment variable that names the backend for calls that leave the choice open."""

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
class Request:
    """What an op is asked to work on, for a backend to say whether it can.

    Parameters
    ----------
    tensors : tuple of Tensor or None
        The arguments of a floating type, in the op's order.
    options : tuple
        What else the implementation takes, after the tensors.
    """

    tensors: tuple[Tensor | None, ...]
    options: tuple[Any, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(x for x in self.tensors if x is not None).device

    @property
    def dtype(self) -> torch.dtype:
        """What the op computes in: the widest type among the tensors, at least float32."""
        return compute_dtype(*self.tensors)

    @property
    def differentiable(self) -> bool:
        """Whether autograd will want gradients."""
        return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in self.tensors)


@dataclass(frozen=True)
class _Entry:
    implementation: Callable[..., Any]
    description: str
    missing: Callable[[], str | None]
    refuses: Callable[[Request], str | None]
    suits: Callable[[Request], bool]
    takes_any_type: bool


def forward_only(refuses: Callable[[Request], str | None]) -> Callable[[Request], str | None]:
    """Give a function like `refuses` for a kernel without a backward, such as that of a step.

    Parameters
    ----------
    refuses : callable
        Maps a `Request` to the reason why it cannot be served, or to None.

    Returns
    -------
    callable
        The same, and it refuses where autograd will want gradients.
    """

    def refuses_gradients(request: Request) -> str | None:
        if request.differentiable:
            return "it computes no gradients, however an input requires one; call it under torch.no_grad()"
        return refuses(request)

    return refuses_gradients


_registry: dict[str, dict[str, _Entry]] = {}


def _never_missing() -> str | None:
    return None


def _refuses_nothing(request: Request) -> str | None:
    return None


def _suits_all(request: Request) -> bool:
    return True


def register(
    op: str,
    backend: str,
    implementation: Callable[..., Any],
    description: str,
    *,
    missing: Callable[[], str | None] = _never_missing,
    refuses: Callable[[Request], str | None] = _refuses_nothing,
    suits: Callable[[Request], bool] = _suits_all,
    takes_any_type: bool = False,
) -> None:
    """Enter one implementation of an op; called once by the op's own package when it is imported.

    Parameters
    ----------
    op : str
        Name of the op, as users call it.
    backend : str
        One of `BACKENDS`.
    implementation : callable
        What `run` calls: with the tensors, then the options; every backend of an op takes the same arguments.
    description : str
        A few words on what it is and what it serves, for `list_backends`.
    missing : callable, optional
        Says why it cannot run on this machine and how to mend that; None if it can.
    refuses : callable, optional
        Maps a `Request` to the reason why it cannot be served, or to None if it can.
    suits : callable, optional
        Says whether "auto" should take it for a `Request` that it can serve: not where the next one is faster.
    takes_any_type : bool, default False
        Whether the implementation takes tensors of mixed types and computes in the request's dtype itself; others get
        all tensors in that dtype.
    """
    _registry.setdefault(op, {})[backend] = _Entry(implementation, description, missing, refuses, suits, takes_any_type)


def _no_kernel(backend: str) -> str:
    return f"this version of mambattn has no {backend} kernel for it"


def _why_not(op: str, backend: str, request: Request) -> str | None:
    entry = _registry[op].get(backend)
    if entry is None:
        return _no_kernel(backend)
    return entry.missing() or entry.refuses(request)


def _is_best(op: str, backend: str, request: Request) -> bool:
    entry = _registry[op].get(backend)
    return entry is not None and entry.suits(request) and not (entry.missing() or entry.refuses(request))


def _check_name(name: str, backend: str) -> None:
    if backend not in BACKENDS:
        raise ConfigError(
            f"`{name}` must be 'auto' or one of {', '.join(map(repr, BACKENDS))}, however {name}={backend!r}."
        )


def constant_when_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile call a function once instead of tracing it.

    The mark is that of torch.compiler.assume_constant_result, which would load torch's compiler, and triton with it,
    whenever the ops are imported: as long a wait as for torch itself.

    Parameters
    ----------
    function : callable
        Its answer depends on the machine and the process only.

    Returns
    -------
    callable
        The same function.
    """
    function._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
    return function


@constant_when_compiled
def _from_environment() -> str:
    return os.environ.get(VARIABLE, "") or "auto"


def _choose(op: str, backend: str, request: Request) -> str:
    """Give the name of the backend that serves a request."""
    asked_by = "backend"
    if backend == "auto":
        backend, asked_by = _from_environment(), VARIABLE
        # One variable is for all ops, and not every op has a kernel of every kind.
        if backend in BACKENDS and backend not in _registry[op]:
            backend = "auto"
    if backend == "auto":
        # Triton takes CPU tensors only in its interpreter, which is for tests.
        order = _AUTO_ORDER[1:] if request.device.type == "cpu" else _AUTO_ORDER
        backend = next(name for name in order if _is_best(op, name, request))
        # A logging call cannot be traced, and under torch.compile the choice is made once for the whole graph.
        if not torch.compiler.is_compiling() and _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: auto runs %s for %s on %s", op, backend, request.dtype, request.device)
        return backend
    _check_name(asked_by, backend)
    reason = _why_not(op, backend, request)
    if reason is not None:
        raise BackendUnavailableError(
            f"`{asked_by}`={backend!r} cannot run {op}: {reason}. Use 'auto', which takes the best one "
            f"that can; mambattn.ops.list_backends() shows them all."
        )
    return backend


def run(op: str, backend: str, tensors: Sequence[Tensor | None], *options: Any) -> Any:
    """Run an op on checked arguments with the backend named, or with the best one.

    Parameters
    ----------
    op : str
        Name of the op.
    backend : str
        One of `BACKENDS`, or "auto": that of the environment variable MAMBATTN_BACKEND if the op has it, else the
        first of triton, native and torch that can serve the call and suits it.
    tensors : sequence of Tensor or None
        The arguments of a floating type, in the op's order.
    *options : object
        What else the implementations take, after the tensors.

    Returns
    -------
    object
        What the implementation returns.

    Raises
    ------
    ConfigError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend named is missing or cannot serve the tensors.
    """
    if is_under_vmap((*tensors, *options)):
        return run_members(run, op, backend, tensors, options)
    request = Request(tuple(tensors), options)
    entry = _registry[op][_choose(op, backend, request)]
    if not entry.takes_any_type:
        dtype = request.dtype
        tensors = [x if x is None else x.to(dtype) for x in tensors]
    return entry.implementation(*tensors, *options)


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
                problem = entry.missing()
                rows.append(BackendStatus(op, backend, problem is None, problem or entry.description))
    return tuple(rows)

"""Where cells run: in this process, on worker processes, or on a Ray cluster; everywhere to the same result."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any
from urllib.parse import urlsplit

from mambattn._errors import BackendUnavailableError, ConfigError, MambAttnError
from mambattn.training.workers import open_pool

__all__ = ["run_here", "run_on_ray", "run_on_workers"]

Call = tuple[Any, ...]

_KEPT = "With the same `out`, the cells that are done are kept, and the others go on from their checkpoints."
_N_RETRIES = 10
_PATIENCE = 10.0  # seconds for an address to answer; Ray alone would ask for minutes

_log = logging.getLogger(__name__)


def run_here(function: Callable[..., Any], calls: Iterable[Call]) -> Iterator[Any]:
    """Run one call after the other.

    Parameters
    ----------
    function : callable
        What to call.
    calls : iterable of tuple
        The arguments of each call.

    Yields
    ------
    object
        The results, in order.
    """
    for call in calls:
        yield function(*call)


def run_on_workers(function: Callable[..., Any], calls: Iterable[Call], n_workers: int) -> Iterator[Any]:
    """Run calls on processes of this machine.

    Parameters
    ----------
    function : callable
        What to call; importable.
    calls : iterable of tuple
        The arguments of each call.
    n_workers : int
        Processes.

    Yields
    ------
    object
        The results, as they come.

    Raises
    ------
    MambAttnError
        If a process is killed.
    """
    with open_pool(n_workers, mend=f"Use fewer workers than {n_workers}. {_KEPT}") as pool:
        running = {pool.submit(function, *call) for call in calls}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            # A killed worker ends the whole pool: what others finished before it is not lost.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                yield future.result()


def run_on_ray(
    function: Callable[..., Any], calls: Iterable[Call], address: str, *, n_cpus: int, n_gpus: int
) -> Iterator[Any]:
    """Run calls on a Ray cluster; those of a node that is lost are run again elsewhere.

    Parameters
    ----------
    function : callable
        What to call; the nodes must have the same version of this package.
    calls : iterable of tuple
        The arguments of each call.
    address : str
        Of the cluster: "auto" for the one this machine belongs to, "local" for one of this machine alone, or
        "host:port".
    n_cpus, n_gpus : int
        What a call occupies.

    Yields
    ------
    object
        The results, as they come.

    Raises
    ------
    ConfigError
        If the address is of Ray's client.
    BackendUnavailableError
        If Ray is not installed or there is no cluster at the address.
    MambAttnError
        If nodes or processes were lost again and again.
    """
    try:
        import ray
    except ImportError as error:
        raise BackendUnavailableError(
            "`ray` needs the package ray, however it is not installed. Install it with: pip install 'mambattn[ray]'"
        ) from error
    if "://" in address:  # Ray's client, which starts late and may wait for ever for what a lost connection sent
        raise ConfigError(
            f"`ray` must be 'auto', 'local' or 'host:port', however ray={address!r}. Run on a machine of the cluster, "
            "and use 'auto'."
        )
    ours = not ray.is_initialized()
    try:
        if ours:
            _knock(os.environ.get("RAY_ADDRESS", address) if address == "auto" else address)
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise BackendUnavailableError(
            f"There is no Ray cluster at ray={address!r} ({error}). Start one with `ray start --head`, or use 'local'."
        ) from error
    pending = []
    try:
        if not any(_has_room(node, n_cpus, n_gpus) for node in ray.nodes()):
            _log.warning("No node of the Ray cluster has %d CPUs and %d GPUs; waiting for one.", n_cpus, n_gpus)
        remote = ray.remote(function).options(num_cpus=n_cpus, num_gpus=n_gpus, max_retries=_N_RETRIES)
        pending = [remote.remote(*call) for call in calls]
        while pending:
            done, pending = ray.wait(pending, num_returns=1)
            yield _result(ray, done[0])
    finally:
        if ours:
            ray.shutdown()
        else:
            for call in pending:
                ray.cancel(call, force=True)


def _knock(address: str) -> None:
    """Raise an OSError unless something listens at an address, or soon does."""
    parts = urlsplit(f"//{address}")
    deadline = time.monotonic() + _PATIENCE
    while parts.hostname and parts.port:
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=_PATIENCE).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _has_room(node: Mapping[str, Any], n_cpus: int, n_gpus: int) -> bool:
    has = node["Resources"].get
    return node["Alive"] and has("CPU", 0) >= n_cpus and has("GPU", 0) >= n_gpus


def _result(ray: Any, call: Any) -> Any:
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise MambAttnError(
            f"A cell was lost on the Ray cluster {_N_RETRIES + 1} times, most often for lack of memory. Use larger "
            f"nodes. {_KEPT}"
        ) from error

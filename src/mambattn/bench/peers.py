"""Other libraries on the same work, where they are installed: the one place that imports them."""

import importlib
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from mambattn.bench.cases import Case
from mambattn.bench.contender import Contender

__all__ = ["peers"]


def _import(module: str) -> Any:
    """Import a module of a peer, or return why that failed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return str(error)


def _around(scan: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor):
    """Give a scan that takes softplus(dt + bias) and adds D u the gate that it lacks."""
    return scan(u, softplus(dt + dt_bias), A, B, C, D) * silu(z)


def _mambapy(module: Any) -> Contender:
    def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        states = module.pscan(torch.exp(dt[..., None] * A), (dt * u)[..., None] * B[:, :, None])
        return (states @ C[..., None])[..., 0] + D * u

    return Contender("mamba.py pscan", partial(_around, scan), forms_states=True)


def _deeptab(module: Any) -> Contender:
    def scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        block = SimpleNamespace(d_inner=A.shape[0], d_state=A.shape[1], use_pscan=False)
        return module.MambaBlock.selective_scan_seq(block, u, dt, A, B, C, D)

    # Its backward is quadratic in the length.
    return Contender("DeepTab loop", partial(_around, scan), forms_states=True, max_seq_len=128)


def _transformers(module: Any) -> Contender:
    def run(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor) -> Tensor:
        return module.mamba_selective_scan(u, dt, A, B, C, D, z=z, delta_bias=dt_bias, delta_softplus=True)

    return Contender("transformers", run, is_channels_first=True, forms_states=True, max_seq_len=128)


def _mamba_ssm_scan(module: Any) -> Contender:
    def run(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor) -> Tensor:
        return module.selective_scan_fn(u, dt, A, B, C, D, z=z, delta_bias=dt_bias, delta_softplus=True)

    return Contender("mamba_ssm", run, is_channels_first=True)


def _mamba_ssm_ssd(module: Any) -> Contender:
    def run(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor) -> Tensor:
        return module.mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size=256, D=D, dt_bias=dt_bias, dt_softplus=True)

    return Contender("mamba_ssm", run)


_PEERS = {
    ("selective_scan", "cpu"): (
        ("mambapy.pscan", _mambapy),
        ("transformers.models.mamba.modeling_mamba", _transformers),
        ("deeptab.nn.blocks.mamba", _deeptab),
    ),
    ("selective_scan", "cuda"): (("mamba_ssm.ops.selective_scan_interface", _mamba_ssm_scan),),
    ("ssd", "cuda"): (("mamba_ssm.ops.triton.ssd_combined", _mamba_ssm_ssd),),
}


def peers(case: Case, device: torch.device) -> tuple[list[Contender], dict[str, str]]:
    """Give the peers that can run a case here, and why others cannot.

    Parameters
    ----------
    case : Case
        The case; peers run in float32 on the CPU, in either type on a GPU.
    device : torch.device
        Where it runs.

    Returns
    -------
    list of Contender
        Those that are installed.
    dict of str
        Reasons by module for the others.
    """
    found, missing = [], {}
    if device.type == "cpu" and case.dtype != "float32":
        return found, missing
    for name, make in _PEERS.get((case.op, device.type), ()):
        module = _import(name)
        if isinstance(module, str):
            missing[name] = module
        else:
            found.append(make(module))
    return found, missing

"""What a benchmark ran on."""

import importlib.util
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["machine"]


def machine(device: torch.device | None = None) -> dict[str, str]:
    """Describe the machine in a few words.

    Parameters
    ----------
    device : torch.device, optional
        Where the benchmark runs; a GPU is named too.

    Returns
    -------
    dict of str
        Processor, its vector instructions as torch names them, system, versions of Python, torch and triton, threads,
        date, and the load of the last minute: much above the threads, other work disturbs the times.

    Examples
    --------
    >>> from mambattn.bench import machine
    >>> sorted(machine())
    ['date', 'load', 'processor', 'python', 'system', 'threads', 'torch', 'triton', 'vectors']
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    about = {
        "processor": model or platform.processor() or platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "triton": version("triton") if importlib.util.find_spec("triton") is not None else "none",
        "threads": str(torch.get_num_threads()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }
    if device is not None and device.type == "cuda":
        about = {"gpu": torch.cuda.get_device_name(device), **about}
    return about

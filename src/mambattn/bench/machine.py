"""What a benchmark ran on."""

import platform
from pathlib import Path

import torch

__all__ = ["machine"]


def machine() -> dict[str, str]:
    """Describe the machine in a few words.

    Returns
    -------
    dict of str
        Processor, its vector instructions as torch names them, system, versions of Python and torch, and threads.

    Examples
    --------
    >>> from mambattn.bench import machine
    >>> sorted(machine())
    ['processor', 'python', 'system', 'threads', 'torch', 'vectors']
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return {
        "processor": model or platform.processor() or platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": str(torch.get_num_threads()),
    }

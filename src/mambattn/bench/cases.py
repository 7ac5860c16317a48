"""The registered cases: what is measured, at which sizes, in which type, on which device, and why."""

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mambattn._errors import ConfigError

__all__ = ["CASES", "SIZES", "Case", "select"]

SIZES = {
    "selective_scan": ("batch", "d_inner", "seq_len", "d_state"),
    "selective_scan_step": ("batch", "d_inner", "d_state"),
    "ssd": ("batch", "seq_len", "n_heads", "d_head", "d_state"),
    "ssd_step": ("batch", "n_heads", "d_head", "d_state"),
    "causal_conv1d": ("batch", "seq_len", "d_inner", "d_conv"),
    "causal_conv1d_step": ("batch", "d_inner", "d_conv"),
    "attention": ("batch", "seq_len", "n_heads", "d_head", "window"),
    "training_step": ("batch", "n_features"),
}
"""What the sizes of a case are, by op; "training_step" is a step of the default MambAttention on a table."""


@dataclass(frozen=True)
class Case:
    """One registered benchmark.

    Parameters
    ----------
    name : str
        What it is called on the command line.
    op : str
        One of `SIZES`.
    sizes : tuple of int
        The sizes that `SIZES` names.
    why : str
        What the case stands for.
    dtype : str, default "float32"
        Type of the sequences; weights and states are float32.
    devices : tuple of str, default ("cpu", "cuda")
        Types of device that it runs on.
    is_default : bool, default True
        Whether it runs when no case is asked for; the others take minutes.
    """

    name: str
    op: str
    sizes: tuple[int, ...]
    why: str
    dtype: str = "float32"
    devices: tuple[str, ...] = ("cpu", "cuda")
    is_default: bool = True

    def __getitem__(self, size: str) -> int:
        """Give a size by its name."""
        return self.sizes[SIZES[self.op].index(size)]

    def __str__(self) -> str:
        """Give one line for people."""
        sizes = ", ".join(f"{name} {size}" for name, size in zip(SIZES[self.op], self.sizes, strict=True))
        return f"{self.name}: {self.op}, {self.dtype}, {sizes}"

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as a dictionary for JSON.

        Returns
        -------
        dict
            Field names and values.
        """
        return asdict(self)


def _on_gpu(op: str, name: str, why: str, *sizes: int) -> list[Case]:
    """Give a case of a GPU in both types."""
    short = {"float32": "f32", "bfloat16": "bf16"}
    return [Case(f"{name}-{short[dtype]}", op, sizes, why, dtype, ("cuda",)) for dtype in short]


_CPU = ("cpu",)
CASES = (
    Case("scan-tables", "selective_scan", (256, 128, 12, 128), "a table of 12 columns, wide states", devices=_CPU),
    Case("scan-recall", "selective_scan", (64, 128, 64, 16), "a recall task", devices=_CPU),
    Case("scan-recall-long", "selective_scan", (64, 128, 512, 16), "a long one", devices=_CPU, is_default=False),
    Case("scan-text", "selective_scan", (1, 1536, 2048, 16), "a text, Mamba-130M", devices=_CPU, is_default=False),
    Case("scan-adult", "selective_scan", (128, 128, 14, 128), "default MambAttention on the 14 columns of adult"),
    Case("scan-wide", "selective_scan", (128, 128, 100, 128), "the same on a table of 100 columns", is_default=False),
    Case(
        "scan-text-bf16",
        "selective_scan",
        (1, 1536, 2048, 16),
        "a text under autocast on a CPU",
        "bfloat16",
        _CPU,
        is_default=False,
    ),
    *_on_gpu("selective_scan", "scan-gpu-130m", "Mamba-130M in training", 8, 1536, 2048, 16),
    *_on_gpu("selective_scan", "scan-gpu-large", "a large model in training", 32, 2048, 2048, 16),
    *_on_gpu("selective_scan", "scan-gpu-long", "one long sequence: few rows to share out", 1, 2048, 32768, 16),
    *_on_gpu("selective_scan", "scan-gpu-recall", "a recall task", 64, 128, 512, 16),
    *_on_gpu("selective_scan", "scan-gpu-wide", "a wide table", 256, 128, 64, 64),
    *_on_gpu("selective_scan", "scan-gpu-tables", "a table of 12 columns", 256, 128, 12, 128),
    Case("scan-step", "selective_scan_step", (1, 1536, 16), "generation, one sequence"),
    Case("scan-step-64", "selective_scan_step", (64, 1536, 16), "generation, 64 sequences"),
    Case("ssd-text", "ssd", (1, 2048, 24, 64, 64), "a text, Mamba-2-130M with half its states", devices=_CPU),
    *_on_gpu("ssd", "ssd-gpu-130m", "Mamba-2-130M in training", 8, 2048, 24, 64, 128),
    *_on_gpu("ssd", "ssd-gpu-long", "one long sequence", 1, 32768, 32, 64, 128),
    *_on_gpu("ssd", "ssd-gpu-large", "a large model in training", 32, 2048, 32, 64, 128),
    Case("ssd-step", "ssd_step", (1, 24, 64, 128), "generation, one sequence"),
    Case("ssd-step-64", "ssd_step", (64, 24, 64, 128), "generation, 64 sequences"),
    Case("conv-tables", "causal_conv1d", (256, 12, 128, 4), "a table of 12 columns"),
    Case("conv-text", "causal_conv1d", (1, 2048, 1536, 4), "a text, Mamba-130M", devices=_CPU),
    *_on_gpu("causal_conv1d", "conv-gpu-130m", "x, B and C of Mamba-2-130M", 8, 2048, 1792, 4),
    Case("conv-step", "causal_conv1d_step", (1, 1536, 4), "generation, one sequence"),
    Case("conv-step-64", "causal_conv1d_step", (64, 1536, 4), "generation, 64 sequences"),
    *(
        Case(f"window-{n}", "attention", (1, n, 4, 64, 256), "window attention", devices=_CPU, is_default=n == 1024)
        for n in (1024, 4096, 8192)
    ),
    *(
        Case(f"window-gpu-{n}", "attention", (1, n, 16, 64, 1024), "window attention", "bfloat16", ("cuda",))
        for n in (8192, 32768, 131072)
    ),
    Case("train-14", "training_step", (128, 14), "default MambAttention on the columns of adult: 6 numbers, 8 texts"),
    Case("train-100", "training_step", (128, 100), "the same on 100 numbers", is_default=False),
)


def select(names: Sequence[str], ops: Sequence[str], device: str, *, everything: bool = False) -> list[Case]:
    """Pick registered cases.

    Parameters
    ----------
    names : sequence of str
        Cases asked for by name; with names or ops given, cases that do not run by default are picked too.
    ops : sequence of str
        Ops asked for.
    device : str
        Type of the device, "cpu" or "cuda".
    everything : bool, default False
        Whether to pick those that do not run by default.

    Returns
    -------
    list of Case
        In the order in which they are registered.

    Raises
    ------
    ConfigError
        If there is no such case or op, or none for the device.
    """
    _check_known("case", names, [case.name for case in CASES])
    _check_known("op", ops, list(SIZES))
    picked = [
        case
        for case in CASES
        if device in case.devices
        and (not names or case.name in names)
        and (not ops or case.op in ops)
        and (case.is_default or everything or names or ops)
    ]
    if not picked:
        raise ConfigError(
            f"Some case must be registered for what is asked, however none is for device={device!r}, "
            f"case={', '.join(names) or 'any'}, op={', '.join(ops) or 'any'}. Leave one out, or see --list."
        )
    return picked


def _check_known(what: str, asked: Sequence[str], known: list[str]) -> None:
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "See --list."
            raise ConfigError(f"`{what}` must be a registered one, however {what}={name!r}. {hint}")

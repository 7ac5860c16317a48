"""Checks of tensor arguments shared by the ops: one wording for every shape, type and device error."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError

__all__ = ["check_floating", "check_integer", "check_seq_idx", "check_shape", "compute_dtype", "is_integer"]


def check_shape(name: str, tensor: Tensor, sizes_from: str, **axes: int | None) -> None:
    """Refuse a tensor whose axes are not ``axes``, in this order (None: any size, above 0 but for the batch)."""
    if tensor.ndim == len(axes) and all(
        size == wanted or (wanted is None and (size > 0 or axis == "batch"))
        for size, (axis, wanted) in zip(tensor.shape, axes.items(), strict=True)
    ):
        return
    shape = ", ".join(axis if size is None else f"{axis}={size}" for axis, size in axes.items())
    raise ShapeError(
        f"`{name}` must have the shape ({shape}), however {name}.shape={tuple(tensor.shape)}. "
        f"The layout is channels last and the sizes come from {sizes_from}: transpose, slice or expand `{name}`."
    )


def check_floating(like: str, **tensors: Tensor | None) -> None:
    """Refuse tensors that are not of a floating type, or not on the device of the one named ``like``."""
    for name, tensor in tensors.items():
        if tensor is not None and not tensor.is_floating_point():
            raise ShapeError(
                f"`{name}` must have a floating-point type, however {name}.dtype={tensor.dtype}. "
                f"Convert it, for example with {name}.float()."
            )
    model = tensors[like]
    assert model is not None
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != model.device:
            raise ShapeError(
                f"`{name}` must be on the device of `{like}`, however {name}.device={tensor.device} and "
                f"{like}.device={model.device}. Move it with {name}.to({like}.device)."
            )


def check_seq_idx(seq_idx: Tensor | None, batch: int, seq_len: int, device: torch.device) -> None:
    """Refuse a ``seq_idx`` that is not one whole number per token on ``device``."""
    if seq_idx is None:
        return
    if seq_idx.is_floating_point() or seq_idx.is_complex() or seq_idx.device != device:
        raise ShapeError(
            f"`seq_idx` must hold whole numbers on {device}, however seq_idx.dtype={seq_idx.dtype} and "
            f"seq_idx.device={seq_idx.device}. Pass one int64 sequence number per token."
        )
    check_shape("seq_idx", seq_idx, "the input", batch=batch, seq_len=seq_len)


def is_integer(value: object, *, at_least: int) -> bool:
    """Say whether the value is an integer, Python's or numpy's but no bool, of at least ``at_least``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= at_least


def check_integer(name: str, value: object, *, at_least: int, mend: str) -> None:
    """Refuse a setting that is no integer of at least ``at_least``; ``mend`` says what to do instead."""
    if not is_integer(value, at_least=at_least):
        raise ConfigError(f"`{name}` must be an integer of at least {at_least}, however {name}={value!r}. {mend}")


def compute_dtype(*tensors: Tensor | None, at_least: torch.dtype = torch.float32) -> torch.dtype:
    """Give the widest type among the tensors and ``at_least``."""
    dtype = at_least
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype

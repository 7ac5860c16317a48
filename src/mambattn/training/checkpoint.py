"""Model files: one safetensors file, the tensors as such and everything else as JSON in its header.

Nothing is ever unpickled. The header holds, under the key ``mambattn``, a JSON object with ``format_version``,
``model`` (the class), ``facts`` and ``sha256``: a digest of the others and of all tensors, so that a file damaged or
edited after it was written is refused rather than half believed. Equal models give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mambattn._errors import DataError
from mambattn.training.files import whole_file

__all__ = ["FORMAT_VERSION", "ModelFile", "check_keys", "digest", "load_weights"]

FORMAT_VERSION = 1
_KEYS = ("format_version", "model", "facts", "sha256")


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a model file holds.

    Parameters
    ----------
    model : str
        Name of the estimator's class.
    facts : dict
        JSON-ready values: configs, schema, classes and whatever else the class needs to be rebuilt.
    tensors : dict of str to torch.Tensor
        Weights and arrays, on the CPU.
    """

    model: str
    facts: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file; an older one at the same place is replaced in one step.

        Parameters
        ----------
        path : str or os.PathLike
            Where to write.

        Raises
        ------
        DataError
            If the folder is missing.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise DataError(f"There is no folder {str(target.parent)!r} to save a model in. Make it first.")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        content = {"format_version": FORMAT_VERSION, "model": self.model, "facts": self.facts}
        text = json.dumps(content | {"sha256": digest(content, tensors)})
        data = save(tensors, metadata={"mambattn": text})
        with whole_file(target) as part:
            part.write_bytes(data)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read and check a file.

        Parameters
        ----------
        path : str or os.PathLike
            A file that `write` made.

        Returns
        -------
        ModelFile
            Its content.

        Raises
        ------
        DataError
            If the file is missing, truncated, no model file, of a newer format, changed since it was written, or has
            keys that are unknown or missing.
        """
        target = Path(path)
        if not target.is_file():
            raise DataError(f"There is no model file at {str(target)!r}. Check the path.")
        try:
            with safe_open(target, framework="pt") as opened:
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{str(target)!r} must be a safetensors file, however it cannot be read as one ({error}): it is "
                "truncated or of another kind. Save the model again."
            ) from error
        if "mambattn" not in metadata:
            raise DataError(
                f"{str(target)!r} must be a model file of mambattn, however its header has no 'mambattn' entry: it is "
                "a safetensors file of another program. Give a file made by `save`."
            )
        content = _parse(target, metadata["mambattn"])
        checksum = content.pop("sha256")
        if checksum != digest(content, tensors):
            raise DataError(
                f"{str(target)!r} was changed after it was written: its checksum does not fit its content. "
                "Save the model again."
            )
        return cls(model=content["model"], facts=content["facts"], tensors=tensors)


def load_weights(network: nn.Module, tensors: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Put tensors into a network, refusing any that is missing, unknown, or of another shape or type.

    Parameters
    ----------
    network : torch.nn.Module
        The network; its parameters and buffers are overwritten.
    tensors : dict of str to torch.Tensor
        Values by the names of the network's state.
    source : str
        Name of the file, for the messages.

    Raises
    ------
    DataError
        If the tensors are not exactly those of the network.
    """
    state = network.state_dict()
    for fault, names in (("lacks", state.keys() - tensors.keys()), ("has the unknown", tensors.keys() - state.keys())):
        if names:
            raise DataError(
                f"{source!r} {fault} tensor {', '.join(map(repr, sorted(names)))} for the network that its settings "
                "describe. Save the model again."
            )
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
            raise DataError(
                f"{source!r}: tensor {name!r} must be {state[name].dtype} of shape {tuple(state[name].shape)}, however "
                f"it is {tensor.dtype} of shape {tuple(tensor.shape)}. Save the model again."
            )
    network.load_state_dict(dict(tensors))


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{str(path)!r}: the 'mambattn' entry of the header must be JSON, however {error}. Save the model again."
        ) from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(found, int) or found < 1:
        raise DataError(
            f"{str(path)!r}: `format_version` must be a positive integer, however format_version={found!r}. "
            "Save the model again."
        )
    if found > FORMAT_VERSION:
        raise DataError(
            f"{str(path)!r} has format version {found}, however this mambattn reads up to {FORMAT_VERSION}. "
            "Install a newer mambattn."
        )
    check_keys(content, _KEYS, source=str(path))
    if not isinstance(content["model"], str) or not isinstance(content["facts"], dict):
        raise DataError(
            f"{str(path)!r}: `model` must be a name and `facts` an object, however model={content['model']!r} and "
            f"`facts` is a {type(content['facts']).__name__}. Save the model again."
        )
    return content


def check_keys(found: Mapping[str, Any], wanted: tuple[str, ...], *, source: str) -> None:
    """Refuse a JSON object of a model file that has not exactly the keys wanted.

    Parameters
    ----------
    found : mapping
        The object.
    wanted : tuple of str
        Its keys.
    source : str
        Name of the file, for the messages.

    Raises
    ------
    DataError
        If a key is unknown or missing.
    """
    unknown, missing = [key for key in found if key not in wanted], [key for key in wanted if key not in found]
    if unknown:
        raise DataError(f"{source!r} has the unknown entry {unknown[0]!r}. Known: {', '.join(wanted)}.")
    if missing:
        raise DataError(f"{source!r} lacks the entry {missing[0]!r}. Save the model again.")


def digest(content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Give the checksum of a file's content.

    Parameters
    ----------
    content : mapping
        The JSON object, without the checksum.
    tensors : dict of str to torch.Tensor
        The tensors, on the CPU.

    Returns
    -------
    str
        SHA-256 of the object and of every tensor's name, type, shape and bytes, in hexadecimal.
    """
    total = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # an empty one may have strides that cannot be viewed as bytes
            total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()

"""Validate every public docstring with numpydoc, at run time, so that dataclass fields count as parameters.

Public is what a module of the package lists in ``__all__``, and the public methods that such a class defines itself.
The codes that must hold are in pyproject.toml, under ``tool.numpydoc_validation``.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from numpydoc.validate import validate

import mambattn

SETTINGS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]


def public_objects() -> Iterator[str]:
    """Yield the import path of each public class, function and method, once."""
    seen = set()
    for info in pkgutil.walk_packages(mambattn.__path__, "mambattn."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)) or id(thing) in seen:
                continue
            seen.add(id(thing))
            path = f"{info.name}.{name}"
            yield path
            if inspect.isclass(thing):
                for member, value in vars(thing).items():
                    plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
                    if not member.startswith("_") and inspect.isfunction(plain):
                        yield f"{path}.{member}"


def is_keyword_only(path: str) -> bool:
    """Say whether the path names a dataclass without positional fields."""
    module, _, name = path.rpartition(".")
    thing = getattr(importlib.import_module(module), name) if module in sys.modules else None
    return dataclasses.is_dataclass(thing) and all(field.kw_only for field in dataclasses.fields(thing))


def main() -> int:
    """Print each fault, and return how many there are."""
    faults = 0
    for path in public_objects():
        for code, message in validate(path)["errors"]:
            if code == "PR03" and is_keyword_only(path):
                continue  # the order of keyword-only fields is the reader's, not the call's
            if code in SETTINGS["checks"]:
                faults += 1
                sys.stderr.write(f"{path}: {code} {message}\n")
    sys.stderr.write(f"{faults} docstring faults\n")
    return min(faults, 1)


if __name__ == "__main__":
    raise SystemExit(main())

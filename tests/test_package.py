"""The package as a whole: what it exports, and what an import costs."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mambattn
from mambattn import _errors

ROOT = Path(mambattn.__file__).parent
MODULES = [
    ".".join(("mambattn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if path.stem != "__main__"
]
ROOMS = ["bench", "compare", "configs", "mixers", "models", "nn", "ops", "plots", "report", "schedule", "stack"]


@pytest.mark.parametrize("name", MODULES)
def test_all_names_exist_and_are_sorted_by_ruff(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    for entry in exported:
        assert hasattr(module, entry), f"{name}.__all__ names {entry!r}, which is not there"


@pytest.mark.parametrize("room", [*ROOMS, "tabular", "training"])
def test_every_room_says_what_is_public(room):
    assert importlib.import_module(f"mambattn.{room}").__all__


def test_nothing_inside_imports_the_top_level_package():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.Import):
                assert all(alias.name != "mambattn" for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert node.module != "mambattn" or {alias.name for alias in node.names} <= set(ROOMS), path


def test_every_package_that_is_imported_is_a_declared_dependency():
    project = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text("utf8"))["project"]
    peers = {"deeptab", "mamba_ssm", "mambapy"}  # measured by the benchmarks where they are installed
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[^\w-]", line)[0].replace("scikit-learn", "sklearn") for group in groups for line in group}
    imported = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            imported |= {name.partition(".")[0] for name in names}
    assert imported - set(sys.stdlib_module_names) - peers - declared <= {"mambattn"}


def test_the_error_tree():
    assert issubclass(_errors.ConfigError, ValueError)
    assert issubclass(_errors.ShapeError, ValueError)
    assert issubclass(_errors.DataError, ValueError)
    assert issubclass(_errors.BackendUnavailableError, ImportError)
    assert all(issubclass(getattr(_errors, name), _errors.MambAttnError) for name in _errors.__all__)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import mambattn, mambattn.schedule, sys; print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_importing_the_models_loads_neither_triton_nor_the_compiler_of_torch():
    code = "import mambattn.models, sys; print([m for m in ('triton', 'torch._dynamo') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"

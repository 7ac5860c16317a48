"""Building the package with and without a C compiler, each in a copy of the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SAY = """
import torch
from mambattn.ops import list_backends, selective_scan
native = next(b for b in list_backends() if (b.op, b.backend) == ("selective_scan", "native"))
one = torch.ones(1, 3, 1)
print(native.available, "|", native.reason, "|", selective_scan(one, one, torch.zeros(1, 1), one, one).flatten().tolist())
"""


def build(folder: Path, environment: dict[str, str]) -> Path:
    """Build a copy of the sources into `folder`, and return the folder to import from."""
    source = folder / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "*.so", "build_note.txt", "*.egg-info", "build")
    )
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(folder / "lib")]
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True, text=True)
    return folder / "lib"


def ask(library: Path) -> list[str]:
    """Import the package from a folder in a new process and ask it about its native backend."""
    environment = os.environ | {"PYTHONPATH": str(library)}
    answer = subprocess.run(
        [sys.executable, "-c", SAY], cwd=library, env=environment, check=True, capture_output=True, text=True
    )
    return [part.strip() for part in answer.stdout.split("|")]


def test_without_a_compiler_the_torch_backend_serves(tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "CC"} | {"PATH": str(empty)}
    library = build(tmp_path, environment)
    assert not list(library.rglob("*.so"))
    available, reason, values = ask(library)
    assert available == "False"
    assert reason.startswith("no C compiler (CC, cc, gcc or clang) was found when mambattn was built. Install gcc")
    assert values == "[1.0, 2.0, 3.0]"


def test_a_compiler_that_fails_is_named(tmp_path):
    library = build(tmp_path, os.environ | {"CC": "false"})
    available, reason, values = ask(library)
    assert available == "False"
    assert "the C compiler 'false' failed when mambattn was built" in reason
    assert values == "[1.0, 2.0, 3.0]"


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_a_wheel_serves_every_python_and_an_sdist_holds_the_sources(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist"))
    dist = tmp_path / "dist"
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(dist), "sdist", "-d", str(dist)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (wheel,) = dist.glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "lib")
    available, reason, values = ask(tmp_path / "lib")
    assert (available, values) == ("True", "[1.0, 2.0, 3.0]"), reason
    (sdist,) = dist.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "sdist", filter="data")
    names = {path.name for path in (tmp_path / "sdist").rglob("*")}
    assert {"scan.c", "scan.h", "lanes.h", "sequence.h", "isa.c", "setup.py"} <= names
    assert not any(name.endswith(".so") for name in names)

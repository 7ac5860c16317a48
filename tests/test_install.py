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


USE = """
from pathlib import Path
import torch, mambattn
from mambattn.ops import (
    attention, causal_conv1d, causal_conv1d_step, list_backends, selective_scan, selective_scan_step, ssd, ssd_step
)

assert Path(mambattn.__file__).is_relative_to(Path.cwd()), mambattn.__file__
torch.manual_seed(0)
new = torch.randn
A, maps, keys = -new(6, 5).exp(), [new(2, 9, 3, 5) for _ in range(2)], [new(2, 3, 5) for _ in range(2)]
calls = {
    selective_scan: (new(2, 9, 6), new(2, 9, 6).abs(), A, *maps, new(6)),
    ssd: (new(2, 9, 6, 4), new(2, 9, 6).abs(), A[:, 0], *maps, new(6)),
    causal_conv1d: (new(2, 9, 6), new(6, 4), new(6)),
    attention: tuple(new(2, 9, 3, 4) for _ in range(3)),
}
steps = {
    selective_scan_step: ((new(2, 6), new(2, 6).abs(), A, *keys, new(6)), new(2, 6, 5)),
    ssd_step: ((new(2, 6, 4), new(2, 6).abs(), A[:, 0], *keys, new(6)), new(2, 6, 4, 5)),
    causal_conv1d_step: ((new(2, 6), new(6, 4), new(6)), new(2, 3, 6)),
}
for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
    def equal(function, *given, gradients, **options):
        got, want = (
            function(*(x.to(dtype).to(kind).requires_grad_(gradients) for x in given), backend=backend,
                     **{name: x.to(dtype).to(kind) for name, x in options.items()})
            for backend, kind in (("native", dtype), ("reference", torch.float64))
        )
        got, want = (x if isinstance(x, tuple) else (x,) for x in (got, want))
        for x, truth in zip(got, want, strict=True):
            assert (x.double() - truth).norm() <= limit * truth.norm(), function
        if gradients:
            got[0].square().sum().backward()

    for function, given in calls.items():
        equal(function, *given, gradients=True)
    for function, (given, state) in steps.items():
        equal(function, *given, gradients=False, state=state)
served = {row.op for row in list_backends() if row.backend == "native" and row.available}
print(served == {function.__name__ for function in (*calls, *steps)})
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


def ask(library: Path, script: str = SAY) -> list[str]:
    """Import the package from a folder in a new process, and ask it about its native backend."""
    environment = os.environ | {"PYTHONPATH": str(library)}
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=library, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
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
    for path in (*source.glob("src/mambattn/**/*.css"), *source.glob("src/mambattn/**/*.js")):
        assert (tmp_path / "lib" / path.relative_to(source / "src")).is_file()
    available, reason, values = ask(tmp_path / "lib")
    assert (available, values) == ("True", "[1.0, 2.0, 3.0]"), reason
    assert ask(tmp_path / "lib", USE) == ["True"]
    (sdist,) = dist.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    files = {path.relative_to(unpacked) for path in unpacked.rglob("*")}
    assert {path.relative_to(source) for path in source.glob("src/mambattn/ops/*/csrc/*.[ch]")} <= files
    assert {"scan.c", "ssd.h", "conv.c", "attend.c", "lanes.h", "setup.py"} <= {path.name for path in files}
    assert not any(path.suffix == ".so" or path.parts[0] == "tests" for path in files)

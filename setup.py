"""Builds the C kernels with any C compiler found; everything declarative is in pyproject.toml.

The libraries know neither torch nor Python, so one wheel serves every version of both. Without a compiler the build
goes on: the package then holds a note that says why, and the torch backend serves.
"""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

PACKAGE = "mambattn.ops._native"
OPS = Path("src", "mambattn", "ops")
SOURCES = sorted(OPS.glob("*/csrc/*.c"))
HEADERS = sorted(OPS.glob("*/csrc/*.h"))
FLAGS = "-std=gnu11 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fPIC -shared"
ISAS = {"baseline": ""}
if platform.machine().lower() in {"x86_64", "amd64"}:
    ISAS |= {"avx2": "-mavx2 -mfma -mf16c", "avx512": "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma"}


def find_compiler() -> list[str] | None:
    """Give the command of a C compiler: that of CC, else the first of the usual names on PATH."""
    if "CC" in os.environ:
        return shlex.split(os.environ["CC"])
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def compile_library(flags: str, target: Path) -> str | None:
    """Compile one build of the sources, and return None, or why that failed."""
    compiler = find_compiler()
    if compiler is None:
        return "no C compiler (CC, cc, gcc or clang) was found when mambattn was built"
    # Made under another name and moved: a library that a running process has mapped must not be overwritten.
    fresh = target.with_suffix(".tmp")
    include = f"-I{OPS / '_native' / 'csrc'}"
    command = [*compiler, *FLAGS.split(), *flags.split(), include, *map(str, SOURCES), "-o", str(fresh)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        return f"the C compiler {compiler[0]!r} could not be run when mambattn was built ({error.strerror})"
    except subprocess.CalledProcessError as error:
        message = next((line for line in error.stderr.splitlines() if "error" in line), "no message")
        return f"the C compiler {compiler[0]!r} failed when mambattn was built ({message})"
    fresh.replace(target)
    return None


class BuildLibraries(build_ext):
    """Compile plain shared libraries, where setuptools would make an extension module of Python."""

    def run(self) -> None:
        """Compile one library for each instruction set, or leave a note for `mambattn.ops.list_backends`."""
        folder = OPS / "_native" if self.inplace else Path(self.build_lib, *PACKAGE.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        targets = {isa: folder / f"_mambattn_{isa}.so" for isa in ISAS}
        note = folder / "build_note.txt"
        note.unlink(missing_ok=True)
        for isa, target in targets.items():
            problem = compile_library(ISAS[isa], target)
            if problem is not None:
                self.warn(f"{problem}: the torch backend will serve")
                note.write_text(problem, encoding="utf-8")
                target.unlink(missing_ok=True)

    def get_outputs(self) -> list[str]:
        """Name what was built."""
        folder = Path(self.build_lib, *PACKAGE.split("."))
        return [str(path) for path in (*folder.glob("*.so"), *folder.glob("build_note.txt"))]

    def get_output_mapping(self) -> dict[str, str]:
        """Map nothing: an editable install builds in place."""
        return {}


class PlatformWheel(bdist_wheel):
    """Tag the wheel for the platform, and for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """Give the tags of Python, ABI and platform."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(f"{PACKAGE}._mambattn", sources=list(map(str, SOURCES)), depends=list(map(str, HEADERS))),
    ],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)

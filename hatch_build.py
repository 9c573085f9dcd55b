"""Compiles the engine's kernels while the project is installed or its wheel is built; see `engine/native_decoder.py`.

One library for each set of processor instructions that the compiler knows; the engine takes the best one that the
machine can run. Without a C++ compiler the installation goes on, and the engine uses PyTorch's slower kernels.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("server/homespun_server/engine/decoders/native")
# -ffp-contract=off: the compiler may not fuse or reorder what is rounded, or a row's result would depend on its
# neighbours. STATIC: a wheel must run where another version of the library is installed; not every compiler has it.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-pthread",
)
STATIC = ("-static-libstdc++", "-static-libgcc")
X86_64 = {
    "amx": ("-march=x86-64-v4", "-mavx512vnni", "-mamx-tile", "-mamx-int8"),
    "avx512vnni": ("-march=x86-64-v4", "-mavx512vnni"),
    "avxvnni": ("-march=x86-64-v3", "-mavxvnni"),
    "avx2": ("-march=x86-64-v3",),
    "portable": (),
}
OTHERS = {"portable": ()}


class KernelsHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or sys.platform != "linux":
            return
        built = compile_all(Path(self.root))
        if built and version != "editable":
            build_data["artifacts"] += [path.relative_to(self.root).as_posix() for path in built]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_all(root: Path) -> list[Path]:
    """The libraries that could be compiled; all others of an earlier time go."""
    folder = root / NATIVE
    built = _compiled(folder)
    for old in {*folder.glob("kernels-*.so*")} - {*built}:
        old.unlink()
    return built


def _compiled(folder: Path) -> list[Path]:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        print(
            "homespun: no C++ compiler found; completions will be slower (install g++ and set up again)",
            file=sys.stderr,
        )
        return []
    variants = X86_64 if platform.machine() == "x86_64" else OTHERS
    for static in (STATIC, ()):
        running = {name: _start(compiler, folder, name, (*flags, *static)) for name, flags in variants.items()}
        built = [path for name, process in running.items() if (path := _finish(process, folder, name)) is not None]
        if built:
            return built
    return []


def _start(compiler: str, folder: Path, name: str, flags: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [
        compiler,
        *FLAGS,
        *flags,
        f'-DSOURCES="{_digest(folder)}"',
        "-o",
        str(_unfinished(folder, name)),
        str(folder / "kernels.cpp"),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _digest(folder: Path) -> str:
    """As `native_decoder` computes it: a library of other sources is not loaded."""
    sources = sorted([*folder.glob("*.h"), *folder.glob("*.cpp")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def _finish(process: subprocess.Popen[str], folder: Path, name: str) -> Path | None:
    """An old compiler may not know the newest instructions: then that library is missing, and no more."""
    _, errors = process.communicate()
    if process.returncode:
        reason = next(iter(errors.strip().splitlines()), "no reason given")
        print(f"homespun: kernels for {name} can't be compiled here ({reason})", file=sys.stderr)
        return None
    return _unfinished(folder, name).replace(folder / f"kernels-{name}.so")


def _unfinished(folder: Path, name: str) -> Path:
    return folder / f"kernels-{name}.so.new"


if __name__ == "__main__":
    for path in compile_all(Path(__file__).parent):
        print(path)

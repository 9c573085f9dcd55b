"""Images without Docker: built by buildah and run by crun, both inside a Debian tree that mmdebstrap makes.

A chroot isn't enough for them, since they change the root themselves: the tree becomes the root of a mount namespace of
its own (pivot_root). Storage is plain folders (vfs), so that nothing of the kernel is needed but namespaces.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.clients.downloads import Unreachable, fetched, kept

_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_MMDEBSTRAP = "pool/main/m/mmdebstrap/mmdebstrap_1.3.5-7_all.deb"
_MMDEBSTRAP_SHA256 = "0ecb8da772c8e5b7f73b59cb6d1f02d789f8bcd9a6b5f19ed548fe12c26a76ca"
_MIRRORS = (_MIRROR, "http://snapshot.debian.org/archive/debian/20261128T000000Z")
_BUILDER = ("buildah", "ca-certificates", "crun", "skopeo", "umoci")
_BASE = ("ca-certificates", "python3", "python3-venv")
"""What an image of Python has."""
BASE_IMAGE = "localhost/python:test"
"""Stands for Docker Hub's python image, which no test may need."""


@cache
def builder() -> Path:
    """A Debian tree with buildah and crun in it, and the base image in its storage."""
    _require_namespaces()
    packages = (*_BUILDER, "|", *_BASE)
    name = f"images-{hashlib.sha256(' '.join((_SUITE, *packages)).encode()).hexdigest()[:12]}"
    return kept(name, _make_builder)


def _require_namespaces() -> None:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("images are built in tests on Linux on x86-64 only")
    if os.geteuid() != 0:
        pytest.skip("building images needs root here (mount namespaces and files of several users)")
    for program in ("unshare", "perl", "apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"building images needs {program}")
    probe = subprocess.run(["unshare", "-mnpf", "mount", "--make-rprivate", "/"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"building images needs namespaces, which this machine refuses: {probe.stderr.strip()}")


def _make_builder(folder: Path) -> None:
    tools = folder / "tools"
    tools.mkdir()
    package = folder / "package.deb"
    package.write_bytes(fetched((f"{mirror}/{_MMDEBSTRAP}" for mirror in _MIRRORS), _MMDEBSTRAP_SHA256))
    subprocess.run(["dpkg-deb", "-x", package, tools], check=True)
    package.unlink()
    _debian(tools, folder / "tree", _BUILDER)
    (folder / "tree/w").mkdir()
    _debian(tools, folder / "tree/base.tar", _BASE)
    inside(
        folder,
        f"c=$(buildah from scratch); buildah add -q $c /base.tar /; buildah commit -q --rm $c {BASE_IMAGE}; rm /base.tar",
    )


def _debian(tools: Path, target: Path, packages: Sequence[str]) -> None:
    """A small Debian, as a folder or as a .tar; signatures are checked with the machine's Debian keyring."""
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={','.join(packages)}"]
    for part in ("man", "doc", "locale"):
        command.append(f"--dpkgopt=path-exclude=/usr/share/{part}/*")
    environ = os.environ | {"PATH": f"{tools / 'usr/bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([*command, _SUITE, str(target), _MIRROR], env=environ, capture_output=True, text=True)
    if done.returncode:
        raise Unreachable(f"mmdebstrap failed ({' '.join(done.stderr.split()[-30:])})")


def inside(
    folder: Path, script: str, *, mounts: Mapping[str, Path] | None = None, network: bool = True, timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """What `sh` makes of `script` with the tree as its root; `mounts` are folders of ours, by their name there."""
    return subprocess.run(
        command(folder, script, mounts=mounts, network=network),
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout_s,
    )


def command(folder: Path, script: str, *, mounts: Mapping[str, Path] | None = None, network: bool = True) -> list[str]:
    root = shlex.quote(str(folder / "tree"))
    binds = "".join(
        f"mkdir -p {root}{name}; mount --rbind {shlex.quote(str(path))} {root}{name}\n"
        for name, path in (mounts or {}).items()
    )
    entry = f"""
mount --make-rprivate /
mount --bind {root} {root}
{binds}
touch {root}/etc/resolv.conf; mount --bind /etc/resolv.conf {root}/etc/resolv.conf
cd {root}
mount -t proc proc proc; mount --rbind /dev dev; mount --rbind /sys sys; mount -t tmpfs tmpfs run
mkdir -p old; pivot_root . old; umount -l /old
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset TMPDIR PYTHONPATH
exec sh -ec {shlex.quote(script)}
"""
    return ["unshare", "-mpf", *([] if network else ["-n"]), "sh", "-ec", entry]

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
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients.downloads import Unreachable, fetched, kept

_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_MMDEBSTRAP = "pool/main/m/mmdebstrap/mmdebstrap_1.3.5-7_all.deb"
_MMDEBSTRAP_SHA256 = "0ecb8da772c8e5b7f73b59cb6d1f02d789f8bcd9a6b5f19ed548fe12c26a76ca"
_MIRRORS = (_MIRROR, "http://snapshot.debian.org/archive/debian/20261128T000000Z")
_BUILDER = (
    *("aardvark-dns", "buildah", "ca-certificates", "catatonit", "containerd", "crun", "docker-registry", "iptables"),
    *("netavark", "podman", "python3-dotenv", "python3-yaml", "skopeo", "umoci"),
)
_BASE = ("ca-certificates", "python3", "python3-venv")
"""What an image of Python has."""
BASE_IMAGE = "localhost/python:test"
"""Stands for Docker Hub's python image, which no test may need."""
_PODMAN = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""Without systemd, its journal, cgroups and the right to raise limits."""


@cache
def builder() -> Path:
    """A Debian tree with buildah and crun in it, and the base image in its storage."""
    _require_namespaces()
    inputs = (_SUITE, *_BUILDER, "|", *_BASE, _PODMAN)
    name = f"images-{hashlib.sha256(' '.join(inputs).encode()).hexdigest()[:12]}"
    return kept(name, _make_builder)


def _require_namespaces() -> None:
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        pytest.skip("images are built in tests on Linux on x86-64 only")
    if os.geteuid() != 0:
        pytest.skip("building images needs root here (mount namespaces and files of several users)")
    for program in ("unshare", "perl", "apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"building images needs {program}")
    probe = subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True, text=True)
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
    (folder / "tree/etc/containers/containers.conf").write_text(_PODMAN)
    _debian(tools, folder / "tree/base.tar", _BASE)
    inside(
        folder,
        f"c=$(buildah from scratch); buildah add -q $c /base.tar /; buildah commit -q --rm $c {BASE_IMAGE}",
    )


def _debian(tools: Path, target: Path, packages: Sequence[str]) -> None:
    """A small Debian, as a folder or as a .tar; signatures are checked with the machine's Debian keyring."""
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")]
    environ = os.environ | {"PATH": f"{tools / 'usr/bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([*command, _SUITE, str(target), _MIRROR], env=environ, capture_output=True, text=True)
    if done.returncode:
        raise Unreachable(f"mmdebstrap failed ({' '.join(done.stderr.split()[-30:])})")


def inside(folder: Path, script: str, *, mounts: Mapping[str, Path] | None = None) -> subprocess.CompletedProcess[str]:
    """What `sh` makes of `script` with the tree as its root; `mounts` are folders of ours, by their name there.

    With an ordinary umask: tests that call the command in this process leave it at 077, and an image made so is its
    builder's alone.
    """
    return subprocess.run(
        command(folder, script, mounts=mounts),
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
        umask=0o022,
    )


def command(folder: Path, script: str, *, mounts: Mapping[str, Path] | None = None) -> list[str]:
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
mount -t tmpfs tmpfs sys/fs/cgroup  # crun refuses some machines' mixture of versions
mkdir -p old; pivot_root . old; umount -l /old
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset TMPDIR PYTHONPATH
exec sh -ec {shlex.quote(script)}
"""
    return ["unshare", "-m", "sh", "-ec", entry]


def alone(command: Sequence[str]) -> list[str]:
    """`command` in a network with a loopback and no route, whose processes all end with it."""
    words = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-ec"]
    return [*words, f'{shlex.join([sys.executable, "-c", _LOOPBACK])}; exec "$@"', "sh", *command]


_LOOPBACK = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
"""SIOCSIFFLAGS, IFF_UP: as `ip link set lo up`, which not every machine has."""


ROOT = Path(__file__).parents[2]
_INPUTS = ("pyproject.toml", "hatch_build.py", "constraints.txt", "core", "indexer", "trainer", "server", "lsp")
_DOCKER = ROOT / "deploy/docker"
_EXTRAS = {"gateway": "gateway,otel,postgres", "cpu": "server,trainer,otel,postgres"}
"""What each target of the Dockerfile installs."""
_TORCH_INDEX = ("--index-url", "https://download.pytorch.org/whl/cpu")


@cache
def wheelhouse(extras: str) -> Path:
    """All that an installation of these extras needs from an index, hatchling included, as pip finds it here."""
    pins = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"wheels-{version}-{hashlib.sha256(pins + extras.encode()).hexdigest()[:12]}"
    return kept(name, lambda folder: _download(folder, extras))


def _download(folder: Path, extras: str) -> None:
    wanted = [*_requirements(extras), "hatchling"]
    pins = ROOT / "constraints.txt"
    torch = next(line for line in pins.read_text().splitlines() if line.startswith("torch=="))
    if any(each.startswith("torch") for each in wanted):
        cpu = ("--no-deps", f"{torch}+cpu")
        if _pip_download(folder, *cpu).returncode:  # as in the Makefile: PyPI's is for CUDA
            _pip_download(folder, *cpu, *_TORCH_INDEX)
    done = _pip_download(folder, "--constraint", str(pins), "--find-links", str(folder), *wanted)
    if done.returncode:
        raise Unreachable(f"pip can't download ({done.stderr.strip().splitlines()[-1]})")


def _pip_download(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    return subprocess.run([*pip, *words], capture_output=True, text=True)


def _requirements(extras: str) -> Iterator[str]:
    """Those of others. Not found by naming the project to pip, which would compile the kernels that tests run."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for required in (required for extra in extras.split(",") for required in optional[extra]):
        if required.startswith("homespun["):
            yield from _requirements(required.removeprefix("homespun[").removesuffix("]"))
        elif required != "homespun-base-model":
            yield required


@cache
def image(target: str) -> Path:
    """The unpacked image of a target of the Dockerfile, as an OCI runtime takes it (`rootfs`, `config.json`)."""
    tree = builder()
    wheels = wheelhouse(_EXTRAS[target])
    digest = hashlib.sha256(wheels.name.encode() + (_DOCKER / "Dockerfile").read_bytes())
    for path in _sources():
        digest.update(path.encode() + (ROOT / path).read_bytes())
    made = kept(f"image-{target}-{digest.hexdigest()[:12]}", lambda folder: _build(folder, tree, wheels, target))
    _forget_older(made, target)
    return made


def _forget_older(made: Path, target: str) -> None:
    """Images of other code, 0.6 GB each; an hour's are kept, since another checkout may be testing with one."""
    for old in made.parent.glob(f"image-{target}-*[0-9a-f]"):
        if old.is_dir() and old != made and time.time() - old.stat().st_mtime > 3600:
            shutil.rmtree(old, ignore_errors=True)


def _sources() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--", *_INPUTS], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if (ROOT / path).is_file() and "lsp/editors" not in path]


def base() -> str:
    """The base image by its digest, as the Dockerfile wants it."""
    asked = f"skopeo inspect --format '{{{{.Digest}}}}' containers-storage:{BASE_IMAGE}"
    return f"{BASE_IMAGE.rpartition(':')[0]}@{inside(builder(), asked).stdout.strip()}"


def _build(folder: Path, tree: Path, wheels: Path, target: str) -> None:
    script = f"""
cd /src
buildah bud --quiet --pull-never --build-arg PYTHON_IMAGE={base()} --build-arg PIP_NO_INDEX=1 \
    --build-context wheels=/wheels --target {target} --tag localhost/{target} --file deploy/docker/Dockerfile . >&2
buildah push --quiet localhost/{target} oci:/made/oci:{target}
umoci unpack --image /made/oci:{target} /made/bundle >&2
buildah rmi --force localhost/{target} >&2; buildah rmi --prune --force >&2; buildah images >&2
"""
    inside(tree, script, mounts={"/src": ROOT, "/wheels": wheels, "/made": folder})


def container(target: str, work: Path, uid: int, *words: str, repo: Path | None = None) -> list[str]:
    """The command that runs an image with a read-only root, no capability, `work` as its volume and `repo` at /repo.

    It ends as the container does and hands signals on to it. The network is the machine's.
    """
    volume, bundle = work / "data", work / "bundle"
    for folder in (volume, bundle):
        folder.mkdir(exist_ok=True)
    os.chown(volume, uid, 0)
    made = image(target) / "bundle"
    config = hardened(json.loads((made / "config.json").read_text()), uid, words)
    mounts = {"/bundle": bundle, "/image": made / "rootfs", "/volume": volume}
    if repo is not None:
        mounts["/given"] = repo
        config["mounts"].append({"destination": "/repo", "source": "/given", "options": ["rbind", "ro"]})
    (bundle / "config.json").write_text(json.dumps(config))
    return command(builder(), "cd /bundle; exec crun --cgroup-manager=disabled run one", mounts=mounts)


def hardened(config: dict[str, Any], uid: int, words: Sequence[str]) -> dict[str, Any]:
    """What Kubernetes makes of it where all of `securityContext` is as strict as it goes. `words` replace CMD."""
    process = config["process"]
    process |= {"terminal": False, "noNewPrivileges": True, "user": {"uid": uid, "gid": 0}}
    process["capabilities"] = {}
    process["args"] = [process["args"][0], *words]
    config["root"] = {"path": "/image", "readonly": True}
    kept_mounts = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
    data = {"destination": "/data", "type": "none", "source": "/volume", "options": ["rbind", "rw"]}
    config["mounts"] = [mount for mount in kept_mounts if mount["destination"] not in ("/data", "/tmp")] + [tmp, data]
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [one for one in namespaces if one["type"] not in ("network", "cgroup")]
    return config

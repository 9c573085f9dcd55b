"""Makes a folder from which Homespun can be installed where no network is.

    make bundle ARGS="--output homespun-bundle [--extras lsp,server,trainer] [--image ARCHIVE=NAME:TAG]..."

It holds wheels and a requirements.txt with their hashes, the source (for `make setup`), the built-in model, the chart,
editor plugins, images as OCI archives if given, an SBOM, SHA256SUMS, verify.sh and load.sh. Run it on a machine with a
network, of the same kind (processor, Python) as the one that will install. The same inputs give the same bytes; times
in it are those of the commit, or SOURCE_DATE_EPOCH. What is made appears under its name only when it is whole. After an
interruption run it again: it begins anew, and pip has in its cache what it downloaded.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from email.message import Message
from email.parser import HeaderParser
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

try:
    from sbom import Wheel, sbom
except ModuleNotFoundError as error:
    sys.exit(f"bundle: {error}; `make bundle ARGS=...` has it")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODEL = ROOT / "server/homespun_base_model"
EDITORS = ROOT / "lsp/editors"
CHART = ROOT / "deploy/helm/homespun"


class BundleError(Exception):
    """One line: the thing, the value, the remedy."""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder to make; it must not exist")
    parser.add_argument("--extras", default="lsp,server,trainer", help="of homespun, as in pyproject.toml")
    parser.add_argument("--image", action="append", default=[], metavar="ARCHIVE=NAME:TAG", help="an OCI archive")
    parser.add_argument("--vsix", type=Path, help="the VS Code extension, as lsp/editors/vscode/README.md makes it")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="an OpenSSH private key to sign SHA256SUMS with")
    args = parser.parse_args(words)
    try:
        make(args.output, args.extras, args.image, args.vsix, args.sign)
    except BundleError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    print(f"bundle: {args.output} is whole; next: {args.output}/verify.sh")
    return 0


def make(output: Path, extras: str, images: Sequence[str], vsix: Path | None, key: Path | None) -> None:
    if output.exists():
        raise BundleError(f"{output} is there already; remove it or name another folder")
    unfinished = output.with_name(f"{output.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    _step("source, chart, editor plugins, model")
    source = unfinished / "homespun-source.tgz"
    archive(source, ROOT, _tracked(ROOT))
    chart(unfinished)
    plugins(unfinished / "editors", vsix)
    model(unfinished / "model")
    _step("wheels")
    wheels(unfinished / "wheels", source, extras)
    content = [described(wheel) for wheel in sorted((unfinished / "wheels").glob("*.whl"))]
    (unfinished / "requirements.txt").write_text(requirements(content, extras))
    (unfinished / "sbom.cdx.json").write_text(sbom(content, epoch_s()))
    _step(f"{len(images)} images")
    copy_images(unfinished, images)
    for name in ("verify.sh", "load.sh", "README.md"):
        shutil.copy(HERE / name, unfinished)
    sums = checksums(unfinished)
    if key is not None:
        (unfinished / "SHA256SUMS.sig").write_bytes(signature(sums, key))
    (unfinished / "SHA256SUMS").write_text(sums)  # the last: without it verify.sh accepts nothing
    os.sync()
    unfinished.rename(output)


def _step(name: str) -> None:
    print(f"bundle: {name}", flush=True)


def wheels(folder: Path, source: Path, extras: str) -> None:
    """All that `extras` needs, at the pinned versions.

    Ours are built from `source`, since building compiles kernels beside the code, which may be in use.
    """
    folder.mkdir()
    with TemporaryDirectory() as scratch, tarfile.open(source) as content:
        content.extractall(scratch, filter="data")
        ours = Path(scratch, "homespun")
        _pip(
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(folder),
            str(ours),
            str(ours / MODEL.relative_to(ROOT)),
        )
    torch = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert torch is not None
    if {"server", "trainer"} & set(extras.split(",")):
        _pip("download", "--no-deps", "--dest", str(folder), f"torch=={torch.group(1)}+cpu")
    pins = ["--constraint", str(ROOT / "constraints.txt"), "--find-links", str(folder)]
    wanted = [f"homespun[{extras}]", "homespun-base-model", "hatchling"]
    _pip("download", "--only-binary", ":all:", "--dest", str(folder), *pins, *wanted)


def _pip(verb: str, *words: str) -> None:
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(epoch_s())}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", *words],
        env=environ,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BundleError(f"pip {verb} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


@cache
def epoch_s() -> int:
    """The time that everything in the bundle has, as reproducible-builds.org/specs/source-date-epoch says."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        given = subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT, text=True)
    return int(given)


def requirements(wheels: Iterable[Wheel], extras: str) -> str:
    """Every wheel by name, version and digest, for `pip install --require-hashes`."""
    names = {"homespun": f"homespun[{extras}]"}
    return "".join(
        f"{names.get(each.name, each.name)}=={each.version} --hash=sha256:{each.sha256}\n" for each in wheels
    )


def described(wheel: Path) -> Wheel:
    with zipfile.ZipFile(wheel) as content:
        (path,) = [n for n in content.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(content.read(path).decode())
    return Wheel(headers["Name"], headers["Version"], licence(headers), _sha256(wheel))


def licence(headers: Message) -> str | None:
    """What the metadata of a package declares, in the order of their exactness; some put a whole text there."""
    classified = (c.rpartition(" :: ")[2] for c in headers.get_all("Classifier", []) if c.startswith("License :: "))
    declared = headers.get("License-Expression"), headers.get("License", "").partition("\n")[0][:120], *classified
    return next((words for words in declared if words and words != "UNKNOWN"), None)


def _tracked(folder: Path) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, check=True)
    paths = [path for path in listed.stdout.decode().split("\0") if path]
    return sorted(path for path in paths if (folder / path).is_file())


def chart(folder: Path) -> None:
    meta = (CHART / "Chart.yaml").read_text()
    found = re.search(r"^version: *\"?([^\s\"]+)", meta, re.MULTILINE)
    assert found is not None
    archive(folder / f"homespun-{found.group(1)}.tgz", CHART, _tracked(CHART), prefix="homespun/")


def plugins(folder: Path, vsix: Path | None) -> None:
    """Those that are used as they are; VS Code's has to be built."""
    folder.mkdir()
    editors = {path.partition("/")[0] for path in _tracked(EDITORS) if "/" in path}
    for editor in sorted(editors - {"vscode"}):
        archive(folder / f"{editor}.tgz", EDITORS / editor, _tracked(EDITORS / editor), prefix=f"{editor}/")
    if vsix is not None:
        if not vsix.is_file():
            raise BundleError(f"--vsix {vsix} is no file; make it as lsp/editors/vscode/README.md says")
        shutil.copy(vsix, folder / "homespun.vsix")


def model(folder: Path) -> None:
    folder.mkdir()
    for path in sorted([*MODEL.glob("*.json"), *MODEL.glob("*.safetensors"), MODEL / "MODEL_CARD.md"]):
        shutil.copy(path, folder)


def copy_images(folder: Path, images: Sequence[str]) -> None:
    """`images.txt` says for each archive under which name it is loaded."""
    lines = []
    for image in images:
        path, _, name = image.partition("=")
        (folder / "images").mkdir(exist_ok=True)
        target = f"images/{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.tar"
        refused = BundleError(f"--image {image}: expected ARCHIVE=NAME:TAG, with an OCI archive of one image")
        if ":" not in name:
            raise refused
        try:
            copy_image(Path(path), folder / target, name)
        except (OSError, tarfile.TarError, KeyError, ValueError):
            raise refused from None
        lines.append(f"{target} {name}\n")
    if lines:
        (folder / "images.txt").write_text("".join(lines))


def copy_image(source: Path, target: Path, name: str) -> None:
    """An OCI archive, with `name` in it for those who load it: podman goes by the first, containerd by the second."""
    with tarfile.open(source) as given, tarfile.open(target, "w") as named:
        for member in [given.getmember("index.json"), *(m for m in given if m.name != "index.json")]:
            content = given.extractfile(member)
            if member.name == "index.json" and content is not None:
                index = json.load(content)
                (manifest,) = index["manifests"]
                manifest["annotations"] = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
                text = json.dumps(index).encode()
                member.size, content = len(text), io.BytesIO(text)
            named.addfile(member, content)


def archive(target: Path, root: Path, paths: Iterable[str], prefix: str = "homespun/") -> None:
    """A .tgz whose bytes depend on names, contents, executable bits and `epoch_s` alone."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in paths:
            content = (root / path).read_bytes()
            info = tarfile.TarInfo(prefix + path)
            info.size, info.mode = len(content), 0o755 if os.access(root / path, os.X_OK) else 0o644
            info.mtime = epoch_s()
            tar.addfile(info, io.BytesIO(content))


def checksums(folder: Path) -> str:
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return "".join(f"{_sha256(folder / path)}  ./{path}\n" for path in paths if not path.startswith("SHA256SUMS"))


def signature(sums: str, key: Path) -> bytes:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "homespun-bundle"]
    done = subprocess.run(command, input=sums.encode(), capture_output=True)
    if done.returncode:
        raise BundleError(f"--sign {key}: ssh-keygen can't sign with it; it makes one: ssh-keygen -t ed25519 -f {key}")
    return done.stdout


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())

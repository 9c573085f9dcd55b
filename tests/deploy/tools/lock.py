"""Renews requirements.txt, the pinned tools that chart tests run in an environment of their own: checkov's dependencies
disagree with ours. `python tests/deploy/tools/lock.py` asks pip for each Python; for Linux on x86-64 only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
_PYTHONS = ("3.11", "3.12", "3.13")
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")


def resolved(python: str, pins: dict[str, str]) -> dict[tuple[str, str], str]:
    """The SHA-256 of each wheel, by name and version; those of `pins` in the version it has."""
    wanted = (FOLDER / "requirements.in").read_text() + "\n".join(f"{name}=={pins[name]}" for name in sorted(pins))
    words = ["install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:", "--target=unused"]
    words += [f"--python-version={python}", *(f"--platform={name}" for name in _PLATFORMS)]
    words += ["--report=-", "--requirement=/dev/stdin"]
    done = subprocess.run([sys.executable, "-m", "pip", *words], input=wanted, stdout=subprocess.PIPE, text=True)
    done.check_returncode()
    found = {}
    for item in json.loads(done.stdout)["install"]:
        name, version = item["metadata"]["name"].lower().replace("_", "-"), item["metadata"]["version"]
        found[name, version] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    return found


def main() -> None:
    pins: dict[str, str] = {}
    hashes: dict[tuple[str, str], set[str]] = {}
    for python in _PYTHONS:
        for wheel, digest in resolved(python, pins).items():
            hashes.setdefault(wheel, set()).add(digest)
            pins[wheel[0]] = wheel[1]
    lines = ["# Made by lock.py from requirements.in; don't edit."]
    for (name, version), digests in sorted(hashes.items()):
        lines += [f"{name}=={version} \\", *_continued(sorted(digests))]
    (FOLDER / "requirements.txt").write_text("\n".join(lines) + "\n")


def _continued(digests: list[str]) -> list[str]:
    return [f"    --hash=sha256:{digest} \\" for digest in digests[:-1]] + [f"    --hash=sha256:{digests[-1]}"]


if __name__ == "__main__":
    main()

"""How much memory there is still to be had: on the machine, and in the container that we may run in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")


def available_bytes(root: Path = _ROOT) -> int | None:
    """What the kernel says is left for us; None where it doesn't, as on other systems than Linux."""
    return min((*_in_machine(root / "proc" / "meminfo"), *_in_control_groups(root)), default=None)


def _in_machine(meminfo: Path) -> Iterator[int]:
    try:
        yield int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return


def _in_control_groups(root: Path) -> Iterator[int]:
    """In ours and those around it. In a container the path may be the host's: what counts is the top then."""
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = root / "sys" / "fs" / "cgroup", _V2
        if controllers:
            top, names = top / "memory", _V1
        ours = top / path.lstrip("/")
        for group in (ours, *ours.parents):
            if group.is_relative_to(top):
                yield from _in_group(group, *names)


def _in_group(group: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    """Files that were read and may be forgotten count as used there, and as free here."""
    try:
        most = int((group / limit).read_text())  # "max" is no limit
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        yield max(0, most - int((group / used).read_text()) + int(counts[cached]))
    except (OSError, ValueError, KeyError):
        return

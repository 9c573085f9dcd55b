"""How much memory is left: the least of what machine and control groups say, read from files as Linux has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core.memory import available_bytes

MACHINE = {"proc/meminfo": "MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:   8000 kB\n"}
V1_LIMITLESS = "9223372036854771712\n"


def group(folder: str, limit: str, used: int, cached: int) -> dict[str, str]:
    at, stat = f"sys/fs/cgroup/{folder}", f"anon {used}\ninactive_file {cached}\n"
    return {f"{at}/memory.max": limit, f"{at}/memory.current": f"{used}\n", f"{at}/memory.stat": stat}


def group_v1(folder: str, limit: str, used: int, cached: int) -> dict[str, str]:
    at, stat = f"sys/fs/cgroup/memory/{folder}", f"inactive_file 1\ntotal_inactive_file {cached}\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"{at}/{name}": text for name, text in zip(names, (limit, f"{used}\n", stat), strict=True)}


def ours(lines: str) -> dict[str, str]:
    return {"proc/self/cgroup": lines}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\n"}, None),
        (MACHINE, 8_000 * 1024),
        (MACHINE | ours("0::/\n"), 8_000 * 1024),  # a root group has no limit, and no such files
        (MACHINE | ours("0::/\n") | group("", "5000000\n", 3_000_000, 1_000_000), 3_000_000),  # in a container
        (MACHINE | ours("0::/\n") | group("", "max\n", 3_000_000, 0), 8_000 * 1024),
        (MACHINE | ours("0::/\n") | group("", "900000000\n", 0, 0), 8_000 * 1024),
        (MACHINE | ours("0::/\n") | group("", "1000\n", 3_000, 0), 0),
        (
            MACHINE | ours("0::/a/b\n") | group("a", "2000000\n", 500_000, 0) | group("a/b", "max\n", 400_000, 0),
            1_500_000,
        ),
        (MACHINE | ours("0::/../x\n"), 8_000 * 1024),
        (MACHINE | ours("8:cpu:/c\n4:memory:/c\n0::/\n") | group_v1("c", "700000\n", 200_000, 100_000), 600_000),
        (MACHINE | ours("4:memory:/of/the/host\n") | group_v1("", "700000\n", 200_000, 0), 500_000),
        (MACHINE | ours("4:memory:/\n") | group_v1("", V1_LIMITLESS, 200_000, 0), 8_000 * 1024),
        (ours("0::/\n") | group("", "700000\n", 200_000, 0), 500_000),
    ],
)
def test_what_is_left_is_the_least_of_what_the_machine_and_each_group_have(
    files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_bytes(tmp_path) == expected


def test_this_machine_has_some_left() -> None:
    left = available_bytes()
    assert left is None or left > 1_000_000

"""Which of the compiled kernels this processor can run. Imports no torch: `homespun doctor` asks, too."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "native"
_V3 = frozenset({"abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_AVX512 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni"}
_KINDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("amx", _AVX512 | {"amx_tile", "amx_int8"}),
    ("avx512vnni", _AVX512),
    ("avxvnni", _V3 | {"avx_vnni"}),
    ("avx2", _V3),
    ("portable", frozenset()),
)
"""Best first: a library's name and what of the processor it needs, as /proc/cpuinfo says it."""


def library_paths() -> list[Path]:
    """The compiled libraries that this processor can run, best first; `hatch_build.py` makes them."""
    flags = _cpu_flags()
    paths = [FOLDER / f"kernels-{name}.so" for name, needed in _KINDS if needed <= flags]
    return [path for path in paths if path.is_file()]


def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    lines = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())

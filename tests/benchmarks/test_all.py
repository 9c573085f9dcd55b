"""Every benchmark can be started: they use the product's own functions, and no type checker reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
_PEERS = ("bm25s", "llama_cpp", "openvino_genai", "tantivy")
"""What only benchmarks need; `make setup` doesn't install it."""
_IMPORT_ALL = f"""
import importlib, sys
sys.path.insert(0, {str(BENCHMARKS)!r})
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in {_PEERS!r}:
            raise
"""


def test_every_benchmark_finds_what_it_imports(tmp_path: Path) -> None:
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert "indexing" in names
    command = [sys.executable, "-c", _IMPORT_ALL, *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

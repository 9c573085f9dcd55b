"""Row 50: after a search with vectors a forked process hangs (FAISS's threads aren't there), so that none is forked."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repos import SHOP, make_repo

_SOURCES = Path(__file__).parents[2]
_AFTER_A_SEARCH = """
import signal, sys
from pathlib import Path
import faiss, numpy as np
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import layout
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer

if __name__ == "__main__":
    signal.alarm(60)
    faiss.omp_set_num_threads(2)
    vectors = np.random.default_rng(0).standard_normal((20_000, 64)).astype(np.float32)
    quantiser = faiss.IndexFlatL2(64)
    index = faiss.IndexIVFFlat(quantiser, 64, 64)
    index.train(vectors[:4_000]); index.add(vectors); index.search(vectors[:64], 5)
    data, model = DataDir(Path(sys.argv[2])), resolve_base_model("builtin", "auto")
    repo = open_repository(sys.argv[1], data, timeout_s=20, progress=SilentProgress())
    path = index_repository(
        repo, settings=Settings(), data=data, model=model, tokenizer=load_tokenizer(model), progress=SilentProgress()
    )
    print("indexed", path.name)
"""


def test_nothing_of_ours_forks() -> None:
    """By itself, or as a pool or process whose start isn't said to be `spawn`; a subprocess is another program."""
    sources = [
        path for part in ("core", "indexer", "lsp", "server", "trainer") for path in (_SOURCES / part).rglob("*.py")
    ]
    assert len(sources) > 200
    found = [f"{path}:{line}" for path in sources for line in _forks(ast.parse(path.read_text(encoding="utf-8")))]
    assert not found, "get_context('spawn') instead"


def _forks(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and _may_fork(ast.unparse(node.func), node):
            yield node.lineno


def _may_fork(name: str, call: ast.Call) -> bool:
    arguments = [ast.unparse(a) for a in (*call.args, *(k.value for k in call.keywords))]
    if name.endswith("get_context"):
        return arguments != ["'spawn'"]
    if name.endswith("ProcessPoolExecutor"):
        return "context" not in arguments
    return name in ("os.fork", "os.forkpty", "multiprocessing.Process", "multiprocessing.Pool")


@pytest.mark.parametrize("line", ["os.fork()", "get_context('fork')", "get_context()", "ProcessPoolExecutor(4)"])
def test_a_fork_would_be_found(line: str) -> None:
    assert list(_forks(ast.parse(line))) == [1]


def test_processes_are_started_after_a_search_with_vectors_and_threads(tmp_path: Path) -> None:
    """What comes from elsewhere is parsed in processes of their own: a bare repository, beside a search of ours."""
    make_repo(tmp_path / "shop", SHOP)
    subprocess.run(["git", "clone", "-q", "--bare", "shop", "bare.git"], cwd=tmp_path, check=True)
    script = tmp_path / "after_a_search.py"
    script.write_text(_AFTER_A_SEARCH)
    words = [sys.executable, str(script), str(tmp_path / "bare.git"), str(tmp_path / "data")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("indexed "), done.stderr

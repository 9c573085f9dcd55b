"""A full disk or a death, at any call: the index stays whole, and the next run goes on as if nothing had been."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.paths import DataDir
from homespun_indexer import layout
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND, read_segments
from tests.indexer.conftest import Indexer
from tests.indexer.faults import CALLS, DIED, Faults, full
from tests.repos import SHOP, make_repo, write


class Work:
    """A data directory with four generations of an index behind it, the last of them `old`; and a repository that has
    changed again since. Its next index links what stays, adds a segment, is compacted, and pushes out the oldest."""

    def __init__(self, tmp_path: Path, indexer: Indexer) -> None:
        self.repository, self.template = make_repo(tmp_path / "shop", SHOP), indexer.data.root
        self._indexer = indexer
        for i in range(4):
            old = indexer.index(self.repository)
            write(self.repository, {f"new_{i}.py": f"new_value_{i} = {i}\n" * (9 - i)})
        self.old = old.name
        self._parent = old.parent.relative_to(self.template)
        done = self.copy(tmp_path / "undisturbed")
        self.compacted = done.index(self.repository)
        self.new = self.compacted.name.removesuffix("-c")
        assert self.new != self.compacted.name and len(read_segments(old)) == 4

    def copy(self, root: Path) -> Indexer:
        shutil.copytree(self.template, root)
        return Indexer(DataDir(root), self._indexer.model, self._indexer.tokenizer)

    def check(self, root: Path) -> None:
        """What was left there is whole, and the next run ends where it would have ended."""
        parent = root / self._parent
        current = storage.current(parent)
        assert current is not None and current.name in (self.old, self.new, self.compacted.name)
        with IndexReader.open(current) as reader:
            assert reader.num_files == (7 if current.name == self.old else 8)
        for path in snapshots(parent):
            storage.verify(path, storage.read_manifest(path, KIND, FORMAT))
        again = Indexer(DataDir(root), self._indexer.model, self._indexer.tokenizer).index(self.repository)
        assert again.name in (self.new, self.compacted.name)
        assert storage.current(parent) == again
        with IndexReader.open(again) as reader:
            assert reader.num_files == 8
        assert len(snapshots(parent)) <= 3
        assert not list(parent.glob(".tmp-*"))


def snapshots(parent: Path) -> list[Path]:
    return [p for p in parent.iterdir() if (p / storage.MANIFEST).is_file() and not p.name.startswith(".")]


@pytest.fixture
def work(tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    return Work(tmp_path, indexer)


def test_a_full_disk_at_any_call_leaves_a_whole_index_and_the_next_run_is_as_ever(work: Work, tmp_path: Path) -> None:
    for number in itertools.count(1):
        root = tmp_path / "full" / str(number)
        indexer = work.copy(root)
        faults = Faults(number, full)
        with pytest.MonkeyPatch.context() as patch:
            faults.install(patch.setattr, CALLS)
            try:
                indexer.index(work.repository)
            except OSError as error:
                assert error.errno == 28
        if faults.count < number:
            break
        work.check(root)
        shutil.rmtree(root)
    assert number > 30


def test_a_death_at_any_call_leaves_a_whole_index_and_the_next_run_is_as_ever(work: Work, tmp_path: Path) -> None:
    results = tmp_path / "dead"
    command = [sys.executable, "-m", "tests.indexer.faults", str(work.repository), str(work.template), str(results)]
    # Without threads there is nothing in the process that forks that a fork would leave behind.
    own = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=own, capture_output=True, text=True, check=True, timeout=100
    )
    ended = list(map(int, done.stdout.split()))
    assert ended == [*[DIED] * (len(ended) - 1), 0], done.stderr
    assert len(ended) > 40
    for number in range(1, len(ended) + 1):
        work.check(results / str(number))

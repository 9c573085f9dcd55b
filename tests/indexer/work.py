"""An index that is about to change, for tests of what is left of it when the change is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

from homespun_core import storage
from homespun_core.paths import DataDir
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND, read_segments
from tests.indexer.conftest import Indexer
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

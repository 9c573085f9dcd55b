"""An index that is about to change, for tests of what is left of it when the change is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

from homespun_core import storage
from homespun_core.paths import DataDir
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND, read_segments
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, git, make_repo, write


class Work:
    """A data directory with four generations of an index behind it, and a repository that has changed again since. Its
    next index links what stays, adds a segment, is compacted, and pushes out the oldest."""

    least_calls, ending = 30, "-c"

    def __init__(self, tmp_path: Path, indexer: Indexer) -> None:
        self.repository, self.template = make_repo(tmp_path / "shop", SHOP), indexer.data.root
        self._indexer = indexer
        old = self._begin()
        self._parent = old.parent.relative_to(self.template)
        last = self.copy(tmp_path / "undisturbed").index(self.repository)
        ends = {last.name, last.name.removesuffix("-c")}
        assert last.name.endswith(self.ending) and old.name not in ends
        self._old, self._new = {old.name: _files(old)}, dict.fromkeys(ends, _files(last))
        assert _files(last) == _files(old) + 1

    def _begin(self) -> Path:
        """The last generation before the change that is cut off."""
        for i in range(4):
            old = self._indexer.index(self.repository)
            write(self.repository, {f"new_{i}.py": f"new_value_{i} = {i}\n" * (9 - i)})
        assert len(read_segments(old)) == 4
        return old

    def copy(self, root: Path) -> Indexer:
        shutil.copytree(self.template, root)
        return Indexer(DataDir(root), self._indexer.model, self._indexer.tokenizer)

    def check(self, root: Path) -> None:
        """What was left there is whole, and the next run ends where it would have ended."""
        parent = root / self._parent
        current = storage.current(parent)
        assert current is not None
        assert _files(current) == (self._old | self._new)[current.name]
        for path in snapshots(parent):
            storage.verify(path, storage.read_manifest(path, KIND, FORMAT))
        again = Indexer(DataDir(root), self._indexer.model, self._indexer.tokenizer).index(self.repository)
        assert storage.current(parent) == again
        assert _files(again) == self._new[again.name]
        assert len(snapshots(parent)) <= 3
        assert not list(parent.glob(".tmp-*"))


class Repair(Work):
    """The index was made while a blob couldn't be read, which can be since: nothing of it stays."""

    least_calls, ending = 10, "-2"

    def _begin(self) -> Path:
        blob = git(self.repository, "rev-parse", "HEAD:shop/prices.py")
        loose = self.repository / ".git" / "objects" / blob[:2] / blob[2:]
        away = loose.rename(self.repository / ".git" / "away")
        loose.write_bytes(away.read_bytes()[: away.stat().st_size // 2])
        old = self._indexer.index(self.repository)
        away.replace(loose)
        return old


def _files(snapshot: Path) -> int:
    with IndexReader.open(snapshot) as reader:
        return reader.num_files


def snapshots(parent: Path) -> list[Path]:
    return [p for p in parent.iterdir() if (p / storage.MANIFEST).is_file() and not p.name.startswith(".")]

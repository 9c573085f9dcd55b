"""Building an index: only what changed, all or nothing, and always what a first build would have made."""

from __future__ import annotations

import errno
import json
import multiprocessing
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import HomespunError, RepositoryError, StorageError
from homespun_core.languages import language_of_path
from homespun_core.paths import DataDir
from homespun_core.repositories import SourceRules
from homespun_core.storage import read_manifest
from homespun_core.types import SearchQuery, SilentProgress
from homespun_indexer import analysis, build, cache, files, indexing, layout, processes, records, tree, worktree
from homespun_indexer.chunks import ChunkedFile, chunk_file
from homespun_indexer.indexing import IndexMemory
from homespun_indexer.reader import IndexReader
from homespun_indexer.segment import read_table
from homespun_indexer.snapshot import FORMAT, KIND, read_segments
from homespun_indexer.tokenizer import GuardedTokenizer
from tests.indexer.answers import answers, texts_of
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, commit, git, make_repo, write


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", SHOP)


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were parsed."""
    seen: list[str] = []

    def counted(text: str, language: str) -> ChunkedFile:
        seen.append(text)
        return chunk_file(text, language)

    monkeypatch.setattr(analysis, "chunk_file", counted)
    return seen


def segments(path: Path) -> dict[str, bytes]:
    return {segment.name: (path / segment.name).read_bytes() for segment in read_segments(path)}


def damage(path: Path) -> Path:
    """Flip a bit in the middle of a segment."""
    file = path / read_segments(path)[0].name
    bad = bytearray(file.read_bytes())
    bad[len(bad) // 2] ^= 4
    file.unlink()  # a hard link may be part of other snapshots
    file.write_bytes(bad)
    return file


def leftovers(parent: Path) -> list[Path]:
    return list(parent.glob(".tmp-*"))


# What it is, and when it is built.


def test_the_manifest_says_what_it_was_made_from(shop: Path, indexer: Indexer) -> None:
    git(shop, "remote", "add", "origin", "https://ada:secret@example.com/shop.git")
    path = indexer.index(shop)
    manifest = storage.read_manifest(path, KIND, FORMAT)
    repo = indexer.open(shop)
    assert manifest.sources["repository"] == repo.identity
    assert manifest.sources["commit"] == repo.head
    assert manifest.sources["git_urls"] == "https://example.com/shop.git"
    assert manifest.info["files"] == 4
    assert manifest.info["languages"] == {"python": 3, "typescript": 1}
    assert manifest.info["skipped"] == {"unknown language": 1}
    assert storage.current(indexer.data.index(repo.id)) == path


def test_an_unchanged_repository_is_not_read_again(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = indexer.index(shop)
    monkeypatch.setattr(indexing, "build_segments", lambda *_: pytest.fail("read again"))
    assert indexer.index(shop) == path
    head = commit(shop, {"README.md": "# Other words\n"}, day=1)  # no source file
    assert read_manifest(indexer.index(shop), KIND, FORMAT).sources["commit"] == head


def test_what_is_remembered_of_files_is_what_stands_in_their_segments(shop: Path, indexer: Indexer) -> None:
    """Only what came of each file is sent back by the process that read it."""
    memory = IndexMemory()
    path = indexer.index(shop, memory=memory)
    write(shop, {"b.py": "SAVED = 1\n", "empty.py": ""})
    path = indexer.index(shop, memory=memory)
    assert memory.tables == {segment.name: read_table(path / segment.name) for segment in read_segments(path)}


def test_what_was_uncommitted_is_not_private_any_more_once_it_is_committed(shop: Path, indexer: Indexer) -> None:
    """And the other way round: a generation's name told neither before, so an index of equal content was kept."""

    def private() -> bool:
        return bool(read_manifest(indexer.index(shop), KIND, FORMAT).sources["uncommitted_of"])

    before = git(shop, "rev-parse", "HEAD")
    write(shop, {"new.py": "SAVED = 1\n"})
    assert private()
    commit(shop, {}, day=2)
    assert not private()
    git(shop, "reset", "--quiet", before)
    assert private()


def test_a_new_remote_or_group_reads_nothing_again(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexer.index(shop)
    monkeypatch.setattr(indexing, "build_segments", lambda *_: pytest.fail("read again"))
    git(shop, "remote", "add", "upstream", "https://example.com/new.git")
    assert "https://example.com/new.git" in read_manifest(indexer.index(shop), KIND, FORMAT).sources["git_urls"]


@pytest.mark.apart
@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_file_that_kills_its_process_costs_itself_the_syntax_and_nothing_else(
    tmp_path: Path,
    indexer: Indexer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_processes: int,
) -> None:
    """A few kilobytes can make a parser ask for gigabytes. Here the limit of memory is low and the file honest. In one
    part it killed the indexer itself."""
    many = {f"m{i}.py": "".join(f"def f{i}_{j}(x):\n    return x + {j}\n\n\n" for j in range(400)) for i in range(3)}
    repo = make_repo(tmp_path / "r", many | {"bad.c": "x=>\n" * 2_500})
    if num_processes > 1:
        monkeypatch.setattr(layout, "_MIN_SEGMENT_BYTES", 20_000)
        monkeypatch.setattr(indexing, "num_processes", lambda: num_processes)
    monkeypatch.setattr(processes, "_MAX_MEMORY", 1_500_000_000)
    with IndexReader.open(indexer.index(repo)) as reader:
        assert reader.num_files == 4
        assert reader.chunk_at("bad.c", 5) is not None
        for number in range(3):
            chunk = reader.chunk_at(f"m{number}.py", 1)
            assert chunk is not None and f"f{number}_0" in chunk.defines
    assert "'bad.c' crashed its parser and is read as lines" in caplog.text
    caplog.clear()
    write(repo, {"new.py": "def new_one(x):\n    return x\n"})
    shutil.rmtree(indexer.data.index_root)
    with IndexReader.open(indexer.index(repo)) as reader:
        assert reader.num_files == 5
    assert not caplog.text  # it is remembered


@pytest.mark.apart
def test_without_a_cache_a_file_that_kills_its_process_costs_its_part_the_syntax(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(tmp_path / "r", {"a.py": "def one(x):\n    return x\n", "bad.c": "x=>\n" * 2_500})
    monkeypatch.setattr(processes, "_MAX_MEMORY", 1_500_000_000)
    indexer.data.cache.parent.mkdir(parents=True, exist_ok=True)
    indexer.data.cache.write_text("no folder")
    with IndexReader.open(indexer.index(repo)) as reader:
        chunk = reader.chunk_at("a.py", 1)
        assert reader.num_files == 2 and chunk is not None and not chunk.defines


def test_the_state_says_why_an_index_is_built(
    shop: Path, indexer: Indexer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG", logger="homespun_indexer.indexing")

    def state() -> str:
        caplog.clear()
        indexer.index(shop)
        (record,) = [r for r in caplog.records if r.getMessage().startswith("index of shop: ")]
        said = record.getMessage().rpartition(" ")[2]
        assert record.levelname == ("DEBUG" if said == "equal" else "INFO")
        return said

    assert state() == "missing"
    assert state() == "equal"
    path = indexer.index(shop)
    damage(path)
    assert state() == "corrupt"
    path = indexer.index(shop)
    (path / read_segments(path)[0].name).unlink()
    assert state() == "corrupt"
    write(shop, {"new.py": "x = 1\n"})
    assert state() == "content"
    monkeypatch.setattr(indexing, "MAX_LINES", 30)
    assert state() == "options"
    monkeypatch.setattr(records, "FORMAT", records.FORMAT + 1)  # files are judged or parsed otherwise
    assert state() == "options"
    monkeypatch.setattr(files, "language_of_path", lambda path: language_of_path(path.replace(".ts", ".js")))
    assert state() == "content"
    assert read_manifest(indexer.index(shop), KIND, FORMAT).info["languages"] == {"python": 4, "javascript": 1}
    monkeypatch.setattr(indexing, "FORMAT", FORMAT + 1)
    monkeypatch.setattr("homespun_indexer.snapshot.FORMAT", FORMAT + 1)
    assert state() == "format"
    shutil.rmtree(indexer.data.index_root)
    assert state() == "missing"


def test_a_damaged_index_is_built_again(shop: Path, indexer: Indexer) -> None:
    path = indexer.index(shop)
    good = segments(path)
    damage(path)
    with pytest.raises(StorageError, match="damaged"):
        IndexReader.open(path)
    again = indexer.index(shop)
    assert again != path and segments(again) == good
    assert indexer.index(shop) == again


def test_an_index_of_a_newer_version_is_refused_and_left_there_and_ours_goes_beside_it(
    shop: Path, indexer: Indexer
) -> None:
    """After a way back to an earlier version; the newer one finds its own index again."""
    newer = indexer.index(shop)
    newer = newer.rename(newer.with_name("0123456789abcdef"))
    manifest = newer / storage.MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"format_version": {FORMAT}', f'"format_version": {FORMAT + 1}'))
    storage.set_current(newer.parent, newer.name)
    before = {path: path.read_bytes() for path in newer.iterdir()}
    with pytest.raises(StorageError, match=f"format {FORMAT + 1}, this Homespun reads {FORMAT}"):
        IndexReader.open(newer)
    ours = indexer.index(shop)
    assert storage.current(newer.parent) == ours != newer
    IndexReader.open(ours).close()
    assert {path: path.read_bytes() for path in newer.iterdir()} == before


def test_a_damaged_index_is_not_built_upon(shop: Path, indexer: Indexer, caplog: pytest.LogCaptureFixture) -> None:
    """And the log and the manifest, which metrics are made of, say that it was damaged."""
    damage(indexer.index(shop))
    write(shop, {"new.py": "value_of_new = 1\n"})
    with caplog.at_level("INFO", logger="homespun_indexer.indexing"):
        second = indexer.index(shop)
    assert "index of shop: corrupt" in caplog.messages
    assert read_manifest(second, KIND, FORMAT).info["state"] == "corrupt"
    IndexReader.open(second).close()
    assert "discounted_price" in texts_of(second) and "value_of_new" in texts_of(second)


def test_a_commit_is_frozen_and_never_current(shop: Path, indexer: Indexer) -> None:
    first = git(shop, "rev-parse", "HEAD")
    write(shop, {"later.py": "LATER = 1\n"})
    now = indexer.index(shop)
    frozen = indexer.index(shop, commit=first)
    repo = indexer.open(shop)
    assert "LATER" in texts_of(now)
    assert "LATER" not in texts_of(frozen)
    assert storage.current(indexer.data.index(repo.id)) == now
    for i in range(5):  # newer states push older ones out, but not what was made for a commit
        write(shop, {"later.py": f"LATER = {i}\n"})
        indexer.index(shop)
    assert frozen.exists()
    kept = [p for p in indexer.data.index(repo.id).iterdir() if (p / storage.MANIFEST).is_file()]
    assert len(kept) == 3


def test_excluded_paths_are_not_in_the_index(shop: Path, indexer: Indexer) -> None:
    head = git(shop, "rev-parse", "HEAD")
    path = indexer.index(shop, commit=head, exclude=frozenset({"shop/prices.py"}))
    assert "discounted_price" not in texts_of(path)
    assert path != indexer.index(shop, commit=head)


def test_every_file_that_is_left_out_is_named_with_its_reason_for_those_who_ask(
    tmp_path: Path, indexer: Indexer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the index is built or was there; and a path can't pretend to be a line of the log."""
    left_out: dict[str, tuple[str | bytes, str]] = {
        "notes.txt": ("canary", "unknown language"),
        "bad.py": (b"canary\0", "binary"),
        "latin.py": ("canary = 'é'\n".encode("latin-1"), "not UTF-8"),
        "app.js": ("canary();" * 1_000, "minified or long lines"),
        "a\nINFO b.py": ("\n", "empty"),
    }
    path = make_repo(tmp_path / "r", {name: content for name, (content, _) in left_out.items()} | {"a.py": "x = 1\n"})
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("DEBUG", logger="homespun_indexer"):
            indexer.index(path)
        named = [message for message in caplog.messages if "skipped" in message]
        assert sorted(named) == sorted(f"r: skipped {name!r}: {reason}" for name, (_, reason) in left_out.items())
        assert "canary" not in caplog.text
    with caplog.at_level("INFO", logger="homespun_indexer"):
        caplog.clear()
        indexer.index(path)
    assert not caplog.messages


def test_nothing_to_index_says_what_was_skipped(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"README.md": "hello\n", "logo.png": b"\x89PNG", "empty.py": "\n"})
    with pytest.raises(RepositoryError, match=r"no source files to index \(2 unknown language, 1 empty\)"):
        indexer.index(path)
    (path / "empty.py").unlink()
    with pytest.raises(RepositoryError, match="2 unknown language"):
        indexer.index(path)
    assert not leftovers(indexer.data.index(indexer.open(path).id))


@pytest.mark.parametrize("how", ["ignored", "excluded", "deleted", "spoilt"])
def test_taking_all_code_out_takes_it_out_of_the_index(shop: Path, indexer: Indexer, how: str) -> None:
    """The old index stayed current. It is an error all the same, every time; and what comes back is found again."""
    first = indexer.index(shop)
    before, rules = indexer.open(shop), SourceRules()
    if how == "ignored":
        commit(shop, {".homespunignore": "*\n"}, day=1)
    elif how == "excluded":
        rules = SourceRules(exclude=("**",))
    else:
        for path in (path for path in shop.rglob("*") if path.suffix in (".py", ".ts")):
            path.write_bytes(b"\0") if how == "spoilt" else path.unlink()
    for _ in range(2):
        with pytest.raises(RepositoryError, match="no source files to index"):
            indexer.index(replace(indexer.open(shop), rules=rules))
        current = storage.current(first.parent)
        assert current is not None and current != first
        assert read_manifest(current, KIND, FORMAT).info["files"] == 0
        with IndexReader.open(current, indexer.tokenizer) as reader:
            assert not reader.search(SearchQuery(prefix="price_of(item", suffix="", path=None, language=None), 3)
            assert not reader.draft(indexer.tokenizer.encode("def discounted_price(item, percent):\n    full_"), 4)
            assert reader.chunk_at("shop/prices.py", 1) is None
    git(shop, "reset", "--quiet", "--hard", before.head)
    assert "discounted_price" in texts_of(indexer.index(shop))


def test_a_repository_that_cannot_be_read_keeps_its_index(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one that was read, and holds nothing, is empty."""
    first = indexer.index(shop)

    def refuse(root: Path, path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def fails(match: str) -> None:
        with pytest.raises(RepositoryError, match=match):
            indexer.index(shop)
        assert storage.current(first.parent) == first

    with monkeypatch.context() as patch:
        patch.setattr(worktree, "_opened", refuse)
        fails(r"no source files to index \(4 unreadable, 1 unknown language\)")
    git(shop, "switch", "--quiet", "--orphan", "unborn")
    fails("has no commits yet")
    git(shop, "switch", "--quiet", "--force", "main")
    for path in (shop / ".git" / "objects").glob("??/*"):
        path.chmod(0o600)
        path.write_bytes(b"")
    fails("can't be read|has no commits yet")


def test_settings_that_let_less_in_make_another_index(shop: Path, indexer: Indexer) -> None:
    write(shop, {"big.py": "x = 1\n" * 400})
    assert indexer.index(shop) != indexer.index(shop, settings=replace(Settings(), max_file_kb=2))


def test_another_base_model_has_its_own_tokens(shop: Path, indexer: Indexer, data: DataDir) -> None:
    spec = json.loads((Path(indexer.model.path) / "tokenizer.json").read_text(encoding="utf-8"))
    spec["added_tokens"].append(dict(spec["added_tokens"][0], id=len(spec["model"]["vocab"]), content="<|extra|>"))
    other = GuardedTokenizer(json.dumps(spec))
    first = indexer.index(shop)
    path = Indexer(data, indexer.model, other).index(shop)
    assert path != first
    with IndexReader.open(path, other) as reader:
        assert reader.draft(other.encode("def discounted_price(item, percent):\n    full_price ="), 4)


# The cache.


def test_an_index_from_the_cache_is_the_same_byte_for_byte(shop: Path, indexer: Indexer) -> None:
    first = segments(indexer.index(shop))
    shutil.rmtree(indexer.data.index_root)
    assert segments(indexer.index(shop)) == first
    shutil.rmtree(indexer.data.root)
    assert segments(indexer.index(shop)) == first


def test_only_changed_files_are_analysed(shop: Path, indexer: Indexer, analysed: list[str]) -> None:
    indexer.index(shop)
    assert len(analysed) == 4
    analysed.clear()
    changed = SHOP["shop/prices.py"] + "\nnew_value = 1\n"
    write(shop, {"shop/prices.py": changed})
    assert "new_value" in texts_of(indexer.index(shop))
    assert analysed == [changed]
    commit(shop, {}, day=1)
    git(shop, "mv", "shop/prices.py", "shop/costs.py")
    indexer.index(shop)
    assert analysed == [changed]


def test_a_fork_analyses_only_what_it_has_of_its_own(
    shop: Path, tmp_path: Path, indexer: Indexer, analysed: list[str]
) -> None:
    indexer.index(shop)
    analysed.clear()
    git(tmp_path, "clone", "--quiet", str(shop), "fork")
    write(tmp_path / "fork", {"own.py": "own_value = 1\n"})
    assert "own_value" in texts_of(indexer.index(tmp_path / "fork"))
    assert analysed == ["own_value = 1\n"]


def test_segments_outlive_the_cache(
    shop: Path, indexer: Indexer, analysed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    first = indexer.index(shop)
    shutil.rmtree(indexer.data.cache)
    analysed.clear()
    write(shop, {"new.py": "new_value = 1\n"})
    second = indexer.index(shop)
    assert analysed == ["new_value = 1\n"]
    assert segments(first).items() < segments(second).items()


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough to be looked at" * 100, b""])
def test_a_damaged_cache_is_rebuilt(shop: Path, indexer: Indexer, damage: bytes) -> None:
    first = indexer.index(shop)
    shutil.rmtree(indexer.data.index_root)
    for extra in indexer.data.cache.glob("blobs.sqlite-*"):
        extra.unlink()
    (indexer.data.cache / "blobs.sqlite").write_bytes(damage)
    assert indexer.index(shop).name == first.name


def test_a_flipped_bit_in_the_cache_is_noticed(shop: Path, indexer: Indexer) -> None:
    first = segments(indexer.index(shop))
    file = indexer.data.cache / "blobs.sqlite"
    good = file.read_bytes()
    for share in (0.3, 0.5, 0.7, 0.9):
        bad = bytearray(good)
        bad[int(len(bad) * share)] ^= 1
        file.write_bytes(bad)
        shutil.rmtree(indexer.data.index_root)
        assert segments(indexer.index(shop)) == first


def test_a_locked_cache_is_done_without_and_kept(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = indexer.index(shop)
    shutil.rmtree(indexer.data.index_root)
    file = indexer.data.cache / "blobs.sqlite"
    write(shop, {"new.py": "value = 1\n"})
    monkeypatch.setattr(cache, "_LOCK_S", 0.05)
    inode = file.stat().st_ino
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert indexer.index(shop).name != first.name
        other.rollback()
        (known,) = other.execute("SELECT count(*) FROM analyses").fetchone()
    assert known > 0 and file.stat().st_ino == inode
    assert "locked; going on without it" in caplog.text


# Step by step it becomes what a first build would make.

_NAMES = ["alpha", "beta", "gamma", "delta", "omega", "sigma"]


def _function(chance: random.Random) -> str:
    name, other = chance.sample(_NAMES, 2)
    lines = [f"    {other}_{i} = read_{name}(path, {chance.randrange(4)})\n" for i in range(chance.randrange(1, 14))]
    return f"def load_{name}_{chance.randrange(9)}(path, {other}):\n{''.join(lines)}    return {other}\n\n\n"


def _file(chance: random.Random) -> str:
    return "".join(_function(chance) for _ in range(chance.randrange(1, 5)))


ASKED = [f"value = read_{name}(path, {i}" for i, name in enumerate(_NAMES)]
ASKED += [f"def load_{name}_{i}(path, " for i, name in enumerate(_NAMES)]
ASKED += ["    return omega\n\n\ndef load_", "sigma_1 = read_alpha(path, 1)\n    sigma_2 = ", "kept_for_ever("]


class Edits:
    """A repository to which random things happen."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.chance = path, random.Random(seed)
        self.day = 0
        start = {f"p{i}/file_{i}.py": _file(self.chance) for i in range(8)}
        make_repo(path, start | {"kept.py": "def kept_for_ever(x):\n    return x + 1\n", "odd.py": "# größe\nx = 1\n"})

    def step(self) -> None:
        for _ in range(self.chance.randrange(1, 4)):
            names = ["add", "change", "change", "delete", "rename", "copy", "spoil", "commit", "revert", "reset"]
            getattr(self, f"_{self.chance.choice(names)}")()

    def places(self) -> list[str]:
        """Beginnings of files, long enough to match a single place in the text."""
        found = []
        for file in sorted(self.path.rglob("*.py")):
            lines = file.read_text().split("\n")
            if len(lines) > 3:
                cut = "\n".join(lines[: self.chance.randrange(3, len(lines))]).rstrip()
                found.append(cut[: len(cut) - self.chance.randrange(5)])
        return found

    def _any(self) -> Path:
        return self.chance.choice(sorted(self.path.rglob("file_*.py")) or [self.path / "kept.py"])

    def _new(self) -> Path:
        return self.path / f"p{self.chance.randrange(4)}" / f"file_{self.chance.randrange(40)}.py"

    def _add(self) -> None:
        write(self.path, {str(self._new().relative_to(self.path)): _file(self.chance)})

    def _change(self) -> None:
        file = self._any()
        functions = file.read_text().split("\n\n\n")
        functions[self.chance.randrange(len(functions))] = _function(self.chance).rstrip()
        file.write_text("\n\n\n".join(functions))

    def _delete(self) -> None:
        if (file := self._any()).name != "kept.py":
            file.unlink()

    def _rename(self) -> None:
        file, new = self._any(), self._new()
        new.parent.mkdir(exist_ok=True)
        if file.name != "kept.py":
            file.rename(new)

    def _copy(self) -> None:
        new = self._new()
        new.parent.mkdir(exist_ok=True)
        shutil.copyfile(self._any(), new)

    def _spoil(self) -> None:
        """A file whose text doesn't count any more, or hardly."""
        self._any().write_text(self.chance.choice(["", "\n\n", "# generated code, do not edit\nx = 1\n", "x\0y\n"]))

    def _commit(self) -> None:
        self.day += 1
        commit(self.path, {}, day=self.day)

    def _revert(self) -> None:
        git(self.path, "checkout", "--quiet", "--", ".")

    def _reset(self) -> None:
        """As after a force-push: the last commit never was."""
        if git(self.path, "rev-list", "--count", "HEAD") != "1":
            git(self.path, "reset", "--quiet", "--hard", "HEAD~1")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several segments are made one after the other, in this process: as where there is no shared memory."""

    def refused(method: str) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(multiprocessing, "get_context", refused)


@pytest.fixture
def tiny_segments(monkeypatch: pytest.MonkeyPatch, in_process: None) -> None:
    """What happens to large repositories happens to files of a few hundred bytes."""
    monkeypatch.setattr(layout, "_MIN_SEGMENT_BYTES", 1_500)
    monkeypatch.setattr(layout, "_QUICK_BYTES", 800)
    monkeypatch.setattr(layout, "_SMALL_BYTES", 1_600)
    monkeypatch.setattr(layout, "_MAX_DEAD_SHARE", 0.8)
    monkeypatch.setattr(indexing, "num_processes", lambda: 3)


@pytest.mark.parametrize("seed", range(3))
def test_after_every_step_an_index_answers_as_one_built_anew(
    tmp_path: Path, indexer: Indexer, tiny_segments: None, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tree, "_SAME_TIME_NS", 30_000_000)  # what was seen is remembered from one step to the next
    edits, memory = Edits(tmp_path / "r", seed), IndexMemory()
    previous, counts = None, set()
    for i in range(12):
        path = indexer.index(edits.path, memory=None if i % 4 == 3 else memory)
        cold = Indexer(DataDir(tmp_path / f"cold{i}"), indexer.model, indexer.tokenizer).index(edits.path)
        reader, other = IndexReader.open(path, previous=previous), IndexReader.open(cold)
        asked = [*ASKED, *edits.places()]
        assert answers(reader, indexer.tokenizer, asked) == answers(other, indexer.tokenizer, asked), i
        for name in ("num_files", "num_chunks", "num_tokens"):
            assert getattr(reader, name) == getattr(other, name)
        how = {"segments": None, "state": None}
        assert {**reader.manifest.info, **how} == {**other.manifest.info, **how}
        counts.add(tuple(len(part.dead) for part in reader._parts))
        previous = reader
        edits.step()
    assert max(map(len, counts)) > 2 and max(map(max, counts)) > 0


# What changed in between.


def test_what_was_deleted_or_forced_away_is_found_no_more(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)  # segments stay, with what is dead in them
    monkeypatch.setattr(layout, "_MAX_DEAD_SHARE", 1.0)
    secret = "def withdrawn_function(account):\n    return account.withdraw_everything(all_of=account)\n"
    indexer.index(shop)
    commit(shop, {"mistake.py": secret, "other.py": "other_value = 1\n"}, day=1)
    ids, asked = indexer.tokenizer.encode("def withdrawn_function(account):\n    return"), ["x = withdrawn_function(y"]
    with IndexReader.open(indexer.index(shop)) as reader:
        assert reader.draft(ids, 4)
        assert "mistake.py" in str(answers(reader, indexer.tokenizer, asked))
    (shop / "mistake.py").unlink()
    path = indexer.index(shop)
    with IndexReader.open(path) as reader:
        assert [len(part.dead) for part in reader._parts] == [0, 1]
        assert not reader.draft(ids, 4) and reader.continuations(ids) == (0, {})
        assert "mistake.py" not in str(answers(reader, indexer.tokenizer, asked))
    git(shop, "reset", "--quiet", "--hard", "HEAD~1")
    path = indexer.index(shop)
    assert "other_value" not in texts_of(path)
    assert not any(b"withdrawn" in content for content in segments(path).values())


def test_a_change_of_one_file_leaves_the_large_segments_as_they_are(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    first = indexer.index(shop)
    write(shop, {"new.py": "new_value = 1\n"})
    second = indexer.index(shop)
    (large,) = read_segments(first)
    assert read_segments(second)[0].name == large.name
    assert (first / large.name).stat().st_ino == (second / large.name).stat().st_ino
    digests = storage.read_manifest(second, KIND, FORMAT).files
    storage.verify(second, storage.read_manifest(second, KIND, FORMAT))
    assert digests[large.name] == storage.read_manifest(first, KIND, FORMAT).files[large.name]


def test_pruning_the_old_generation_leaves_the_new_one_whole(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    first = indexer.index(shop)
    name = read_segments(first)[0].name
    for i in range(3):
        write(shop, {"new.py": f"new_value = {i}\n"})
        last = indexer.index(shop)
    assert not first.exists()
    assert name in segments(last)
    IndexReader.open(last).close()


def test_a_file_system_without_hard_links_gets_copies(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    first = indexer.index(shop)
    write(shop, {"new.py": "new_value = 1\n"})
    second = indexer.index(shop)
    (large,) = read_segments(first)
    assert (first / large.name).stat().st_ino != (second / large.name).stat().st_ino
    assert segments(first).items() < segments(second).items()
    IndexReader.open(second).close()


def test_many_small_saves_are_compacted_and_answers_stay(
    shop: Path, tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    indexer.index(shop)
    readers = []
    for i in range(6):
        write(shop, {f"new_{i}.py": f"def new_function_{i}(price):\n    return price * {i}\n" * (7 - i)})
        path = indexer.index(shop)
        readers.append((IndexReader.open(path), len(read_segments(path)), path.name))
    assert [number for _, number, _ in readers] == [2, 3, 4, 1, 2, 3]
    assert [name.endswith("-c") for _, _, name in readers] == [False, False, False, True, False, False]
    asked = ["x = new_function_2(price", "return price_of("]
    cold = Indexer(DataDir(tmp_path / "cold"), indexer.model, indexer.tokenizer).index(shop)
    with IndexReader.open(cold) as other:
        expected = answers(other, indexer.tokenizer, asked)
    assert answers(readers[-1][0], indexer.tokenizer, asked) == expected
    for i, (reader, _, _) in enumerate(readers):  # of generations that are gone by now, too
        assert reader.num_files == 5 + i
        assert f"new_{i}.py" in str(answers(reader, indexer.tokenizer, [f"x = new_function_{i}(price"]))


def test_an_unchanged_repository_stays_compacted(shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    for i in range(4):
        indexer.index(shop)
        write(shop, {f"new_{i}.py": f"new_value_{i} = {i}\n" * (5 - i)})
    path = indexer.index(shop)
    assert path.name.endswith("-c") and len(read_segments(path)) == 1
    monkeypatch.setattr(indexing._Indexing, "_publish", lambda *_: pytest.fail("built again"))
    assert indexer.index(shop) == path


def test_memory_holds_the_current_segments_only(shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that follows a working tree for days remembered every segment it had ever made."""
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    memory = IndexMemory()
    for i in range(6):
        write(shop, {"new.py": f"new_value = {i}\n"})
        path = indexer.index(shop, memory=memory)
        assert memory.tables.keys() == {segment.name for segment in read_segments(path)}


def test_readers_share_the_segments_that_stay(shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    first = IndexReader.open(indexer.index(shop), indexer.tokenizer)
    write(shop, {"new.py": "new_value = 1\n"})
    path = indexer.index(shop)
    read: list[Path] = []
    digest = storage.file_digest

    def noted(path: Path) -> str:
        read.append(path)
        return digest(path)

    monkeypatch.setattr(storage, "file_digest", noted)
    second = IndexReader.open(path, indexer.tokenizer, first)
    assert second._parts[0].segment is first._parts[0].segment
    assert len(second._parts) == 2
    assert path / read_segments(path)[0].name not in read
    assert path / read_segments(path)[1].name in read
    first.close()
    assert second.search(SearchQuery(prefix="price_of(item)", suffix="", path=None, language=None), 3)


def test_readers_see_whole_generations_while_new_ones_are_built(shop: Path, indexer: Indexer) -> None:
    stop = threading.Event()
    parent = indexer.index(shop).parent
    failures: list[Exception] = []

    def read() -> None:
        reader: IndexReader | None = None
        while not stop.is_set():
            path = storage.current(parent)
            try:
                assert path is not None
                reader = IndexReader.open(path, previous=reader)
            except (AssertionError, StorageError, OSError) as error:
                if path is not None and path.exists():  # pruned between the two lines above: a reader asks again
                    failures.append(error)
            time.sleep(0.01)

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(6):
        write(shop, {"new.py": f"x = {i}\n"})
        indexer.index(shop)
    stop.set()
    thread.join()
    assert failures == []


def test_a_damaged_blob_is_read_again_when_the_repository_was_repaired(shop: Path, indexer: Indexer) -> None:
    """A file that couldn't be read once was left out until it changed."""
    blob = git(shop, "rev-parse", "HEAD:shop/prices.py")
    loose = shop / ".git" / "objects" / blob[:2] / blob[2:]
    good = loose.read_bytes()
    loose.chmod(0o644)
    loose.write_bytes(good[: len(good) // 2])
    head = git(shop, "rev-parse", "HEAD")
    assert "discounted_price" not in texts_of(indexer.index(shop, commit=head))
    damaged = indexer.index(shop)
    loose.write_bytes(good)
    assert "discounted_price" in texts_of(indexer.index(shop, commit=head))
    repaired = indexer.index(shop)
    assert "discounted_price" in texts_of(repaired) and damaged.exists()
    for _ in range(2):
        assert indexer.index(shop) == repaired == storage.current(repaired.parent)


# Side by side, in processes of their own.


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_MIN_SEGMENT_BYTES", 600)
    monkeypatch.setattr(indexing, "num_processes", lambda: 2)


class Noting:
    """A Progress that keeps what was said to be done."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        assert total == 4 and unit == "files"

    def advance(self, done: int, note: str = "") -> None:
        self.done.append(done)

    def finish(self, note: str = "") -> None:
        assert note == "4 files"


def test_segments_built_side_by_side_answer_as_one(
    shop: Path, tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["x = price_of(item", "class Basket:", SHOP["shop/report.py"][:150]]
    with IndexReader.open(indexer.index(shop)) as reader:
        assert len(reader._parts) == 1
        expected = answers(reader, indexer.tokenizer, asked)
    monkeypatch.setattr(layout, "_MIN_SEGMENT_BYTES", 600)
    monkeypatch.setattr(indexing, "num_processes", lambda: 2)
    progress = Noting()
    path = Indexer(DataDir(tmp_path / "other"), indexer.model, indexer.tokenizer).index(shop, progress=progress)
    assert progress.done == sorted(progress.done) and progress.done[-1] == 4
    with IndexReader.open(path) as reader:
        assert len(reader._parts) == 2
        assert answers(reader, indexer.tokenizer, asked) == expected
    assert multiprocessing.active_children() == []


class Interrupting(SilentProgress):
    """Ctrl-C, as soon as processes are at work."""

    def advance(self, done: int, note: str = "") -> None:
        raise KeyboardInterrupt


def test_ctrl_c_leaves_no_processes_and_no_files(shop: Path, indexer: Indexer, two_processes: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        indexer.index(shop, progress=Interrupting())
    assert multiprocessing.active_children() == []
    parent = indexer.data.index(indexer.open(shop).id)
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_a_repository_that_takes_too_long_ends_in_one_line_and_its_last_generation_stays(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """In this process, and in two others. Its own limit beats the setting."""
    before = indexer.index(shop)
    monkeypatch.setattr(layout, "_MIN_SEGMENT_BYTES", 600)
    monkeypatch.setattr(indexing, "num_processes", lambda: processes)
    commit(shop, {f"new/{number}.py": f"value = {number}\n" * 100 for number in range(4)}, day=1)
    with pytest.raises(RepositoryError, match=r"shop: indexing took longer than 0 minutes; raise index_minutes.*kept"):
        indexer.index(shop, settings=replace(Settings(), index_minutes=0))
    assert multiprocessing.active_children() == []
    parent = indexer.data.index(indexer.open(shop).id)
    assert storage.current(parent) == before and not leftovers(parent)
    own = replace(indexer.open(shop), index_minutes=1)
    path = indexing.index_repository(
        own,
        settings=replace(Settings(), index_minutes=0),
        data=indexer.data,
        model=indexer.model,
        tokenizer=indexer.tokenizer,
        progress=SilentProgress(),
    )
    assert len(read_segments(path)) == processes


FOLLOWED_BY_DEATH = """
import multiprocessing, sys, time
from pathlib import Path
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import indexing, layout
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer

class Waiting(SilentProgress):
    def advance(self, done, note=""):
        if done:  # the processes are set up, and all their files are done
            print(*(process.pid for process in multiprocessing.active_children()), flush=True)
            time.sleep(60)

if __name__ == "__main__":
    layout._MIN_SEGMENT_BYTES, indexing.num_processes = 600, lambda: 2
    data, model = DataDir(Path(sys.argv[2])), resolve_base_model("builtin", "auto")
    repo = open_repository(sys.argv[1], data, timeout_s=20, progress=SilentProgress())
    indexing.index_repository(
        repo, settings=Settings(), data=data, model=model, tokenizer=load_tokenizer(model), progress=Waiting()
    )
"""


def test_kill_nine_leaves_no_processes_behind(shop: Path, tmp_path: Path, indexer: Indexer) -> None:
    script = tmp_path / "script.py"
    script.write_text(FOLLOWED_BY_DEATH)
    command = [sys.executable, str(script), str(shop), str(indexer.data.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = list(map(int, process.stdout.readline().split()))
        process.kill()
    assert len(workers) == 2
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers):  # else pytest's limit ends this
        time.sleep(0.01)
    assert "price_of" in texts_of(indexer.index(shop))
    assert not leftovers(indexer.data.index(indexer.open(shop).id))


class Killing(SilentProgress):
    """The kernel ends a process, as it does when memory runs out."""

    def advance(self, done: int, note: str = "") -> None:
        for process in multiprocessing.active_children():
            process.kill()


def test_a_worker_that_is_killed_ends_the_build_with_an_error_that_says_so(
    shop: Path, indexer: Indexer, two_processes: None
) -> None:
    with pytest.raises(HomespunError, match="memory"):
        indexer.index(shop, progress=Killing())
    assert multiprocessing.active_children() == []
    assert list(indexer.data.index(indexer.open(shop).id).iterdir()) == []


def test_an_error_in_a_worker_reaches_the_caller_as_itself(shop: Path, tmp_path: Path, indexer: Indexer) -> None:
    repo = indexer.open(shop)
    found = files.select(repo, settings=Settings()).candidates
    targets = [tmp_path / "one", tmp_path / "two"]
    targets[1].write_bytes(b"")
    jobs = [build.Job(repo=repo, candidates=found, target=target, cache=tmp_path / "cache") for target in targets]
    with pytest.raises(FileExistsError, match="two"):
        build.build_segments(jobs, indexer.tokenizer, indexer.model, SilentProgress())
    assert multiprocessing.active_children() == []

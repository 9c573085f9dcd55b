"""Building an index: only what changed, all or nothing, from any point of failure."""

from __future__ import annotations

import json
import shutil
import signal
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
from homespun_core.errors import RepositoryError, StorageError
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import blobs, snapshot
from homespun_indexer.chunks import ChunkedFile, chunk_file
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND, index_repository
from homespun_indexer.tokenizer import GuardedTokenizer
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, commit, git, make_repo, write


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", SHOP)


def texts(path: Path) -> bytes:
    return (path / "texts.bin").read_bytes()


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
    monkeypatch.setattr(snapshot, "_publish", lambda *_: pytest.fail("built again"))
    assert indexer.index(shop) == path
    commit(shop, {"README.md": "# Other words\n"}, day=1)  # no source file
    assert indexer.index(shop) == path


def test_only_changed_files_are_parsed(shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    indexer.index(shop)
    parsed = []

    def counted(text: str, language: str) -> ChunkedFile:
        parsed.append(text)
        return chunk_file(text, language)

    monkeypatch.setattr(blobs, "chunk_file", counted)
    write(shop, {"shop/prices.py": SHOP["shop/prices.py"] + "\nnew = 1\n"})
    second = indexer.index(shop)
    assert parsed == [SHOP["shop/prices.py"] + "\nnew = 1\n"]
    assert b"new = 1" in texts(second)


def test_an_index_from_the_cache_is_the_same_byte_for_byte(shop: Path, indexer: Indexer) -> None:
    first = indexer.index(shop)
    files = storage.read_manifest(first, KIND, FORMAT).files
    shutil.rmtree(indexer.data.index_root)
    assert storage.read_manifest(indexer.index(shop), KIND, FORMAT).files == files
    shutil.rmtree(indexer.data.root)
    assert storage.read_manifest(indexer.index(shop), KIND, FORMAT).files == files


@pytest.mark.parametrize("damage", [b"not a database at all, but long enough to be looked at" * 100, b""])
def test_a_damaged_cache_is_rebuilt(shop: Path, indexer: Indexer, damage: bytes) -> None:
    first = indexer.index(shop)
    shutil.rmtree(indexer.data.index_root)
    for extra in indexer.data.cache.glob("blobs.sqlite-*"):
        extra.unlink()
    (indexer.data.cache / "blobs.sqlite").write_bytes(damage)
    assert indexer.index(shop).name == first.name


def test_a_flipped_bit_in_the_cache_is_noticed(shop: Path, indexer: Indexer) -> None:
    first = indexer.index(shop)
    files = storage.read_manifest(first, KIND, FORMAT).files
    cache = indexer.data.cache / "blobs.sqlite"
    good = cache.read_bytes()
    for share in (0.3, 0.5, 0.7, 0.9):
        bad = bytearray(good)
        bad[int(len(bad) * share)] ^= 1
        cache.write_bytes(bad)
        shutil.rmtree(indexer.data.index_root)
        assert storage.read_manifest(indexer.index(shop), KIND, FORMAT).files == files


def test_a_damaged_index_is_built_again(shop: Path, indexer: Indexer) -> None:
    path = indexer.index(shop)
    good = texts(path)
    (path / "texts.bin").write_bytes(good[:-1] + b"!")
    with pytest.raises(StorageError):
        IndexReader.open(path)
    assert indexer.index(shop) == path
    assert texts(path) == good


def test_the_state_says_why_an_index_is_built(
    shop: Path, indexer: Indexer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("DEBUG", logger="homespun_indexer.snapshot")
    path = indexer.index(shop)
    indexer.index(shop)
    (path / "texts.bin").write_bytes(b"")
    indexer.index(shop)
    write(shop, {"new.py": "x = 1\n"})
    indexer.index(shop)
    monkeypatch.setattr(snapshot, "MAX_LINES", 30)
    indexer.index(shop)
    monkeypatch.setattr(snapshot, "FORMAT", FORMAT + 1)
    indexer.index(shop)
    states = [r.getMessage().rpartition(" ")[2] for r in caplog.records if r.getMessage().startswith("index of")]
    assert states == ["missing", "equal", "corrupt", "content", "options", "format"]


def test_a_commit_is_frozen_and_never_current(shop: Path, indexer: Indexer) -> None:
    first = git(shop, "rev-parse", "HEAD")
    write(shop, {"later.py": "LATER = 1\n"})
    now = indexer.index(shop)
    frozen = indexer.index(shop, commit=first)
    repo = indexer.open(shop)
    assert b"LATER" in texts(now)
    assert b"LATER" not in texts(frozen)
    assert storage.current(indexer.data.index(repo.id)) == now
    for i in range(5):  # newer states push older ones out, but not what was made for a commit
        write(shop, {"later.py": f"LATER = {i}\n"})
        indexer.index(shop)
    assert frozen.exists()
    kept = [p for p in indexer.data.index(repo.id).iterdir() if (p / storage.MANIFEST).is_file()]
    assert len(kept) == 3


def test_excluded_paths_are_not_in_the_index(shop: Path, indexer: Indexer) -> None:
    path = indexer.index(shop, commit=git(shop, "rev-parse", "HEAD"), exclude=frozenset({"shop/prices.py"}))
    assert b"discounted_price" not in texts(path)
    assert path != indexer.index(shop, commit=git(shop, "rev-parse", "HEAD"))


def test_nothing_to_index_says_what_was_skipped(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"README.md": "hello\n", "logo.png": b"\x89PNG", "empty.py": "\n"})
    with pytest.raises(RepositoryError, match=r"no source files to index \(2 unknown language, 1 empty\)"):
        indexer.index(path)
    (path / "empty.py").unlink()
    with pytest.raises(RepositoryError, match="2 unknown language"):
        indexer.index(path)


def test_settings_that_let_less_in_make_another_index(shop: Path, indexer: Indexer) -> None:
    write(shop, {"big.py": "x = 1\n" * 400})
    assert indexer.index(shop) != indexer.index(shop, settings=replace(Settings(), max_file_kb=2))


BUILD = """
import sys, time
from pathlib import Path
from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import SilentProgress
from homespun_indexer import snapshot
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer

repository, root, point = sys.argv[1:]
module, _, name = point.rpartition(".")
owner = {"snapshot": snapshot, "storage": storage}[module]
reached = getattr(owner, name)

def wait(*args, **kwargs):
    result = reached(*args, **kwargs)
    print("here", flush=True)
    time.sleep(60)
    return result

setattr(owner, name, wait)
data, model = DataDir(Path(root)), resolve_base_model("builtin", "auto")
repo = open_repository(repository, data, timeout_s=20, progress=SilentProgress())
snapshot.index_repository(
    repo, settings=Settings(), data=data, model=model, tokenizer=load_tokenizer(model), progress=SilentProgress()
)
"""


@pytest.mark.parametrize(
    "point", ["snapshot._analysed", "snapshot._write", "storage._fsync_tree", "storage.set_current"]
)
def test_kill_nine_at_any_point_leaves_the_old_index_and_no_litter(shop: Path, indexer: Indexer, point: str) -> None:
    old = indexer.index(shop)
    parent = old.parent
    write(shop, {"new.py": "NEW = 1\n"})
    command = [sys.executable, "-c", BUILD, str(shop), str(indexer.data.root), point]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
    current = storage.current(parent)
    assert current is not None
    IndexReader.open(current).close()  # whole, whichever it is
    assert current == old or point == "storage.set_current"
    new = indexer.index(shop)
    assert b"NEW" in texts(new)
    assert storage.current(parent) == new
    assert not list(parent.glob(".tmp-*"))


def test_readers_see_whole_generations_while_new_ones_are_built(shop: Path, indexer: Indexer) -> None:
    stop = threading.Event()
    parent = indexer.index(shop).parent
    failures: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            path = storage.current(parent)
            try:
                assert path is not None
                IndexReader.open(path).close()
            except (AssertionError, StorageError, OSError) as error:
                if path is not None and path.exists():  # pruned between the two lines above: a reader asks again
                    failures.append(error)
            time.sleep(0.05)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(6):
        write(shop, {"new.py": f"x = {i}\n"})
        indexer.index(shop)
    stop.set()
    reader.join()
    assert failures == []


def test_another_base_model_has_its_own_tokens(shop: Path, indexer: Indexer, data: DataDir) -> None:
    spec = json.loads((Path(indexer.model.path) / "tokenizer.json").read_text(encoding="utf-8"))
    spec["added_tokens"].append(dict(spec["added_tokens"][0], id=len(spec["model"]["vocab"]), content="<|extra|>"))
    other = GuardedTokenizer(json.dumps(spec))
    first = indexer.index(shop)
    path = index_repository(
        indexer.open(shop),
        settings=Settings(),
        data=data,
        model=indexer.model,
        tokenizer=other,
        progress=SilentProgress(),
    )
    assert path != first
    with IndexReader.open(path, other) as reader:
        assert reader.draft(other.encode("def discounted_price(item, percent):\n    full_price ="), 4)


def test_a_locked_cache_is_done_without_and_kept(
    shop: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = indexer.index(shop)
    shutil.rmtree(indexer.data.index_root)
    cache = indexer.data.cache / "blobs.sqlite"
    (shop / "new.py").write_text("value = 1\n")
    monkeypatch.setattr(blobs, "_LOCK_S", 0.05)
    inode = cache.stat().st_ino
    with closing(sqlite3.connect(cache)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert indexer.index(shop).name != first.name
        other.rollback()
        (known,) = other.execute("SELECT count(*) FROM analyses").fetchone()
    assert known > 0 and cache.stat().st_ino == inode
    assert "locked; going on without it" in caplog.text

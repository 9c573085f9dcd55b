"""Snapshots appear whole or not at all, whatever happens while they are written."""

import errno
import fcntl
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest

MANIFEST = Manifest(kind="index", format_version=1, fingerprint="f", sources={"commit": "c"})


def publish(final: Path, text: str = "x") -> None:
    with storage.publish_dir(final, MANIFEST) as tmp:
        (tmp / "sub").mkdir()
        (tmp / "sub" / "data").write_text(text)


def test_a_published_snapshot_verifies(tmp_path: Path) -> None:
    publish(tmp_path / "g1")
    manifest = storage.read_manifest(tmp_path / "g1", "index", 1)
    storage.verify(tmp_path / "g1", manifest)
    assert manifest.sources == {"commit": "c"}
    assert set(manifest.files) == {"sub/data"}


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_noticed_and_named(tmp_path: Path, damage: str) -> None:
    publish(tmp_path / "g1", "some text")
    path = tmp_path / "g1" / "sub" / "data"
    if damage == "remove":
        path.unlink()
    else:
        path.write_text("some tex" + ("T" if damage == "flip" else ""))
    with pytest.raises(StorageError, match=r"sub/data: (damaged|missing)"):
        storage.verify(tmp_path / "g1", storage.read_manifest(tmp_path / "g1", "index", 1))


def test_other_kinds_and_formats_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "g1")
    with pytest.raises(StorageError, match="kind 'index', not 'adapter'"):
        storage.read_manifest(tmp_path / "g1", "adapter", 1)
    with pytest.raises(StorageError, match="format 1, this Homespun reads 2"):
        storage.read_manifest(tmp_path / "g1", "index", 2)


def test_an_exception_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), storage.publish_dir(tmp_path / "g1", MANIFEST) as tmp:
        (tmp / "data").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_may_be_known_only_when_the_rest_is_written(tmp_path: Path) -> None:
    lines = 0
    manifest = Manifest(kind="index", format_version=1, fingerprint="f", sources={})
    with storage.publish_dir(tmp_path / "g1", lambda: replace(manifest, info={"lines": lines})) as tmp:
        storage.write_bytes(tmp / "data", b"a\nb\n")
        lines = 2
    assert storage.read_manifest(tmp_path / "g1", "index", 1).info == {"lines": 2}


def test_a_manifest_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def refuse() -> Manifest:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), storage.publish_dir(tmp_path / "g1", refuse) as tmp:
        storage.write_bytes(tmp / "data", b"x")
    assert list(tmp_path.iterdir()) == []


def test_linked_files_with_known_digests_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "g1", "some text")
    digest = storage.read_manifest(tmp_path / "g1", "index", 1).files["sub/data"]
    read: list[str] = []
    file_digest = storage.file_digest

    def noted(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(storage, "file_digest", noted)
    known: dict[str, str] = {}
    with storage.publish_dir(tmp_path / "g2", MANIFEST, known) as tmp:
        storage.link(tmp_path / "g1" / "sub" / "data", tmp / "old")
        storage.write_bytes(tmp / "new", b"new")
        known["old"] = digest
    assert read == ["new"]
    manifest = storage.read_manifest(tmp_path / "g2", "index", 1)
    assert manifest.files["old"] == digest
    assert (tmp_path / "g2" / "old").stat().st_ino == (tmp_path / "g1" / "sub" / "data").stat().st_ino
    read.clear()
    storage.verify(tmp_path / "g2", manifest, known=[digest])
    assert read == ["new"]
    storage.verify(tmp_path / "g2", manifest)


def test_files_of_a_known_digest_must_still_be_there(tmp_path: Path) -> None:
    publish(tmp_path / "g1")
    manifest = storage.read_manifest(tmp_path / "g1", "index", 1)
    (tmp_path / "g1" / "sub" / "data").unlink()
    with pytest.raises(StorageError, match="missing"):
        storage.verify(tmp_path / "g1", manifest, known=manifest.files.values())


def test_a_link_outlives_the_snapshot_it_was_made_from(tmp_path: Path) -> None:
    publish(tmp_path / "g1", "shared")
    with storage.publish_dir(tmp_path / "g2", MANIFEST) as tmp:
        storage.link(tmp_path / "g1" / "sub" / "data", tmp / "data")
    storage.remove(tmp_path / "g1")
    storage.verify(tmp_path / "g2", storage.read_manifest(tmp_path / "g2", "index", 1))
    assert (tmp_path / "g2" / "data").read_text() == "shared"


def test_without_hard_links_a_link_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "a").write_text("text")
    storage.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_text("other")
    assert (tmp_path / "b").read_text() == "text"


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_bytes_are_written_whole_and_never_over_a_file(tmp_path: Path, size: int) -> None:
    """What is there may be linked into another snapshot."""
    data = os.urandom(size)
    storage.write_bytes(tmp_path / "a", data)
    assert (tmp_path / "a").read_bytes() == data
    with pytest.raises(FileExistsError):
        storage.write_bytes(tmp_path / "a", b"other")
    assert (tmp_path / "a").read_bytes() == data


def test_publishing_what_is_there_already_keeps_the_first(tmp_path: Path) -> None:
    publish(tmp_path / "g1", "first")
    publish(tmp_path / "g1", "second")
    assert (tmp_path / "g1" / "sub" / "data").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["g1"]


def test_what_is_left_of_a_deleted_snapshot_does_not_block_its_name(tmp_path: Path) -> None:
    publish(tmp_path / "g1", "old")
    (tmp_path / "g1" / storage.MANIFEST).unlink()
    publish(tmp_path / "g1", "new")
    assert (tmp_path / "g1" / "sub" / "data").read_text() == "new"
    assert not list(tmp_path.glob(".tmp-*"))


def _die_while_writing(final: Path) -> None:
    with storage.publish_dir(final, MANIFEST) as tmp:
        (tmp / "data").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_kill_while_writing_leaves_the_old_snapshot_and_the_next_writer_sweeps(tmp_path: Path) -> None:
    publish(tmp_path / "g1")
    storage.set_current(tmp_path, "g1")
    child = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(tmp_path / "g2",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert storage.current(tmp_path) == tmp_path / "g1"
    assert list(tmp_path.glob(".tmp-*"))
    publish(tmp_path / "g3")
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_pointer_to_a_deleted_snapshot_is_no_snapshot(tmp_path: Path) -> None:
    assert storage.current(tmp_path) is None
    storage.set_current(tmp_path, "gone")
    assert storage.current(tmp_path) is None


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"a\0b", b"x" * 5_000, b"", None])
def test_a_damaged_pointer_is_no_snapshot_and_publishing_mends_it(tmp_path: Path, damage: bytes | None) -> None:
    publish(tmp_path / "g1")
    pointer = tmp_path / storage.CURRENT
    if damage is None:
        pointer.symlink_to(pointer)  # can't be read, by nobody
    else:
        pointer.write_bytes(damage)
    assert storage.current(tmp_path) is None
    storage.set_current(tmp_path, "g1")
    assert storage.current(tmp_path) == tmp_path / "g1"


def test_litter_with_our_own_process_id_is_swept_but_not_that_of_others(tmp_path: Path) -> None:
    """In a container the process before ours had the same id."""
    other = tmp_path / f".tmp-a-{os.getppid()}"
    other.mkdir()
    (tmp_path / f".tmp-b-{os.getpid()}").mkdir()
    (tmp_path / f".tmp-CURRENT-{os.getpid()}").write_text("half")
    storage.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [other]


def test_two_containers_write_beside_each_other(tmp_path: Path) -> None:
    """Their processes have the same id, and none sees the other's: a worker's corpus of a repository was swept away by
    another that trained an adapter shared with it. Here both are this process."""
    with storage.publish_dir(tmp_path / "g1", MANIFEST) as ours, storage.publish_dir(tmp_path / "g1", MANIFEST) as tmp:
        (ours / "data").write_text("x")
        storage.write_atomic(tmp_path / "pointer", "x")
        storage.sweep(tmp_path)
        (tmp / "data").write_text("x")
    storage.verify(tmp_path / "g1", storage.read_manifest(tmp_path / "g1", "index", 1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g1", "pointer"]


def test_where_directories_have_no_locks_only_what_is_old_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.EBADF, "as NFS does")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".tmp-old-1").mkdir()
    os.utime(tmp_path / ".tmp-old-1", (0, 0))
    monkeypatch.setattr(storage, "_is_running", lambda pid: False)
    with storage.publish_dir(tmp_path / "g1", MANIFEST) as tmp:
        storage.sweep(tmp_path)
        (tmp / "data").write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["g1"]


def test_two_parents_are_written_at_the_same_time(tmp_path: Path) -> None:
    with storage.publish_dir(tmp_path / "one" / "g1", MANIFEST) as tmp:
        publish(tmp_path / "two" / "g1")
        (tmp / "data").write_text("x")
    assert (tmp_path / "one" / "g1" / "data").is_file()
    assert (tmp_path / "two" / "g1" / "sub" / "data").is_file()


def test_prune_keeps_the_current_and_the_newest(tmp_path: Path) -> None:
    for i, name in enumerate(["a", "b", "c", "d"]):
        publish(tmp_path / name)
        os.utime(tmp_path / name, (i, i))
    storage.set_current(tmp_path, "a")
    storage.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CURRENT", "a", "d"]


def test_prune_leaves_alone_what_is_being_written(tmp_path: Path) -> None:
    """It has its manifest already, a moment before it gets its name."""
    for i, name in enumerate(["a", "b"]):
        publish(tmp_path / name)
        os.utime(tmp_path / name, (i, i))
    storage.set_current(tmp_path, "b")
    unfinished = tmp_path / f".tmp-c-{os.getpid()}"
    publish(tmp_path / "c")
    (tmp_path / "c").rename(unfinished)
    storage.prune(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [unfinished.name, "CURRENT", "a", "b"]
    os.utime(unfinished, (0, 0))
    storage.prune(tmp_path, keep=2)
    assert unfinished.exists()


def test_a_removed_snapshot_is_gone_at_once(tmp_path: Path) -> None:
    publish(tmp_path / "a")
    storage.remove(tmp_path / "a")
    storage.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_exclusive_says_who_holds_it_and_goes_with_the_block(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    refused = pytest.raises(StorageError, match="homespun train is already running")
    with storage.locked(lock, "homespun train"), refused, storage.locked(lock, "homespun train"):
        pass
    with storage.locked(lock, "homespun train"):
        pass


def test_fingerprints_tell_inputs_apart() -> None:
    assert storage.fingerprint("ab", "c") != storage.fingerprint("a", "bc")
    assert storage.fingerprint({"a": 1, "b": 2}) == storage.fingerprint({"b": 2, "a": 1})


def test_threads_may_write_one_file_at_the_same_time(tmp_path: Path) -> None:
    """Two hooks about one push, one for the branch and one for the tag, come together."""

    def write(text: str) -> None:
        for _ in range(50):
            storage.write_atomic(tmp_path / "nudge", text)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert [p.name for p in tmp_path.iterdir()] == ["nudge"]
    assert (tmp_path / "nudge").read_text() in "abcd"

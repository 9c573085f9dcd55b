"""A worker that was given up and comes back publishes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from homespun_core import fences, registry, storage
from homespun_core.errors import StorageError
from homespun_core.fences import FENCE, Lease, raise_fence, work_under
from homespun_core.storage import Manifest

MANIFEST = Manifest(kind="index", format_version=1, fingerprint="f", sources={})


@pytest.fixture(autouse=True)
def _no_lease() -> Iterator[None]:
    yield
    work_under(None)


def publish(folder: Path, name: str) -> None:
    with storage.publish_dir(folder / name, MANIFEST):
        pass
    storage.set_current(folder, name)


def test_the_last_lease_publishes_and_earlier_ones_do_not(tmp_path: Path) -> None:
    raise_fence(tmp_path, Lease("index", 7))
    work_under(Lease("index", 7))
    publish(tmp_path, "a")
    raise_fence(tmp_path, Lease("index", 8))
    with pytest.raises(StorageError, match="another worker"):
        storage.set_current(tmp_path, "a")
    with pytest.raises(StorageError, match="another worker"):
        publish(tmp_path, "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CURRENT", FENCE, "a"]


def test_people_and_leases_about_other_things_pass(tmp_path: Path) -> None:
    raise_fence(tmp_path, Lease("train", 8))
    publish(tmp_path, "a")
    work_under(Lease("index", 7))
    publish(tmp_path, "b")
    publish(tmp_path / "unfenced", "c")


def test_a_fence_is_never_lowered(tmp_path: Path) -> None:
    raise_fence(tmp_path, Lease("index", 8))
    raise_fence(tmp_path, Lease("index", 7))
    work_under(Lease("index", 7))
    with pytest.raises(StorageError, match="another worker"):
        publish(tmp_path, "a")


def test_an_unreadable_fence_stops_leases_until_the_next_one(tmp_path: Path) -> None:
    (tmp_path / FENCE).write_bytes(b"\xff\x00")
    work_under(Lease("index", 7))
    with pytest.raises(StorageError, match="unreadable"):
        publish(tmp_path, "a")
    raise_fence(tmp_path, Lease("index", 7))
    publish(tmp_path, "a")


def test_a_candidate_of_an_ended_lease_changes_no_name(tmp_path: Path) -> None:
    sources = {"base_model": "d"}
    with registry.publish_adapter(tmp_path / "v1", fingerprint="f", sources=sources, report={}) as folder:
        (folder / "adapter_config.json").write_text("{}")
    raise_fence(tmp_path, Lease("train", 2))
    work_under(Lease("train", 1))
    for approval in ("manual", "automatic"):
        with pytest.raises(StorageError, match="another worker"):
            registry.offer(tmp_path, "v1", approval)
    assert registry.aliases(tmp_path).candidate is None
    work_under(Lease("train", 2))
    assert registry.offer(tmp_path, "v1", "automatic").champion == "v1"


def _publish_when_told(folder: Path, told: Connection) -> None:
    work_under(Lease("index", 1))
    told.recv()
    try:
        publish(folder, "zombie")
        told.send("published")
    except StorageError:
        told.send("refused")


def test_a_stopped_process_that_goes_on_after_the_next_lease_is_refused(tmp_path: Path) -> None:
    raise_fence(tmp_path, Lease("index", 1))
    ours, its = multiprocessing.Pipe()
    zombie = multiprocessing.get_context("spawn").Process(target=_publish_when_told, args=(tmp_path, its))
    zombie.start()
    assert zombie.pid is not None
    os.kill(zombie.pid, signal.SIGSTOP)
    ours.send("go")
    raise_fence(tmp_path, Lease("index", 2))
    os.kill(zombie.pid, signal.SIGCONT)
    assert ours.recv() == "refused"
    zombie.join(30)
    assert storage.current(tmp_path) is None


def test_somebody_who_never_ends_publishing_holds_up_that_lease_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fences, "_PATIENCE_S", 0.05)
    raise_fence(tmp_path / "a", Lease("index", 1))
    work_under(Lease("index", 1))
    with fences.passing(tmp_path / "a"):
        with pytest.raises(StorageError, match="has been publishing"):
            raise_fence(tmp_path / "a", Lease("index", 2))
        raise_fence(tmp_path / "b", Lease("index", 2))

"""A cache that can't be used costs time, never the work it is for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from homespun_indexer.cache import BlobCache


def goes_without(path: Path, caplog: pytest.LogCaptureFixture) -> bool:
    """Everything works, nothing is kept, and one warning says so."""
    with BlobCache(path) as cache:
        cache.put({"a": b"1"})
        found = cache.get(["a"])
    return found == {} and len(caplog.records) == 1 and "going on without it" in caplog.text


def test_a_directory_in_its_place_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "blobs.sqlite"
    path.mkdir()
    assert goes_without(path, caplog)
    assert path.is_dir()


def test_a_file_in_place_of_its_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("")
    assert goes_without(tmp_path / "cache" / "blobs.sqlite", caplog)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), sqlite3.OperationalError("disk I/O error")]
)
def test_one_that_cannot_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(self: BlobCache) -> sqlite3.Connection:
        raise error

    monkeypatch.setattr(BlobCache, "_open", refuse)
    assert goes_without(tmp_path / "blobs.sqlite", caplog)


def test_a_damaged_one_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "blobs.sqlite"
    path.write_bytes(b"no database " * 1_000)
    with BlobCache(path) as cache:
        cache.put({"a": b"1"})
        assert cache.get(["a"]) == {"a": b"1"}
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "is rebuilt" in caplog.text

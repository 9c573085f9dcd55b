"""What a snapshot says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.storage import Manifest
from homespun_indexer.snapshot import (
    FORMAT,
    KIND,
    IndexState,
    LiveSegment,
    read_segments,
    why_new,
    write_segments,
)


def test_the_list_of_segments_comes_back_as_it_was(tmp_path: Path) -> None:
    segments = (LiveSegment("b", frozenset({3, 1}), (5, 0, 7, 9)), LiveSegment("a", frozenset(), (1,)))
    write_segments(tmp_path, segments)
    assert read_segments(tmp_path) == segments


def published(path: Path, *, kind: str = KIND, format_version: int = FORMAT) -> Path:
    manifest = Manifest(kind=kind, format_version=format_version, fingerprint="f", sources={"options": "same"})
    with storage.publish_dir(path, manifest):
        pass
    return path


@pytest.mark.parametrize(
    ("kind", "format_version", "options", "expected"),
    [
        (KIND, FORMAT, "same", IndexState.CONTENT),
        (KIND, FORMAT, "other", IndexState.OPTIONS),
        (KIND, FORMAT - 1, "same", IndexState.FORMAT),
        ("corpus", FORMAT, "same", IndexState.FORMAT),
    ],
)
def test_a_manifest_tells_why_another_snapshot_is_needed(
    tmp_path: Path, kind: str, format_version: int, options: str, expected: IndexState
) -> None:
    path = published(tmp_path / "g", kind=kind, format_version=format_version)
    assert why_new(path, options) is expected


def test_without_a_readable_manifest_the_reason_is_simple(tmp_path: Path) -> None:
    assert why_new(None, "same") is IndexState.MISSING
    path = published(tmp_path / "g")
    (path / storage.MANIFEST).write_text("{")
    assert why_new(path, "same") is IndexState.FORMAT

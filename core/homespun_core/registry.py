"""Adapters on disk: `adapters/<repo>/<version>/` snapshots, one of them live.

A candidate that the gate turned down stays there, with the reasons in its report, until newer ones push it out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest

ADAPTER_KIND = "adapter"
ADAPTER_FORMAT = 1
"""1: peft's adapter_config.json and adapter_model.safetensors, report.json."""
REPORT = "report.json"
_KEEP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    version: str
    path: Path
    base_digest: str
    """Digest of the base model it was trained on; it fits no other."""
    report: Mapping[str, Any]
    """Evaluation and gate: scores of every arm, whether it was promoted, and why or why not."""


def new_version(fingerprint: str) -> str:
    """A name for a version made now; names sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{fingerprint[:8]}"


@contextmanager
def publish_adapter(
    path: Path, *, fingerprint: str, sources: Mapping[str, str], report: Mapping[str, Any]
) -> Iterator[Path]:
    """Yield a directory to put peft's two files into; on success it is the version at `path`, not live yet.

    `sources["base_model"]` is the base model's digest.
    """
    manifest = Manifest(kind=ADAPTER_KIND, format_version=ADAPTER_FORMAT, fingerprint=fingerprint, sources=sources)
    with storage.publish_dir(path, manifest) as tmp:
        yield tmp
        (tmp / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def promote(adapters: Path, version: str) -> None:
    """Make a version live: servers pick it up within a second. Older versions beyond the last few are deleted."""
    storage.set_current(adapters, version)
    storage.prune(adapters, _KEEP)


def newest(adapters: Path) -> Adapter | None:
    """The last version trained, live or not."""
    versions = sorted(p.name for p in adapters.glob("*") if (p / storage.MANIFEST).is_file())
    return load_adapter(adapters / versions[-1]) if versions else None


def live(adapters: Path) -> Adapter | None:
    """The live version. Raises StorageError when it is there but damaged."""
    path = storage.current(adapters)
    return load_adapter(path) if path else None


def load_adapter(path: Path) -> Adapter:
    """Check and describe a version; reads every byte of it once. Raises StorageError when it is damaged."""
    manifest = storage.read_manifest(path, ADAPTER_KIND, ADAPTER_FORMAT)
    storage.verify(path, manifest)
    try:
        report = json.loads((path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path / REPORT}: unreadable ({error})") from error
    return Adapter(version=path.name, path=path, base_digest=manifest.sources["base_model"], report=report)

"""From a trained and judged adapter to a version on disk, live if the gate said so."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.registry import Adapter
from homespun_trainer import checkpoint, trained_on
from homespun_trainer.job import Job
from homespun_trainer.train import TrainResult

logger = logging.getLogger(__name__)

_KEEP_TURNED_DOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    version: str
    path: Path
    """Its directory; with a page for people in it, `page.PAGE`."""
    is_new: bool
    """False when this very adapter was there already."""
    report: Mapping[str, Any]


def same_as_last(adapters: Path, fingerprint: str) -> Adapter | None:
    try:
        last = registry.newest(adapters)
        if last is None:
            return None
        manifest = storage.read_manifest(last.path, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    except StorageError as error:
        logger.warning("the last adapter is of no use: %s", error)
        return None
    return last if manifest.fingerprint == fingerprint else None


def publish(job: Job, fingerprint: str, result: TrainResult, facts: Mapping[str, Any]) -> Outcome:
    sources = {"base_model": job.files.digest, "corpus": job.corpus.fingerprint, "repository": job.repo_name}
    version = registry.new_version(fingerprint)
    path = job.adapters / version
    with registry.publish_adapter(path, fingerprint=fingerprint, sources=sources, report=facts) as folder:
        for file in sorted(result.path.iterdir()):
            shutil.copy(file, folder / file.name)
        trained_on.write(folder, job.corpus.documents)
    if facts["promote"]:
        registry.promote(job.adapters, version)
    storage.prune(job.adapters, _KEEP_TURNED_DOWN)
    checkpoint.discard(job.run)
    return Outcome(version=version, path=path, is_new=True, report=facts)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    version: str
    path: Path
    """Its directory; with a page for people in it, `page.PAGE`."""
    is_new: bool
    """False when this very adapter was there already."""
    report: Mapping[str, Any]
    waits_for: str | None = None
    """Why it isn't live although the gate let it pass, with the remedy."""


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


def publish(
    job: Job, fingerprint: str, result: TrainResult, facts: Mapping[str, Any], parent: Path | None = None
) -> Outcome:
    """`parent` is the adapter that it was trained on top of."""
    version = registry.new_version(fingerprint)
    path = job.adapters / version
    with registry.publish_adapter(path, fingerprint=fingerprint, sources=_sources(job), report=facts) as folder:
        for file in sorted(result.path.iterdir()):
            shutil.copy(file, folder / file.name)
        trained_on.write(folder, job.corpus.documents, parent)
    waits_for = offered(job, version) if facts["promote"] else None
    registry.prune(job.adapters)
    checkpoint.discard(job.run)
    return Outcome(version=version, path=path, is_new=True, report=facts, waits_for=waits_for)


def offered(job: Job, version: str) -> str | None:
    """Put a version live that the gate let pass; None, or why that has to wait for a person."""
    now = registry.offer(job.adapters, version, job.settings.approval)
    if version == now.champion:
        return None
    verb, repo = "homespun adapters", job.repo_id
    if version != now.candidate:
        return f"somebody decided against it since; if you mean it: {verb} promote {repo} {version}"
    if now.pinned:
        return f"{now.champion} is pinned; {verb} unpin {repo}, then {verb} approve {repo}"
    return f"it waits for approval; {verb} approve {repo}"


def _sources(job: Job) -> dict[str, str]:
    champion = registry.aliases(job.adapters).champion
    return {
        "base_model": job.files.digest,
        "base_model_name": job.files.name,
        "corpus": job.corpus.fingerprint,
        "repository": job.repo_name,
        **({"champion": champion} if champion else {}),
    }

"""From a trained and judged adapter to a version on disk, live if the gate said so."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homespun_core import personal, registry, storage
from homespun_core.aliases import MANUAL
from homespun_core.errors import HomespunError, StorageError
from homespun_core.registry import Adapter
from homespun_core.scopes import UNKNOWN
from homespun_trainer import checkpoint, own, trained_on
from homespun_trainer.job import Job
from homespun_trainer.trained_on import Source

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


def same_as_last(adapters: Path, fingerprint: str, *, by_preference: bool = False) -> Adapter | None:
    """The last version that was trained, or the last that was tuned by preference, if it was made of the same."""
    newest_first = (adapters / version for version in reversed(registry.versions(adapters)))
    try:
        last = next((p for p in newest_first if ("preferences" in registry.read_report(p)) is by_preference), None)
        if last is None:
            return None
        manifest = storage.read_manifest(last, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
        return registry.load_adapter(last) if manifest.fingerprint == fingerprint else None
    except StorageError as error:
        logger.warning("the last adapter is of no use: %s", error)
        return None


def publish(
    job: Job, fingerprint: str, made: Path, facts: Mapping[str, Any], parent: Path | None, run: Path
) -> Outcome:
    """`made`: a directory with the adapter in peft's form. `parent`: what it was trained on top of; the two were
    stacked, so it has seen what that one saw. `run` is what it was made in, and goes.

    Raises WithdrawnError when its owner has taken it back by then, ForgottenError when something of it was forgotten.
    """
    version = registry.new_version(fingerprint, job.adapters)
    path, seen = job.adapters / version, _seen(job, parent)
    if seen is None:
        logger.warning("%s doesn't say what it saw: what stands on it is served to admins only", parent)
    sources = _sources(job) | {"repositories": " ".join(_repositories(job, seen))}
    with job.publishing(seen):
        with registry.publish_adapter(path, fingerprint=fingerprint, sources=sources, report=facts) as folder:
            for file in sorted(made.iterdir()):
                shutil.copy(file, folder / file.name)
            if seen is not None:
                trained_on.write(folder, seen)
        waits_for = offered(job, version) if facts["promote"] else None
    registry.prune(job.adapters, on_top_of=job.settings.on_top_of)
    checkpoint.discard(run)
    with suppress(OSError):  # it holds the checkpoint of another training
        job.run.rmdir()
    return Outcome(version=version, path=path, is_new=True, report=facts, waits_for=waits_for)


def offered(job: Job, version: str) -> str | None:
    """Put a version live that the gate let pass; None, or what that has to wait for."""
    share = 0.0 if personal.owner_of(job.id) else job.settings.canary_percent
    has_shadow = bool(job.settings.shadow_percent) and personal.owner_of(job.id) is None
    now = registry.offer(job.adapters, version, MANUAL if share or has_shadow else job.settings.approval)
    if version == now.champion:
        return None
    verb, repo = "homespun adapters", job.id
    if version != now.candidate:
        return f"somebody decided against it since; if you mean it: {verb} promote {repo} {version}"
    if now.pinned:
        return f"{now.champion} is pinned; {verb} unpin {repo}, then {verb} approve {repo}"
    if has_shadow:
        return f"it completes in the shadow of the live one first; {verb} rollout {repo}"
    if share:
        return f"{share:g} % of the users try it first; {verb} rollout {repo}"
    return f"it waits for approval; {verb} approve {repo}"


class ForgottenError(HomespunError):
    """Somebody has forgotten what it was trained on."""


def _seen(job: Job, parent: Path | None) -> list[Source] | None:
    """None where the parent doesn't say what it saw: then neither can we. One that says files alone saw those of the
    repository whose adapter it is, which only its place tells."""
    here = [s for part in job.parts for s in trained_on.sources_of(part.id, part.corpus.touched)]
    below = trained_on.read(parent) if parent else ()
    if parent is None or below is None:
        return None if parent else here
    place = parent.absolute().parent
    home = place.name
    if place != job.data.adapters(home).absolute() and any(s.repository is None for s in below):
        return None
    return list(dict.fromkeys([*here, *(replace(s, repository=s.repository or home) for s in below)]))


def _repositories(job: Job, seen: list[Source] | None) -> list[str]:
    """Ids. One with nothing to learn from was judged, and its places stand in the report."""
    below = {UNKNOWN} if seen is None else {s.repository or job.id for s in seen}
    return sorted({p.id for p in job.parts} | below)


def _sources(job: Job) -> dict[str, str]:
    champion = registry.aliases(job.adapters).champion
    return {
        "base_model": job.files.digest,
        "base_model_name": job.files.name,
        "corpus": job.fingerprint,
        "repository": job.name,
        **({"champion": champion} if champion else {}),
        **({"on_top_of": own.served_as(job.beneath)} if personal.owner_of(job.id) else {}),
    }

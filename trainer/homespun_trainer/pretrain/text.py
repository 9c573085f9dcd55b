"""What of a repository goes into the training text, and that text on disk: one snapshot a repository.

Reading git, filtering files and taking secrets out is the indexer's; here is what pretraining adds: licences, shares
and sizes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from homespun_core import storage
from homespun_core.errors import RepositoryError, StorageError
from homespun_core.licence import folder_licences, is_left_out
from homespun_core.storage import Manifest
from homespun_core.types import Document, Progress
from homespun_trainer.pretrain.allowlist import Allowed
from homespun_trainer.pretrain.duplicates import PERMUTATIONS, Signature, signature
from homespun_trainer.pretrain.licences import is_copyleft, problem

KIND, FORMAT = "pretraining text", 1
"""1: documents.jsonl, signatures.safetensors."""
_VERSION = 2
"""Goes up when the code takes other files from the same repository. 2: licences of folders, and unknown ones."""
MIN_BYTES, MAX_BYTES = 200, 120_000
CAPS_MB: Mapping[str, float] = {"python": 6, "typescript": 4, "go": 4, "java": 4, "rust": 4, "javascript": 2.5}
"""Of one repository and language, so that none is most of the corpus; languages that aren't here get `OTHER_MB`."""
OTHER_MB = 3.0
_TEST_SHARE = 0.35
"""Tests are half of some repositories, and alike."""
_TEST = re.compile(
    r"(^|/)(tests?|testing|specs?|__tests__|e2e)/|(_test|_spec|\.test|\.spec|Tests?)\.\w+$|(^|/)test_[^/]*$"
)
_UNTELLING = re.compile(
    r"(^|/)(migrations|locales?|i18n|l10n|fixtures?|testdata|test_data|snapshots)/|\.d\.ts$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository as the indexer reads it at one commit: source files that count, without secrets."""

    licences: Mapping[str, str]
    """Texts of its licence files, by path."""
    documents: tuple[Document, ...]
    skipped: Mapping[str, int]
    """Reason -> files that don't count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A repository that was found, at the commit that the list names."""

    commit: str
    """In full."""
    read: Callable[[], Source]


class RefusedRepositoryError(RepositoryError):
    """It may not be learned from, whatever is there of it already."""


Open = Callable[[Allowed], Opened]
"""Raises RepositoryError where it can't be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A snapshot that is read back."""

    allowed: Allowed
    commit: str
    fingerprint: str
    documents: tuple[Document, ...]
    signatures: tuple[Signature, ...]
    report: Mapping[str, object]


def take(allowed: Allowed, source: Source, scale: float) -> tuple[list[Document], dict[str, int]]:
    """What goes in, and how many files don't by reason. `scale` multiplies the caps. Raises RefusedRepositoryError
    when the licence files don't look permissive."""
    reason = problem(source.licences)
    if reason is not None:
        raise RefusedRepositoryError(f"{allowed.name}: {reason}, whatever the list says ({allowed.licence}); left out")
    folders = folder_licences(source.licences)
    used: Counter[tuple[str, bool]] = Counter()
    dropped: Counter[str] = Counter(source.skipped)
    kept = []
    for document in sorted(source.documents, key=lambda d: _order(allowed.name, d.path)):
        size, is_test = len(document.text.encode()), _TEST.search(document.path) is not None
        cap = CAPS_MB.get(document.language, OTHER_MB) * 1e6 * scale
        why = _why_not(document, size, allowed, folders)
        total = used[document.language, True] + used[document.language, False] + size
        if why is None and (total > cap or (is_test and used[document.language, True] + size > cap * _TEST_SHARE)):
            why = "over the cap"
        if why is not None:
            dropped[why] += 1
            continue
        used[document.language, is_test] += size
        kept.append(document)
    return kept, dict(dropped)


def extract(
    allowed: Sequence[Allowed], open_: Open, parent: Path, *, scale: float, progress: Progress
) -> dict[str, str]:
    """Publish the text of each; returns why some were left out. One that is there already costs nothing, and stays
    where it can't be had just now; only what may not be learned from goes."""
    refused: dict[str, str] = {}
    progress.start("extracting text", total=len(allowed), unit="repositories")
    for number, entry in enumerate(allowed, 1):
        try:
            publish(entry, open_(entry), parent, scale)
        except RefusedRepositoryError as error:
            refused[entry.name] = str(error)
            if (parent / entry.folder).is_dir():  # what an older list or licence let in
                storage.remove(parent / entry.folder)
        except RepositoryError as error:
            refused[entry.name] = str(error)
        progress.advance(number, entry.name)
    progress.finish(f"{len(allowed) - len(refused)} taken, {len(refused)} left out")
    return refused


def publish(allowed: Allowed, opened: Opened, parent: Path, scale: float) -> Path:
    """The text of a repository, made current; one that is there already is used again."""
    fingerprint = storage.fingerprint(FORMAT, _VERSION, allowed.name, opened.commit, scale, sorted(allowed.languages))
    folder, final = parent / allowed.folder, parent / allowed.folder / fingerprint[:16]
    if not (final / storage.MANIFEST).is_file():
        documents, dropped = take(allowed, opened.read(), scale)
        if not documents:
            raise RepositoryError(f"{allowed.name}: no file is left ({dropped}); left out")
        info = {"files": len(documents), "bytes": _bytes(documents), "dropped": dropped, "licence": allowed.licence}
        sources = {"repository": allowed.name, "commit": opened.commit}
        manifest = Manifest(kind=KIND, format_version=FORMAT, fingerprint=fingerprint, sources=sources, info=info)
        with storage.publish_dir(final, manifest) as tmp:
            rows = (json.dumps(as_row(document), ensure_ascii=False) + "\n" for document in documents)
            (tmp / "documents.jsonl").write_text("".join(rows), encoding="utf-8")
            table = np.stack([signature(document.text) for document in documents])
            save_file({"signatures": table}, tmp / "signatures.safetensors")
    storage.set_current(folder, final.name)
    storage.prune(folder, keep=1)
    return final


def as_row(document: Document) -> dict[str, str]:
    """What of a document is kept on disk: not who wrote it, nor when."""
    return {name: getattr(document, name) for name in ("path", "language", "blob", "text")}


def read(allowed: Sequence[Allowed], parent: Path) -> Iterator[Text]:
    """Those of the list that were extracted. Raises StorageError when one is damaged."""
    for entry in allowed:
        path = storage.current(parent / entry.folder)
        if path is None:
            continue
        manifest = storage.read_manifest(path, KIND, FORMAT)
        storage.verify(path, manifest)
        with (path / "documents.jsonl").open(encoding="utf-8") as rows:
            documents = tuple(Document(**json.loads(row)) for row in rows)
        table = load_file(path / "signatures.safetensors")["signatures"]
        if table.shape != (len(documents), PERMUTATIONS):
            raise StorageError(f"{path}: signatures don't fit the documents; delete it and extract again")
        yield Text(
            allowed=entry,
            commit=manifest.sources["commit"],
            fingerprint=manifest.fingerprint,
            documents=documents,
            signatures=tuple(table),
            report=manifest.info,
        )


def _order(name: str, path: str) -> tuple[bytes, str]:
    """Whole folders in an order that looks random: a capped repository keeps files that belong together."""
    return hashlib.sha256(f"{name}/{path.rpartition('/')[0]}".encode()).digest(), path


def _why_not(document: Document, size: int, allowed: Allowed, folders: Mapping[str, frozenset[str]]) -> str | None:
    if document.language not in allowed.languages:
        return "other language"
    if not MIN_BYTES <= size <= MAX_BYTES:
        return "too small or too large"
    if _UNTELLING.search(document.path):
        return "migration, fixture or translation"
    is_others = is_copyleft(document.text) or is_left_out(document.path, document.text, folders)
    return "other licence" if is_others else None


def _bytes(documents: Sequence[Document]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[document.language] += len(document.text.encode())
    return dict(sizes.most_common())

"""From the files of a commit to the documents of a corpus, with a reason for every file that stays out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from homespun_core import licence
from homespun_core.config import Settings
from homespun_core.languages import language_of_path
from homespun_core.types import Document
from homespun_indexer import files, filters, mixture
from homespun_indexer.files import SourceFile
from homespun_indexer.forgotten import Forgotten, is_forgotten
from homespun_indexer.history import LOOKED_AT, steps
from homespun_indexer.mixture import Weighed
from homespun_indexer.near_duplicates import near_copies, near_duplicates
from homespun_indexer.people import NOTHING, Past
from homespun_indexer.recent import STEPS, recent_lines
from homespun_indexer.repository import Repository
from homespun_indexer.secrets import redact
from homespun_indexer.tree import RULE_FILE_LIMIT, BlobReader, Entry, TreeMemory, list_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What became of one file."""

    path: str
    blob: str
    language: str | None
    size: int
    """In bytes, as it is in the repository."""
    characters: int | None
    """In the corpus, placeholders included; None when it is left out."""
    reason: str | None
    """Why it is left out; None if it isn't."""
    is_shown: bool
    """Whether prompts of a training may hold snippets of it."""
    authors: tuple[str, ...]
    names: tuple[str, ...]
    """Other paths that it had, before the cut or after it."""
    changed: int | None
    """Seconds since 1970; None where the history doesn't say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    documents: tuple[Document, ...]
    """Sorted by path."""
    records: tuple[FileRecord, ...]
    """Of all files, sorted by path."""
    redactions: Mapping[str, int]

    @property
    def left_out(self) -> Mapping[str, int]:
        """Files by reason."""
        return dict(Counter(r.reason for r in self.records if r.reason).most_common())

    @property
    def left_out_bytes(self) -> Mapping[str, int]:
        sizes: Counter[str] = Counter()
        for record in self.records:
            if record.reason:
                sizes[record.reason] += record.size
        return dict(sizes.most_common())


def gather(
    repo: Repository,
    settings: Settings,
    *,
    commit: str,
    now: int,
    held_out: frozenset[str],
    requests: Sequence[Forgotten],
    past: Mapping[str, Past],
    refused_now: Callable[[str], str | None],
    own_steps: frozenset[str] | None = None,
) -> Gathered:
    """`refused_now`: why a path is left out by rules that are younger than the commit. With `own_steps`, commits of the
    main line, files that these touched, and what they added as recent lines."""
    selection, texts, refused = files.read_sources(repo, settings=settings, commit=commit)
    entries = list_entries(repo, commit, max_bytes=settings.max_file_kb * 1_000, memory=TreeMemory())
    reasons = {**selection.skipped, **refused}
    licences = licence.folder_licences(_licence_texts(repo, entries))

    def why(file: SourceFile) -> str | None:
        known = past.get(file.path, NOTHING)
        if file.path in held_out:
            return filters.HELD_OUT
        if is_forgotten((file.path, *known.names), known.authors, requests):
            return filters.FORGOTTEN
        if licence.is_left_out(file.path, file.text, licences):
            return filters.LICENCE
        return refused_now(file.path)

    reasons |= _refused(texts, {file.path: reason for file in texts if (reason := why(file))})
    chosen = list(_chosen([file for file in texts if file.path not in reasons], reasons, past))
    documents, redactions = _redacted(chosen, past)
    looked_at = steps(replace(repo, head=commit), STEPS if own_steps is None else LOOKED_AT)
    counted = (s for s in looked_at if own_steps is None or s.commit in own_steps)
    written = recent_lines(counted, {d.path: d.text for d in documents})
    documents = [d for d in documents if own_steps is None or d.path in written]
    reasons |= dict.fromkeys(_left(chosen, documents), filters.NOT_OWN)
    if own_steps is None:
        weights = mixture.weights([_weighed(d, past) for d in documents], now)
    else:
        weights = [_own_share(d.text, written[d.path]) for d in documents]
    complete = tuple(
        replace(d, weight=round(weight, 4), recent=written.get(d.path, ()))
        for d, weight in zip(documents, weights, strict=True)
    )
    records = _records(entries, {d.path: len(d.text) for d in complete}, reasons, past)
    return Gathered(documents=complete, records=tuple(records), redactions=redactions)


def _refused(texts: Sequence[SourceFile], reasons: Mapping[str, str]) -> dict[str, str]:
    """With the copies of what is forgotten, near ones too, and of what its licence keeps out: left alone, each would be
    learned in its stead."""
    by_licence = {file.blob for file in texts if reasons.get(file.path) == filters.LICENCE}
    by_request = blobs_of_copies([file for file in texts if reasons.get(file.path) == filters.FORGOTTEN], texts)
    of_blobs = dict.fromkeys(by_licence, filters.LICENCE) | dict.fromkeys(by_request, filters.FORGOTTEN)
    return {file.path: of_blobs[file.blob] for file in texts if file.blob in of_blobs} | dict(reasons)


def blobs_of_copies(originals: Sequence[SourceFile], others: Sequence[SourceFile]) -> frozenset[str]:
    """Of the originals themselves, and of those others that are nearly the same."""
    if not originals:
        return frozenset()
    copies = near_copies((file.text for file in originals), (file.text for file in others))
    near = {file.blob for file, is_one in zip(others, copies, strict=True) if is_one}
    return frozenset(near.union(file.blob for file in originals))


def _chosen(texts: Sequence[SourceFile], reasons: dict[str, str], past: Mapping[str, Past]) -> Iterator[SourceFile]:
    """Of files that are (nearly) the same the one changed last; why the others aren't chosen goes into `reasons`."""
    used: set[str] = set()
    left = []
    for file in sorted(texts, key=lambda f: (-_changed(f.path, past), f.path)):
        if file.blob in used:
            reasons[file.path] = filters.DUPLICATE
        else:
            used.add(file.blob)
            left.append(file)
    for file, twin in zip(left, near_duplicates(f.text for f in left), strict=True):
        if twin is None:
            yield file
        else:
            reasons[file.path] = filters.NEAR_DUPLICATE


def _redacted(chosen: Sequence[SourceFile], past: Mapping[str, Past]) -> tuple[list[Document], dict[str, int]]:
    redactions: Counter[str] = Counter()
    documents = []
    for file in sorted(chosen, key=lambda f: f.path):
        clean, found = redact(file.text)
        redactions.update(found)
        authors = past.get(file.path, NOTHING).authors
        documents.append(Document(path=file.path, language=file.language, blob=file.blob, text=clean, authors=authors))
    return documents, dict(redactions)


def _own_share(text: str, ranges: Sequence[tuple[int, int]]) -> float:
    lines = text.split("\n")
    return sum(len(line) + 1 for first, last in ranges for line in lines[first : last + 1]) / (len(text) + 1)


def _left(chosen: Sequence[SourceFile], documents: Sequence[Document]) -> set[str]:
    return {file.path for file in chosen} - {d.path for d in documents}


def _weighed(document: Document, past: Mapping[str, Past]) -> Weighed:
    changed = past[document.path].changed if document.path in past else None
    return Weighed(language=document.language, characters=document.counted, changed=changed)


def _changed(path: str, past: Mapping[str, Past]) -> int:
    return past[path].changed if path in past else 0


def _licence_texts(repo: Repository, entries: Sequence[Entry]) -> dict[str, str]:
    wanted = [e for e in entries if licence.is_licence_file(e.path) and e.mode.startswith("100")]
    found = {}
    with BlobReader(repo) as blobs:
        for entry in wanted:
            raw = blobs.find(entry.blob) if entry.size < RULE_FILE_LIMIT and not entry.is_missing else None
            if raw is not None:
                found[entry.path] = raw.decode("utf-8", "replace")
    return found


def _records(
    entries: Sequence[Entry], characters: Mapping[str, int], reasons: Mapping[str, str], past: Mapping[str, Past]
) -> Iterator[FileRecord]:
    for entry in entries:
        language = language_of_path(entry.path)
        known, reason = past.get(entry.path, NOTHING), reasons.get(entry.path)
        yield FileRecord(
            path=entry.path,
            blob=entry.blob,
            language=language.name if language else None,
            size=entry.size,
            characters=characters.get(entry.path),
            reason=reason,
            is_shown=reason is None or reason in filters.SHOWN,
            authors=known.authors,
            names=known.names,
            changed=known.changed if entry.path in past else None,
        )

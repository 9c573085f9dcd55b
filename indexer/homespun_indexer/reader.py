"""The read side of an index snapshot: search and drafts. The server holds one reader for each repository it serves."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest
from homespun_core.types import SearchQuery, Snippet, Tokenizer
from homespun_indexer import datastore, lexical, search
from homespun_indexer.definitions import Definition, definitions_in_reach
from homespun_indexer.imports_paths import Resolver
from homespun_indexer.search import DEFINITION, USAGE, Window
from homespun_indexer.segment import IndexedFile, Segment
from homespun_indexer.snapshot import FORMAT, KIND, LiveSegment, read_segments

_MAX_PLACES = 32
"""Of a name in one segment; some (`get`, `__init__`) are defined thousands of times."""
_MAX_SIGNATURE_CHARS = 500
"""About 150 tokens."""


@dataclass(frozen=True, slots=True)
class _Hit:
    score: float
    part: int
    chunk: int
    """Number in the part."""


class _Part:
    """A segment and what of it is alive in this snapshot."""

    def __init__(self, path: Path, live: LiveSegment, digest: str, opened: Segment | None) -> None:
        self.segment = opened or Segment(path)
        self.digest = digest
        self.dead = live.dead
        self.alive = None if not live.dead else ~np.isin(self.segment.file_of_chunk, list(live.dead))
        """By chunk; None: all are."""

    def files(self) -> Iterator[tuple[int, IndexedFile]]:
        return ((i, f) for i, f in enumerate(self.segment.files) if i not in self.dead and f.reason is None)


class IndexReader:
    """Safe for concurrent use by several threads. Pruning a snapshot doesn't disturb a reader that has it open."""

    def __init__(self, path: Path, manifest: Manifest, parts: Sequence[_Part]) -> None:
        self.path = path
        self.manifest = manifest
        self._parts = parts
        self._places = {file.path: (p, number) for p, part in enumerate(parts) for number, file in part.files()}
        chunks = [part.segment.chunks if part.alive is None else part.segment.chunks[part.alive] for part in parts]
        self.num_chunks = sum(map(len, chunks))

    @staticmethod
    def open(path: Path, tokenizer: Tokenizer | None = None, previous: IndexReader | None = None) -> IndexReader:
        """Every byte is checked against the manifest first. With a tokenizer, also that drafts are in its ids. Segments
        that `previous` has open are shared with it, and not checked again.

        Raises StorageError when the snapshot is missing, damaged, of another format, or made for another base model.
        """
        manifest = storage.read_manifest(path, KIND, FORMAT)
        if tokenizer is not None and manifest.sources.get("tokenizer") != tokenizer.digest:
            raise StorageError(
                f"{path}: was made for another base model's tokenizer; run `homespun index` with this one"
            )
        opened = {part.digest: part.segment for part in previous._parts} if previous else {}
        storage.verify(path, manifest, known=opened.keys())
        parts = []
        for live in read_segments(path):
            digest = manifest.files[live.name]
            parts.append(_Part(path / live.name, live, digest, opened.get(digest)))
        return IndexReader(path, manifest, parts)

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Segments are shared between readers, and their memory is given back with the last of them."""
        self._parts = ()

    @property
    def num_files(self) -> int:
        return len(self._places)

    @property
    def num_tokens(self) -> int:
        return sum(file.num_tokens for part in self._parts for _, file in part.files())

    def draft(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Up to `max_tokens` ids that followed the longest end of `ids` found anywhere; empty when that is too
        short."""
        return datastore.vote(self._matches(ids), max_tokens) if max_tokens > 0 else []

    def continuations(self, ids: Sequence[int]) -> dict[int, int]:
        """The next tokens after the longest end of `ids` found anywhere, and how often each stands there."""
        return datastore.counted(self._matches(ids))

    def _matches(self, ids: Sequence[int]) -> list[tuple[datastore.Datastore, list[int]]]:
        """The places of the longest match, in all living files."""
        context = [*ids[-datastore.MAX_CONTEXT :]]
        best = 0
        found: list[tuple[datastore.Datastore, list[int]]] = []
        for part in self._parts:
            length, places = part.segment.datastore.find(context)
            if part.dead:
                places = [p for p in places if part.segment.file_of_token(p - 1) not in part.dead]
            if places and length >= best:
                found = [*(found if length == best else ()), (part.segment.datastore, places)]
                best = length
        return found

    def search(
        self, query: SearchQuery, limit: int, *, arms: Collection[str] = search.ARMS, deadline_s: float = 60.0
    ) -> list[Snippet]:
        """At most `limit` usages, best first, then definitions of names in reach; none from the file at `query.path`,
        nor of the place being written. An arm that the deadline leaves no time for isn't asked.
        """
        until = time.monotonic() + deadline_s
        near = search.window(query)
        if limit <= 0 or not near.text:
            return []
        own = self._own_files(query.path)
        terms = search.term_weights(near)
        found = self._usages(self._by_terms(terms, own), near, terms, limit, own) if USAGE in arms else []
        if DEFINITION in arms and time.monotonic() < until:
            found += self._definitions_for(query, own)
        return found

    def _own_files(self, path: str | None) -> frozenset[tuple[int, int]]:
        """The file at `path`. An editor's root may lie above or below the repository's: then the paths end alike."""
        if path is None:
            return frozenset()
        if path in self._places:
            return frozenset([self._places[path]])
        if path not in self._alike:
            if len(self._alike) > 1_000:
                self._alike.clear()
            self._alike[path] = frozenset(
                place
                for known, place in self._places.items()
                if known.endswith(f"/{path}") or path.endswith(f"/{known}")
            )
        return self._alike[path]

    @cached_property
    def _alike(self) -> dict[str, frozenset[tuple[int, int]]]:
        return {}

    def _by_terms(self, terms: Mapping[str, float], own: frozenset[tuple[int, int]]) -> list[_Hit]:
        """The best chunks, best first."""
        hashes = np.fromiter(map(lexical.term_hash, terms), np.uint64, len(terms))
        rows = [part.segment.postings.find(hashes) for part in self._parts]
        counts = self._counts(rows)
        wanted = np.fromiter(terms.values(), np.float32, len(terms)) * lexical.weight_of(counts, self.num_chunks)
        found: list[_Hit] = []
        for number, (part, row) in enumerate(zip(self._parts, rows, strict=True)):
            scores = part.segment.postings.scores(row, wanted)
            if part.alive is not None:
                scores *= part.alive
            for file in (file for p, file in own if p == number):
                scores[part.segment.file_of_chunk == file] = 0.0
            found += [_Hit(float(scores[chunk]), number, int(chunk)) for chunk in _top(scores, search.CANDIDATES)]
        # Rounded, then by place: how an index is laid out in segments must not change what it finds.
        best = heapq.nlargest(search.CANDIDATES, found, key=lambda hit: hit.score)
        return sorted(best, key=lambda hit: (-round(hit.score, 3), *self._place(hit)))

    def _place(self, hit: _Hit) -> tuple[str, int]:
        segment = self._parts[hit.part].segment
        file, line = segment.chunks[hit.chunk, :2].tolist()
        return segment.files[file].path, line

    def _counts(self, rows: Sequence[lexical.Rows]) -> NDArray[np.int64]:
        """In how many chunks of all segments each term stands."""
        per_part = [part.segment.postings.counts(row, part.alive) for part, row in zip(self._parts, rows, strict=True)]
        total: NDArray[np.int64] = np.sum(per_part, axis=0)
        return total

    def _definitions_for(self, query: SearchQuery, own: frozenset[tuple[int, int]]) -> list[Snippet]:
        """Definitions, in other files, of the names in reach."""
        found = definitions_in_reach(query, self._resolver, self._definitions)
        snippets = []
        for definition in [d for d in found if (d.part, d.file) not in own][: search.MAX_DEFINITIONS]:
            segment = self._parts[definition.part].segment
            symbol = segment.details(definition.file).symbols[definition.number]
            text = _cut(symbol.signature, _MAX_SIGNATURE_CHARS)
            snippets.append(
                Snippet(path=definition.path, start_line=symbol.line, text=text, score=0.0, source=DEFINITION)
            )
        return snippets

    @cached_property
    def _resolver(self) -> Resolver:
        return Resolver(self._places)

    def _definitions(self, name: str) -> list[Definition]:
        found = []
        for number, part in enumerate(self._parts):
            for file, symbol in part.segment.defined(name)[:_MAX_PLACES]:
                if file not in part.dead:
                    parent = part.segment.details(file).symbols[symbol].parent
                    found.append(Definition(number, file, symbol, part.segment.files[file].path, parent))
        return sorted(found, key=lambda d: (d.path, d.number))

    def _usages(
        self,
        ranked: Iterable[_Hit],
        near: Window,
        terms: Mapping[str, float],
        limit: int,
        own: frozenset[tuple[int, int]],
    ) -> list[Snippet]:
        """The best hits that say something that those before them don't."""
        chosen: list[Snippet] = []
        for hit in ranked:
            snippet = self._usage(hit, terms)
            if not own and search.overlaps_cursor(self._parts[hit.part].segment.chunk_text(hit.chunk), near):
                continue
            if sum(s.path == snippet.path for s in chosen) >= search.MAX_PER_FILE:
                continue
            if search.is_duplicate(snippet.text, (s.text for s in chosen)):
                continue
            chosen.append(snippet)
            if len(chosen) == limit:
                break
        return chosen

    def _usage(self, hit: _Hit, terms: Mapping[str, float]) -> Snippet:
        segment = self._parts[hit.part].segment
        file, first, last, *_ = segment.chunks[hit.chunk].tolist()
        lines = segment.text(file).decode().split("\n")[first - 1 : last + search.SNIPPET_LINES]
        start, end = search.focus(lines, last - first + 1, terms)
        text, path = "\n".join(lines[start:end]), segment.files[file].path
        return Snippet(path=path, start_line=first + start, text=text, score=hit.score, source=USAGE)


def _top(scores: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """The documents with the best scores above 0, in no order."""
    first = np.argpartition(scores, -limit)[-limit:] if len(scores) > limit else np.arange(len(scores))
    return first[scores[first] > 0]


def _cut(text: str, max_chars: int) -> str:
    """Whole lines from the top, one at least."""
    while len(text) > max_chars and "\n" in text:
        text = text.rpartition("\n")[0]
    return text[:max_chars]

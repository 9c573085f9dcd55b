"""The read side of an index snapshot: search and drafts. The server holds one reader for each repository it serves."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import TracebackType

from homespun_core import storage
from homespun_core.errors import HomespunError, StorageError
from homespun_core.storage import Manifest
from homespun_core.types import SearchQuery, Snippet, Tokenizer
from homespun_indexer import datastore, search
from homespun_indexer.definitions import Definition, definitions_in_reach
from homespun_indexer.embedders import Embedder, load_embedder
from homespun_indexer.imports_paths import Resolver
from homespun_indexer.parts import Part, Place
from homespun_indexer.search import DEFINITION, USAGE
from homespun_indexer.segment import Chunk
from homespun_indexer.snapshot import FORMAT, KIND, read_segments
from homespun_indexer.usages import Usages

logger = logging.getLogger(__name__)

_NAMES_KEPT = 1_000
_MAX_SIGNATURE_CHARS = 500
"""About 150 tokens."""


@dataclass(frozen=True, slots=True)
class Searched:
    snippets: list[Snippet]
    is_whole: bool
    """Whether all arms were asked."""


class IndexReader:
    """Safe for concurrent use by several threads. Pruning a snapshot doesn't disturb a reader that has it open."""

    def __init__(self, path: Path, manifest: Manifest, parts: Sequence[Part], embedder: Embedder | None) -> None:
        self.path = path
        self.manifest = manifest
        self._parts = parts
        self._places = {file.path: (p, number) for p, part in enumerate(parts) for number, file in part.files()}
        self._usages = Usages(parts, embedder)

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
            parts.append(Part(path / live.name, live, digest, opened.get(digest)))
        return IndexReader(path, manifest, parts, _embedder(path, manifest))

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is found any more. Segments are shared between readers: their memory goes with the last of them."""
        self._parts = ()
        self._usages = Usages((), None)

    @property
    def num_chunks(self) -> int:
        return self._usages.num_chunks

    @property
    def num_files(self) -> int:
        return len(self._places)

    @property
    def num_tokens(self) -> int:
        return sum(file.num_tokens for part in self._parts for _, file in part.files())

    def chunk_at(self, path: str, line: int) -> Chunk | None:
        """The chunk that holds a line (1-based) of a file, with all that is known of it."""
        if path not in self._places:
            return None
        number, file = self._places[path]
        part = self._parts[number]
        for chunk in range(*part.segment.chunks_of(file).indices(len(part.segment.chunks))):
            _, first, last, *_ = part.segment.chunks[chunk].tolist()
            if first <= line <= last:
                return part.segment.chunk(chunk, part.changed[file])
        return None

    def draft(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Up to `max_tokens` ids that followed the longest end of `ids` found anywhere; empty when that is too
        short."""
        return datastore.vote(self._matches(ids)[1], max_tokens) if max_tokens > 0 else []

    def agreed(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Up to `max_tokens` ids that follow at all of several places where a long end of `ids` stands: what can be
        shown when there is no time to ask a model."""
        length, places = self._matches(ids)
        return datastore.agreed(places, max_tokens) if length >= datastore.LONG_MATCH else []

    def continuations(self, ids: Sequence[int], without: str | None = None) -> tuple[int, dict[int, int]]:
        """The length of the longest end of `ids` found anywhere, and how often each token stands after it there.
        `without`: path of a file that isn't looked at."""
        length, places = self._matches(ids, self._places.get(without) if without else None)
        return length, datastore.counted(places)

    def _matches(
        self, ids: Sequence[int], without: Place | None = None
    ) -> tuple[int, list[tuple[datastore.Datastore, list[int]]]]:
        """The length of the longest match, and its places in all living files."""
        context = [*ids[-datastore.MAX_CONTEXT :]]
        best = 0
        found: list[tuple[datastore.Datastore, list[int]]] = []
        for number, part in enumerate(self._parts):
            besides = without[1] if without is not None and without[0] == number else None
            length, places = part.segment.datastore.find(context, part.alive_besides(besides))
            if places and length >= best:
                found = [*(found if length == best else ()), (part.segment.datastore, places)]
                best = length
        return best, found

    def search_within(
        self, deadline_s: float, query: SearchQuery, limit: int, *, arms: Collection[str] = search.ARMS
    ) -> Searched:
        """As `search`, but that an arm that the deadline leaves no time for isn't asked."""
        until = time.monotonic() + deadline_s
        if limit <= 0 or not (query.prefix.strip() or query.suffix.strip()):
            return Searched([], is_whole=True)
        own = self._own_files(query.path)
        found = self._usages.find(query, limit, own, until) if USAGE in arms else []
        if time.monotonic() >= until:
            return Searched(found, is_whole=False)
        if DEFINITION in arms:
            found += self._definitions_for(query, own)
        return Searched(found, is_whole=True)

    def search(self, query: SearchQuery, limit: int, *, arms: Collection[str] = search.ARMS) -> list[Snippet]:
        """At most `limit` usages, best first, then definitions of names in reach; none from the file at `query.path`,
        nor of the place being written."""
        return self.search_within(math.inf, query, limit, arms=arms).snippets

    def _own_files(self, path: str | None) -> frozenset[Place]:
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
    def _alike(self) -> dict[str, frozenset[Place]]:
        return {}

    def _definitions_for(self, query: SearchQuery, own: frozenset[Place]) -> list[Snippet]:
        """Definitions, in other files, of the names in reach."""
        found = definitions_in_reach(query, self._resolver, self._definitions)
        snippets = []
        for definition in [d for d in found if (d.part, d.file) not in own][: search.MAX_DEFINITIONS]:
            segment = self._parts[definition.part].segment
            symbol = segment.symbol(definition.file, definition.number)
            text = _cut(symbol.signature, _MAX_SIGNATURE_CHARS)
            snippets.append(
                Snippet(path=definition.path, start_line=symbol.line, text=text, score=0.0, source=DEFINITION)
            )
        return snippets

    @cached_property
    def _resolver(self) -> Resolver:
        return Resolver(self._places)

    def _definitions(self, name: str, files: Collection[str] | None, parent: int | None) -> list[Definition]:
        known = self._defined(name)
        return [d for d in known if (files is None or d.path in files) and parent in (None, d.parent)]

    @cached_property
    def _defined(self) -> Callable[[str], Sequence[Definition]]:
        """Remembered, since a name is looked for several ways in one search, and again at the next key."""
        return lru_cache(_NAMES_KEPT)(partial(_defined, self._parts))


def _defined(parts: Sequence[Part], name: str) -> list[Definition]:
    """All living definitions of a name, in the order of their paths."""
    found = []
    for number, part in enumerate(parts):
        for file, symbol, around in part.segment.defined(name):
            if file not in part.dead:
                known = part.segment.files[file]
                found.append(Definition(number, file, symbol, known.path, known.language, around))
    return sorted(found, key=lambda d: (d.path, d.number))


def _embedder(path: Path, manifest: Manifest) -> Embedder | None:
    """What the vectors of this index were made with."""
    digest = manifest.sources.get("embedder_digest", "")
    try:
        embedder = load_embedder(manifest.sources["embedder"]) if digest else None
    except HomespunError as error:
        logger.warning("%s: searched by words alone: %s", path, error)
        return None
    if embedder is not None and embedder.digest != digest:
        logger.warning("%s: searched by words alone: its embedder has changed since; run `homespun index` again", path)
        return None
    return embedder


def _cut(text: str, max_chars: int) -> str:
    """Whole lines from the top, one at least."""
    while len(text) > max_chars and "\n" in text:
        text = text.rpartition("\n")[0]
    return text[:max_chars]

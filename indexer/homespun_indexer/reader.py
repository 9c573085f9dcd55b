"""The read side of an index snapshot: search and drafts. The server holds one reader for each repository it serves."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from homespun_indexer import search, snapshot
from homespun_indexer.datastore import Datastore
from homespun_indexer.dense import DenseIndex, StaticEmbedder, embedding_table
from homespun_indexer.lexical import LexicalIndex
from homespun_indexer.model_files import builtin_path
from homespun_indexer.search import DENSE, LEXICAL, SYMBOLS, WEIGHTS, Window
from homespun_indexer.symbols import SymbolTable

USAGE, DEFINITION = "usage", "definition"
_MIN_RARITY = 0.97
"""Names that stand in more than 3 % of the chunks are known well enough without their definition."""
_MAX_DEFINITIONS = 8
_MAX_SIGNATURE_CHARS = 500
"""About 150 tokens."""


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    language: str
    blob: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Definition:
    file: int
    line: int
    signature: str


_Key = int | _Definition
"""A chunk's number, or a definition."""


class IndexReader:
    """Safe for concurrent use by several threads. Pruning a snapshot doesn't disturb a reader that has it open."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._files = [_File(*row) for row in json.loads((path / "files.json").read_text(encoding="utf-8"))]
        self._numbers = {file.path: number for number, file in enumerate(self._files)}
        self._chunks: NDArray[np.int32] = np.load(path / "chunks.npy")
        with (path / "texts.bin").open("rb") as handle:
            self._texts = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        self._lexical = LexicalIndex.load(path / "lexical")
        self._symbols = SymbolTable.load(path / "symbols.json")
        self._datastore = Datastore.load(path / "datastore")

    @staticmethod
    def open(path: Path, tokenizer: Tokenizer | None = None) -> IndexReader:
        """Every byte is checked against the manifest first. With a tokenizer, also that drafts are in its ids.

        Raises StorageError when the snapshot is missing, damaged, of another format, or made for another base model.
        """
        manifest = storage.read_manifest(path, snapshot.KIND, snapshot.FORMAT)
        if tokenizer is not None and manifest.sources.get("tokenizer") != tokenizer.digest:
            raise StorageError(
                f"{path}: was made for another base model's tokenizer; run `homespun index` with this one"
            )
        storage.verify(path, manifest)
        return IndexReader(path, manifest)

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._texts.close()

    @cached_property
    def _dense(self) -> tuple[StaticEmbedder, DenseIndex]:
        """Loaded by the first search that asks for it: with its weight at 0, none does."""
        table = embedding_table(str(builtin_path()))
        embedder = StaticEmbedder.load(self.path / "dense", snapshot.builtin_tokenizer(), table)
        return embedder, DenseIndex.load(self.path / "dense" / "vectors.faiss")

    @property
    def num_chunks(self) -> int:
        return len(self._chunks)

    @property
    def num_files(self) -> int:
        return len(self._files)

    @property
    def num_tokens(self) -> int:
        return self._datastore.num_tokens

    def draft(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """Tokens that followed the longest matching context in the repository; see `Datastore.draft`."""
        return self._datastore.draft(ids, max_tokens)

    def search(self, query: SearchQuery, limit: int, *, weights: Mapping[str, float] = WEIGHTS) -> list[Snippet]:
        """At most `limit` snippets, best first; none from the file at `query.path`, nor of the place being written.

        `weights` says how much each arm counts; an arm of weight 0 isn't run.
        """
        near = search.window(query)
        if limit <= 0 or not near.text:
            return []
        own = self._own_files(query.path)
        terms = search.term_weights(near)
        rankings = {
            LEXICAL: self._by_terms(terms, own) if weights.get(LEXICAL) else [],
            DENSE: self._by_vector(near, own) if weights.get(DENSE) else [],
            SYMBOLS: self._by_name(near, own) if weights.get(SYMBOLS) else [],
        }
        fused = search.fuse(rankings, weights)
        return self._select(fused, near, terms, limit, is_known=bool(own))

    def _own_files(self, path: str | None) -> frozenset[int]:
        """The file at `path`. An editor's root may lie above or below the repository's: then the paths end alike."""
        if path is None:
            return frozenset()
        if path in self._numbers:
            return frozenset([self._numbers[path]])
        ends = (
            number
            for known, number in self._numbers.items()
            if known.endswith(f"/{path}") or path.endswith(f"/{known}")
        )
        return frozenset(ends)

    def _by_terms(self, terms: Mapping[str, float], own: frozenset[int]) -> Sequence[_Key]:
        scores = self._lexical.scores(terms)
        for number in own:
            scores[self._chunks[:, 0] == number] = 0.0
        top = np.argpartition(-scores, min(search.CANDIDATES, len(scores) - 1))[: search.CANDIDATES]
        return [int(i) for i in sorted(top, key=lambda i: (-scores[i], i)) if scores[i] > 0]

    def _by_vector(self, near: Window, own: frozenset[int]) -> Sequence[_Key]:
        embedder, index = self._dense
        vector = embedder.embed([near.text])[0]
        room = search.CANDIDATES + sum(int((self._chunks[:, 0] == number).sum()) for number in own)
        found = index.search(vector, min(room, self.num_chunks))
        return [i for i, similarity in found if similarity > 0 and int(self._chunks[i, 0]) not in own][
            : search.CANDIDATES
        ]

    def _by_name(self, near: Window, own: frozenset[int]) -> Sequence[_Key]:
        """Definitions, in other files, of the names used in the last lines; names of few places first."""
        found: list[_Key] = []
        for name in search.used_names(near):
            places = self._symbols.find(name)
            if not places or self._lexical.rarity(name.lower()) < _MIN_RARITY or any(p.file in own for p in places):
                continue
            found += [_Definition(p.file, p.line, p.signature) for p in places[:2]]
        return found[:_MAX_DEFINITIONS]

    def _select(
        self,
        fused: Iterable[tuple[_Key, float]],
        near: Window,
        terms: Mapping[str, float],
        limit: int,
        *,
        is_known: bool,
    ) -> list[Snippet]:
        chosen: list[Snippet] = []
        for snippet, whole in self._snippets(fused, terms):
            if not is_known and search.overlaps_cursor(whole, near):
                continue
            if sum(s.path == snippet.path for s in chosen) >= search.MAX_PER_FILE:
                continue
            if search.is_duplicate(snippet.text, (s.text for s in chosen)):
                continue
            chosen.append(snippet)
            if len(chosen) == limit:
                break
        return chosen

    def _snippets(
        self, fused: Iterable[tuple[_Key, float]], terms: Mapping[str, float]
    ) -> Iterator[tuple[Snippet, str]]:
        """Each with the whole text it was taken from."""
        for key, score in fused:
            if isinstance(key, _Definition):
                text = _cut(key.signature, _MAX_SIGNATURE_CHARS)
                yield self._snippet(key.file, key.line, text, score, DEFINITION), text
            else:
                number, start_line = int(self._chunks[key, 0]), int(self._chunks[key, 1])
                whole = self._text(key)
                lines = whole.split("\n")
                start, end = search.focus(lines, terms)
                yield self._snippet(number, start_line + start, "\n".join(lines[start:end]), score, USAGE), whole

    def _snippet(self, file: int, line: int, text: str, score: float, source: str) -> Snippet:
        return Snippet(path=self._files[file].path, start_line=line, text=text, score=score, source=source)

    def _text(self, chunk: int) -> str:
        number, _, _, start, end = (int(value) for value in self._chunks[chunk])
        offset = self._files[number].offset
        return self._texts[offset + start : offset + end].decode("utf-8")


def _cut(text: str, max_chars: int) -> str:
    """Whole lines from the top, one at least."""
    while len(text) > max_chars and "\n" in text:
        text = text.rpartition("\n")[0]
    return text[:max_chars]

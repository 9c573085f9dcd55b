"""Usages: chunks that look like what is being written, from all segments of an index."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from homespun_core.types import SearchQuery, Snippet
from homespun_indexer import lexical, search, tails
from homespun_indexer.dense import Vectors
from homespun_indexer.embedders import Embedder
from homespun_indexer.parts import Hit, Part, Place
from homespun_indexer.search import USAGE, Window

logger = logging.getLogger(__name__)

_DIGITS = 3
"""Scores that differ less are equal."""
_MAX_BYTES = 4 * (search.SNIPPET_CHARS + 1)
"""Of what follows a chunk: more than a snippet can show, so that where it is cut doesn't matter."""


class Usages:
    """Safe for concurrent use."""

    def __init__(self, parts: Sequence[Part], embedder: Embedder | None) -> None:
        self._parts, self._embedder = parts, embedder
        self._has_failed = False
        self.num_chunks = sum(
            len(part.segment.chunks) if part.alive is None else int(part.alive.sum()) for part in parts
        )

    def find(self, query: SearchQuery, limit: int, own: frozenset[Place], until: float) -> list[Snippet]:
        """At most `limit`, best first. `own` are the files being edited; after `until` no vectors are searched."""
        near = search.window(query)
        terms = search.term_weights(near)
        ranked = tails.reordered(self._by_terms(terms, own), self._text, query.prefix)
        if self._embedder is not None and time.monotonic() < until:
            ranked = search.fuse(ranked, self._by_vector_if_it_can(self._embedder, near, own))
        return self._chosen(ranked, near, terms, limit, own)

    def _by_terms(self, terms: Mapping[str, float], own: frozenset[Place]) -> list[Hit]:
        hashes = np.fromiter(map(lexical.term_hash, terms), np.uint64, len(terms))
        order = np.argsort(hashes)  # which finds them faster
        hashes = hashes[order]
        rows = [part.segment.postings.find(hashes) for part in self._parts]
        counts = [part.segment.postings.counts(row, part.alive) for part, row in zip(self._parts, rows, strict=True)]
        weights = lexical.weight_of(np.sum(counts, axis=0), self.num_chunks)
        wanted = np.fromiter(terms.values(), np.float64, len(terms))[order] * weights
        counting = wanted > search.LEAST_WEIGHT * wanted.max(initial=0.0)
        by_part = [self._scores(number, row.those(counting), wanted[counting], own) for number, row in enumerate(rows)]
        scores = np.concatenate([np.zeros(0), *by_part])
        chunks = lexical.best(scores, search.CANDIDATES, 10.0**-_DIGITS)
        starts = np.cumsum([0, *map(len, by_part)])
        parts = np.searchsorted(starts, chunks, "right") - 1
        hits = map(Hit, scores[chunks].round(_DIGITS).tolist(), parts.tolist(), (chunks - starts[parts]).tolist())
        return self._best(list(hits))

    def _scores(
        self, number: int, rows: lexical.Rows, weights: NDArray[np.float64], own: frozenset[Place]
    ) -> NDArray[np.float64]:
        """Of all chunks of a part; 0 for those that may not be found."""
        part = self._parts[number]
        scores = part.segment.postings.scores(rows, weights)
        if part.alive is not None:
            scores *= part.alive
        for file in (file for p, file in own if p == number):
            scores[part.segment.chunks_of(file)] = 0.0
        return scores

    def _by_vector_if_it_can(self, embedder: Embedder, near: Window, own: frozenset[Place]) -> list[Hit]:
        """An embedder is somebody else's model: where it fails, the words still find what they find."""
        try:
            return self._by_vector(embedder, near, own)
        except Exception as error:  # noqa: BLE001  # whatever a model raises
            if not self._has_failed:
                logger.warning("searched by words alone where the embedder fails (%s)", type(error).__name__)
            self._has_failed = True
            return []

    def _by_vector(self, embedder: Embedder, near: Window, own: frozenset[Place]) -> list[Hit]:
        vector = _blended(embedder.embed(search.nested(near)))
        found: list[Hit] = []
        for number, part in enumerate(self._parts):
            dense = part.segment.dense
            hits = dense.search(vector, search.CANDIDATES, self._dead(number, own)) if dense is not None else []
            found += [Hit(round(similarity, _DIGITS), number, chunk) for chunk, similarity in hits if similarity > 0]
        return self._best(found)

    def _dead(self, number: int, own: frozenset[Place]) -> NDArray[np.bool_] | None:
        """The chunks of a part that may not be found; None for none."""
        part = self._parts[number]
        files = [file for p, file in own if p == number]
        if not files:
            return None if part.alive is None else ~part.alive
        dead = np.zeros(len(part.segment.chunks), np.bool_) if part.alive is None else ~part.alive
        for file in files:
            dead[part.segment.chunks_of(file)] = True
        return dead

    def _best(self, found: Sequence[Hit]) -> list[Hit]:
        """By score, equal ones by place: how an index is laid out in segments must not change what it finds."""
        ranked = sorted(found, key=lambda hit: -hit.score)
        least = ranked[min(len(ranked), search.CANDIDATES) - 1].score if ranked else 0.0
        best = [hit for hit in ranked if hit.score >= least]
        return sorted(best, key=lambda hit: (-hit.score, *self._place(hit)))[: search.CANDIDATES]

    def _place(self, hit: Hit) -> tuple[str, int]:
        segment = self._parts[hit.part].segment
        file, line = segment.chunks[hit.chunk, :2].tolist()
        return segment.files[file].path, line

    def _path(self, hit: Hit) -> str:
        return self._place(hit)[0]

    def _text(self, hit: Hit) -> str:
        return self._parts[hit.part].segment.chunk_text(hit.chunk)

    def _chosen(
        self, ranked: Iterable[Hit], near: Window, terms: Mapping[str, float], limit: int, own: frozenset[Place]
    ) -> list[Snippet]:
        """The best hits that say something that those before them don't."""
        weights = search.LineWeights(terms)
        chosen: list[Snippet] = []
        seen: list[frozenset[str]] = []
        for hit in ranked:
            if not own and search.overlaps_cursor(self._text(hit), near):
                continue
            if sum(s.path == self._path(hit) for s in chosen) >= search.MAX_PER_FILE:
                continue
            snippet = self._snippet(hit, weights)
            lines = search.line_set(snippet.text)
            if search.is_duplicate(lines, seen):
                continue
            chosen.append(snippet)
            seen.append(lines)
            if len(chosen) == limit:
                break
        return chosen

    def _snippet(self, hit: Hit, weights: search.LineWeights) -> Snippet:
        segment = self._parts[hit.part].segment
        file, first, last, start_byte, end_byte = segment.chunks[hit.chunk].tolist()
        raw = segment.text(file, start_byte, end_byte + _MAX_BYTES)
        lines = raw.decode("utf-8", "ignore").split("\n")[: last - first + 1 + search.SNIPPET_LINES]
        start, end = search.focus(lines, last - first + 1, weights)
        text, path = "\n".join(lines[start:end]), segment.files[file].path
        return Snippet(path=path, start_line=first + start, text=text, score=hit.score, source=USAGE)


def _blended(vectors: Vectors) -> Vectors:
    """One query of the vectors of `search.nested`: what is nearest to the cursor counts several times."""
    weights = np.asarray(search.NESTED_WEIGHTS, np.float32)[: len(vectors)]
    mixed: Vectors = (weights[:, None] * vectors).sum(axis=0)
    return mixed / max(float(np.linalg.norm(mixed)), 1e-9)

"""What an index says: all that its users see of it, so that two indexes can be compared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from homespun_core.types import SearchQuery
from homespun_indexer.datastore import DEPTH
from homespun_indexer.reader import IndexReader
from homespun_indexer.tokenizer import GuardedTokenizer


def texts_of(path: Path) -> str:
    """The text of every living chunk, in no particular order."""
    with IndexReader.open(path) as reader:
        return "\n".join(
            part.segment.chunk_text(chunk)
            for part in reader._parts
            for chunk, file in enumerate(part.segment.file_of_chunk.tolist())
            if file not in part.dead
        )


class _Score(float):
    """Equal when nobody would notice the difference: sums are rounded otherwise when segments are cut otherwise."""

    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(float(self) - float(other)) < 2e-3


def answers(reader: IndexReader, tokenizer: GuardedTokenizer, asked: Iterable[str]) -> dict[str, object]:
    """By what was typed: snippets, and drafts where it is long.

    A match of few tokens may be of tokens that are common in one segment, and so not looked up, and rare in another:
    how an index is laid out shows there.
    """
    return {text: (_found(reader, text), _drafted(reader, tokenizer, text)) for text in asked}


def _found(reader: IndexReader, text: str) -> list[tuple[object, ...]]:
    query = SearchQuery(prefix=text, suffix="", path="somewhere/else.py", language="python")
    found = reader.search(query, 8)
    return [(s.path, s.start_line, s.text, s.source, _Score(s.score)) for s in found]


def _drafted(reader: IndexReader, tokenizer: GuardedTokenizer, text: str) -> tuple[object, ...]:
    ids = tokenizer.encode(text)
    if len(ids) < DEPTH:
        return ()
    return reader.draft(ids, 8), reader.continuations(ids)

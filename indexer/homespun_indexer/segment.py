"""Segments: immutable indexes of some files of a repository, one file on disk each.

An index is a list of segments and, for each, the files of it that are dead: changed or deleted since. What changed goes
into a new segment, so that a push costs what it changed, not what the repository holds.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homespun_indexer import arrays, reach, records
from homespun_indexer.analysis import AnalysedFile
from homespun_indexer.chunks import ChunkedFile, Symbol
from homespun_indexer.datastore import Datastore
from homespun_indexer.dense import DenseIndex, Vectors
from homespun_indexer.imports import Import
from homespun_indexer.lexical import Postings, term_hash, words

_LEVEL = 6
_BLOCK = 16_384
"""Bytes of text that are compressed together: as small as whole files are at level 3, and a snippet of a long file
costs no more than one of a short one."""
_BLOCKS_KEPT = 256
_DETAILS_KEPT = 64


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of a segment. The numbers are 0 where `reason` says why its text doesn't count."""

    path: str
    language: str
    blob: str
    size: int
    reason: str | None
    num_lines: int
    num_chunks: int
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """All that is known of a chunk. Lines are 1-based and inclusive; bytes count in the text with `\\n` line ends."""

    path: str
    language: str
    blob: str
    start_line: int
    end_line: int
    start_byte: int
    end_byte: int
    text: str
    scope: tuple[str, ...]
    """The definitions around it, outermost first."""
    signature: str
    """Of the innermost of them, as `Symbol` has it; "" at top level."""
    defines: tuple[str, ...]
    references: tuple[str, ...]
    """Words of two letters or more that stand in it, comments and strings included, in order; none of the language's
    own, and none that it defines."""
    imports: tuple[Import, ...]
    """Of its file."""
    changed: int
    """When its file was last changed, in seconds since 1970; 0 where history doesn't tell."""
    previous: int | None
    next: int | None
    """Numbers in the segment of the chunks before and after it in the file."""
    digest: int
    """64 bits of BLAKE2 over its text: equal in all files and repositories that hold it."""


Embed = Callable[[Sequence[str], Sequence[int]], Vectors]
"""Unit vectors of chunks, given by their texts and digests."""


def write_segment(path: Path, files: Iterable[AnalysedFile], embed: Embed | None = None) -> list[IndexedFile]:
    """Returns the table of the files, in the order they were given."""
    table: list[IndexedFile] = []
    blocks: list[list[bytes]] = []
    details: list[bytes] = []
    chunks: list[tuple[int, int, int, int, int]] = []
    hashes: list[int] = []
    documents: list[str] = []
    bodies: list[str] = []
    symbols: list[tuple[int, int, int, int]] = []
    tokens: list[NDArray[np.int32]] = []
    for number, file in enumerate(files):
        chunked = file.analysis.chunked
        raw, starts = file.text.encode(), _line_starts(file.text)
        for piece in chunked.pieces:
            start, end = starts[piece.start_line - 1], starts[piece.end_line] - 1  # without the last line break
            chunks.append((number, piece.start_line, piece.end_line, start, end))
            text = raw[start:end]
            hashes.append(int.from_bytes(blake2b(text, digest_size=8).digest(), "little"))
            documents.append("\n".join((file.candidate.path, *piece.scope, text.decode())))
            if embed is not None:
                bodies.append(text.decode())
        symbols += [
            (term_hash(symbol.name), number, i, parent_hash(symbol.parent)) for i, symbol in enumerate(chunked.symbols)
        ]
        tokens.append(np.concatenate([np.zeros(0, np.int32), *file.analysis.tokens]))
        blocks.append([zlib.compress(raw[at : at + _BLOCK], _LEVEL) for at in range(0, len(raw), _BLOCK)])
        details.append(zlib.compress(records.pack(chunked), _LEVEL))
        table.append(_row(file, len(tokens[-1])))
    columns: dict[str, NDArray[Any]] = {
        "files": np.frombuffer(zlib.compress(json.dumps([astuple(f) for f in table]).encode(), _LEVEL), np.uint8),
        "chunks": np.array(chunks, np.int32).reshape(-1, 5),
        "chunk_hashes": np.array(hashes, np.uint64),
        **_joined("texts", [block for of_file in blocks for block in of_file]),
        "first_blocks": np.cumsum([0, *map(len, blocks)]).astype(np.uint32),
        **_joined("details", details),
        **_symbol_columns(symbols),
        **Postings.build(documents),
        **Datastore.build(tokens),
    }
    if embed is not None:
        vectors = DenseIndex.build(embed(bodies, hashes)).to_bytes()
        columns["vectors"] = np.frombuffer(vectors, np.uint8)
    arrays.write(path, columns)
    return table


class Segment:
    """A segment, opened. Safe for concurrent reading. Check its digest before."""

    def __init__(self, path: Path) -> None:
        self._arrays = arrays.mapped(path)
        rows = json.loads(zlib.decompress(self._arrays["files"].tobytes()))
        self.files = [IndexedFile(*row) for row in rows]
        self.chunks: NDArray[np.int32] = self._arrays["chunks"]
        """A row a chunk: file, first and last line, first byte and the byte after the last."""
        self.postings = Postings(self._arrays)
        self.datastore = Datastore(self._arrays)
        self.file_of_chunk = np.ascontiguousarray(self.chunks[:, 0])
        self.dense = DenseIndex.from_bytes(self._arrays["vectors"].tobytes()) if "vectors" in self._arrays else None
        lengths = np.array([file.num_tokens + 1 for file in self.files], np.int64)
        self._token_starts = 1 + np.cumsum(lengths) - lengths
        # Not methods: a cache that holds its own segment would keep the file mapped until the garbage collector comes.
        self._block = lru_cache(_BLOCKS_KEPT)(partial(_unpacked, self._arrays, "texts"))
        self._details = lru_cache(_DETAILS_KEPT)(partial(_details, self._arrays))

    def defined(self, name: str) -> list[tuple[int, int, int]]:
        """Where a name is defined: (file, number among the file's symbols, `parent_hash` of the definition around it),
        in the order of the files."""
        hashes, wanted = self._arrays["symbol_hashes"], np.uint64(term_hash(name))
        first = int(hashes.searchsorted(wanted))
        if first == len(hashes) or hashes[first] != wanted:  # as in most segments
            return []
        rows = slice(first, int(hashes.searchsorted(wanted, "right")))
        places, parents = self._arrays["symbol_places"][rows], self._arrays["symbol_parents"][rows]
        return [(*place, parent) for place, parent in zip(places.tolist(), parents.tolist(), strict=True)]

    def symbol(self, file: int, number: int) -> Symbol:
        return records.symbol(self._details(file), number)

    def chunks_of(self, file: int) -> slice:
        """The numbers of a file's chunks."""
        return slice(*np.searchsorted(self.file_of_chunk, (file, file + 1)).tolist())

    def chunk_text(self, chunk: int) -> str:
        file, _, _, start, end = self.chunks[chunk].tolist()
        return self.text(file, start, end).decode()

    def chunk(self, number: int, changed: int) -> Chunk:
        file, start_line, end_line, start, end = self.chunks[number].tolist()
        own = self.chunks_of(file)
        details, text = records.chunked(self._details(file)), self.chunk_text(number)
        piece, language = details.pieces[number - own.start], self.files[file].language
        not_references = {*piece.defines, *reach.own_words(language)}
        return Chunk(
            path=self.files[file].path,
            language=language,
            blob=self.files[file].blob,
            start_line=start_line,
            end_line=end_line,
            start_byte=start,
            end_byte=end,
            text=text,
            scope=piece.scope,
            signature=_signature_around(details, start_line),
            defines=piece.defines,
            references=tuple(dict.fromkeys(word for word in words(text) if word not in not_references)),
            imports=details.imports,
            changed=changed,
            previous=number - 1 if number > own.start else None,
            next=number + 1 if number + 1 < own.stop else None,
            digest=int(self._arrays["chunk_hashes"][number]),
        )

    def files_of_tokens(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The files that have these positions of the datastore."""
        return np.searchsorted(self._token_starts, positions, "right") - 1

    def text(self, file: int, start: int, end: int) -> bytes:
        """The bytes of a file's text from `start` to `end`, or to its end if that comes before."""
        first, last = self._arrays["first_blocks"][file : file + 2].tolist()
        skipped = start // _BLOCK
        wanted = range(first + skipped, min(last, first + -(-end // _BLOCK)))
        return b"".join(map(self._block, wanted))[start - skipped * _BLOCK : end - skipped * _BLOCK]


def _unpacked(held: Mapping[str, NDArray[Any]], name: str, number: int) -> bytes:
    """One of the parts that `_joined` has put together."""
    start, end = held[f"{name}_starts"][number : number + 2].tolist()
    return zlib.decompress(held[name][start:end].tobytes())


def _details(held: Mapping[str, NDArray[Any]], file: int) -> records.Rows:
    return records.rows(_unpacked(held, "details", file))


def _signature_around(details: ChunkedFile, line: int) -> str:
    """Of those that start before a line and end behind, the last to start is the innermost."""
    around = (symbol.signature for symbol in reversed(details.symbols) if symbol.line < line <= symbol.end_line)
    return next(around, "")


def living_in(table: Sequence[IndexedFile], dead: Collection[int]) -> list[IndexedFile]:
    return [file for number, file in enumerate(table) if number not in dead]


def refused_in(files: Iterable[IndexedFile]) -> dict[str, str]:
    """Path -> reason, of those whose text doesn't count."""
    return {file.path: file.reason for file in files if file.reason is not None}


def counts_of(files: Sequence[IndexedFile]) -> dict[str, object]:
    """For people: what an index of these files holds."""
    counted = [file for file in files if file.reason is None]
    return {
        "files": len(counted),
        "lines": sum(file.num_lines for file in counted),
        "chunks": sum(file.num_chunks for file in counted),
        "tokens": sum(file.num_tokens for file in counted),
        "bytes": sum(file.size for file in counted),
        "languages": dict(Counter(file.language for file in counted).most_common()),
    }


def _row(file: AnalysedFile, num_tokens: int) -> IndexedFile:
    candidate, analysis = file.candidate, file.analysis
    num_lines = file.text.count("\n") + (not file.text.endswith("\n")) if analysis.reason is None else 0
    return IndexedFile(
        path=candidate.path,
        language=candidate.language,
        blob=candidate.blob,
        size=candidate.size,
        reason=analysis.reason,
        num_lines=num_lines,
        num_chunks=len(analysis.chunked.pieces),
        num_tokens=num_tokens,
    )


def _line_starts(text: str) -> list[int]:
    """Byte offset of each line, and of the line that would follow the last."""
    starts, total = [0], 0
    for line in text.split("\n"):
        total += len(line.encode()) + 1
        starts.append(total)
    return starts


def _joined(name: str, parts: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
    return {
        name: np.frombuffer(b"".join(parts), np.uint8),
        f"{name}_starts": np.concatenate([[0], ends]).astype(np.uint32),
    }


def parent_hash(name: str) -> int:
    """Stands for the name of a definition around another; 0 at top level."""
    return term_hash(name) if name else 0


def _symbol_columns(symbols: Sequence[tuple[int, int, int, int]]) -> dict[str, NDArray[Any]]:
    ordered = sorted(symbols)
    return {
        "symbol_hashes": np.array([row[0] for row in ordered], np.uint64),
        "symbol_places": np.array([row[1:3] for row in ordered], np.uint32).reshape(-1, 2),
        "symbol_parents": np.array([row[3] for row in ordered], np.uint64),
    }


def read_table(path: Path) -> list[IndexedFile]:
    """The files of a segment."""
    return Segment(path).files

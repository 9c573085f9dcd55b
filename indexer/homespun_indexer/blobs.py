"""What a file's bytes turn into (chunks, symbols, token ids), computed once for each content and kept in a cache.

The cache is SQLite in WAL mode: readers and one writer at a time, from any number of processes; kill -9 loses at most
what wasn't committed. It is worth nothing that can't be computed again, so a damaged one is deleted, and one that is
locked for long or on a full disk is done without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homespun_core.types import Tokenizer
from homespun_indexer import filters
from homespun_indexer.chunks import MAX_CHARS, MAX_LINES, ChunkedFile, Piece, Symbol, chunk_file
from homespun_indexer.files import Candidate
from homespun_indexer.tokenizer import GuardedTokenizer

logger = logging.getLogger(__name__)

Ids = NDArray[np.int32]

_FORMAT = 1
"""Part of every key: raise it when chunks, symbols or their encoding change."""
_MAX_BYTES = 4_000_000_000
"""A larger cache is started anew: simpler than tracking what is still used, and rebuilding takes seconds."""
_BATCH = 64
_LOCK_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One file, analysed. `segments` are the token ids of the file, one array a piece: from its first line to the next
    piece."""

    reason: str | None
    """Why its text doesn't count; the rest is empty then."""
    chunked: ChunkedFile
    segments: tuple[Ids, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedFile:
    candidate: Candidate
    text: str
    analysis: Analysis


def analyse(files: Iterable[tuple[Candidate, bytes]], tokenizer: Tokenizer, cache: BlobCache) -> Iterator[AnalysedFile]:
    """Every file with its analysis, in order; what the cache has isn't computed."""
    batch: list[tuple[Candidate, bytes]] = []
    for item in files:
        batch.append(item)
        if len(batch) == _BATCH:
            yield from _analyse_batch(batch, tokenizer, cache)
            batch = []
    yield from _analyse_batch(batch, tokenizer, cache)


def segment_lines(text: str, pieces: Sequence[Piece]) -> list[str]:
    """`text` cut before each piece's first line but the first: joined they are `text` again."""
    lines = text.split("\n")
    starts = [0, *(piece.start_line - 1 for piece in pieces[1:]), len(lines)]
    joined = ["\n".join(lines[a:b]) + "\n" for a, b in pairwise(starts)]
    return [*joined[:-1], joined[-1][:-1]] if joined else []


def _analyse_batch(
    batch: Sequence[tuple[Candidate, bytes]], tokenizer: Tokenizer, cache: BlobCache
) -> Iterator[AnalysedFile]:
    keys = [_key(candidate, tokenizer) for candidate, _ in batch]
    known = cache.get(keys)
    fresh = {i: filters.decode_source(batch[i][1]) for i, key in enumerate(keys) if key not in known}
    chunked = {i: _chunked(batch[i][0], text, reason) for i, (text, reason) in fresh.items()}
    pieces = {i: segment_lines(text, chunked[i].pieces) if chunked[i].pieces else [] for i, (text, _) in fresh.items()}
    encoded = iter(_encode_all(tokenizer, [text for i in fresh for text in pieces[i]]))
    for i, (_, reason) in fresh.items():
        segments = tuple(next(encoded) for _ in pieces[i])
        known[keys[i]] = Analysis(reason=reason, chunked=chunked[i], segments=segments)
    cache.put({keys[i]: known[keys[i]] for i in fresh})
    for key, (candidate, raw) in zip(keys, batch, strict=True):
        text = filters.decode(raw)[0] if known[key].reason is None else ""
        yield AnalysedFile(candidate=candidate, text=text, analysis=known[key])


def _chunked(candidate: Candidate, text: str, reason: str | None) -> ChunkedFile:
    return chunk_file(text, candidate.language) if reason is None else ChunkedFile(pieces=(), symbols=())


def _encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    many = tokenizer.encode_many(texts) if isinstance(tokenizer, GuardedTokenizer) else map(tokenizer.encode, texts)
    return [np.asarray(ids, dtype=np.int32) for ids in many]


def _key(candidate: Candidate, tokenizer: Tokenizer) -> str:
    parts = f"{_FORMAT} {MAX_CHARS} {MAX_LINES} {candidate.language} {candidate.blob} {tokenizer.digest}"
    return hashlib.sha256(parts.encode()).hexdigest()


class BlobCache:
    """Analyses by key. A context manager; for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        """None: gone on without it."""

    def __enter__(self) -> BlobCache:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.is_file() and self._path.stat().st_size > _MAX_BYTES:
            self._delete()
        try:
            self._database = self._open()
        except sqlite3.DatabaseError as error:
            self._recover(error)
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()

    def get(self, keys: Sequence[str]) -> dict[str, Analysis]:
        if self._database is None:
            return {}
        marks = ",".join("?" * len(keys))
        try:
            rows = self._database.execute(f"SELECT key, value FROM analyses WHERE key IN ({marks})", keys).fetchall()
            return {key: _unpack(value) for key, value in rows}
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError, zlib.error) as error:
            self._recover(error)
            return {}

    def put(self, analyses: dict[str, Analysis]) -> None:
        if self._database is None:
            return
        rows = [(key, _pack(analysis)) for key, analysis in analyses.items()]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO analyses VALUES (?, ?)", rows)
        except sqlite3.DatabaseError as error:
            self._recover(error)

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=_LOCK_S)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")  # a power cut may cost the cache, never correctness
            database.execute("CREATE TABLE IF NOT EXISTS analyses (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def _recover(self, error: Exception) -> None:
        self._close()
        # Another process is writing for long, or the disk is full (then the snapshot will say so): that's no damage.
        if isinstance(error, sqlite3.OperationalError) and ("locked" in str(error) or "full" in str(error)):
            logger.warning("cache %s: %s; going on without it", self._path, error)
            return
        logger.warning("cache %s is damaged (%s) and is rebuilt", self._path, error)
        self._delete()
        self._database = self._open()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _pack(analysis: Analysis) -> bytes:
    """JSON, then the token ids; compressed, for zlib's checksum as much as for the size."""
    head = json.dumps(
        {
            "reason": analysis.reason,
            "pieces": [asdict(p) for p in analysis.chunked.pieces],
            "symbols": [asdict(s) for s in analysis.chunked.symbols],
            "lengths": [len(ids) for ids in analysis.segments],
        }
    ).encode()
    ids = b"".join(ids.astype("<i4").tobytes() for ids in analysis.segments)
    return zlib.compress(len(head).to_bytes(4, "little") + head + ids, level=1)


def _unpack(packed: bytes) -> Analysis:
    raw = zlib.decompress(packed)
    size = int.from_bytes(raw[:4], "little")
    head = json.loads(raw[4 : 4 + size])
    ids = np.frombuffer(raw, dtype="<i4", offset=4 + size).astype(np.int32)
    ends = np.cumsum(head["lengths"]) if head["lengths"] else np.zeros(0, np.int64)
    pieces = tuple(Piece(**{**p, "scope": tuple(p["scope"]), "defines": tuple(p["defines"])}) for p in head["pieces"])
    return Analysis(
        reason=head["reason"],
        chunked=ChunkedFile(pieces=pieces, symbols=tuple(Symbol(**s) for s in head["symbols"])),
        segments=tuple(np.split(ids, ends[:-1])) if len(ends) else (),
    )

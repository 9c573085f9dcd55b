"""What a file's bytes turn into (chunks, symbols, token ids), computed once for each content and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from homespun_core.types import Tokenizer
from homespun_indexer import filters, records
from homespun_indexer.cache import BlobCache
from homespun_indexer.chunks import MAX_CHARS, MAX_LINES, ChunkedFile, Piece, chunk_file
from homespun_indexer.files import Candidate
from homespun_indexer.parse import is_parsing
from homespun_indexer.tokenizer import GuardedTokenizer

Ids = NDArray[np.int32]

_BATCH = 256
_NONE = ChunkedFile(pieces=(), symbols=(), imports=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One file, analysed. `tokens` are the ids of its tokens, an array a piece: from its first line to the next
    piece."""

    reason: str | None
    """Why its text doesn't count; the rest is empty then."""
    chunked: ChunkedFile
    tokens: tuple[Ids, ...]


_UNREADABLE = Analysis(reason=filters.DAMAGED, chunked=_NONE, tokens=())


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysedFile:
    candidate: Candidate
    text: str
    analysis: Analysis


def analyse(
    files: Iterable[tuple[Candidate, bytes | None]], tokenizer: Tokenizer, cache: BlobCache, *, one_by_one: bool = False
) -> Iterator[AnalysedFile]:
    """Every file with its analysis, in order; what the cache has isn't computed. None for a file that can't be read.
    With `one_by_one` the cache has a file before the next is looked at."""
    size = 1 if one_by_one else _BATCH
    batch: list[tuple[Candidate, bytes | None]] = []
    for item in files:
        batch.append(item)
        if len(batch) == size:
            yield from _analyse_batch(batch, tokenizer, cache)
            batch = []
    yield from _analyse_batch(batch, tokenizer, cache)


def unknown(candidates: Sequence[Candidate], tokenizer: Tokenizer, cache: BlobCache) -> Iterator[Candidate]:
    """Those that the cache has no analysis of."""
    for batch in (candidates[start : start + _BATCH] for start in range(0, len(candidates), _BATCH)):
        keys = {_key(candidate, tokenizer): candidate for candidate in batch}
        known = cache.get(list(keys))
        yield from (candidate for key, candidate in keys.items() if key not in known)


def keep_unparsed(candidate: Candidate, raw: bytes, tokenizer: Tokenizer, cache: BlobCache) -> None:
    """From now on the cache has this content as it is without its parser. For a process that doesn't parse."""
    (analysis,) = _computed([(candidate, raw)], tokenizer)
    cache.put({_key(candidate, tokenizer, is_parsed=True): _pack(analysis)})


def piece_texts(text: str, pieces: Sequence[Piece]) -> list[str]:
    """`text` cut before each piece's first line but the first: joined they are `text` again."""
    lines = text.split("\n")
    starts = [0, *(piece.start_line - 1 for piece in pieces[1:]), len(lines)]
    joined = ["\n".join(lines[a:b]) + "\n" for a, b in pairwise(starts)]
    return [*joined[:-1], joined[-1][:-1]] if joined else []


def _analyse_batch(
    batch: Sequence[tuple[Candidate, bytes | None]], tokenizer: Tokenizer, cache: BlobCache
) -> Iterator[AnalysedFile]:
    readable = [(candidate, raw, _key(candidate, tokenizer)) for candidate, raw in batch if raw is not None]
    known = _known(cache, [key for _, _, key in readable])
    fresh = {key: (candidate, raw) for candidate, raw, key in readable if key not in known}
    new = dict(zip(fresh, _computed(list(fresh.values()), tokenizer), strict=True))
    cache.put({key: _pack(analysis) for key, analysis in new.items()})
    analyses = known | new
    for candidate, raw in batch:
        analysis = _UNREADABLE if raw is None else analyses[_key(candidate, tokenizer)]
        text = filters.decode(raw)[0] if raw is not None and analysis.reason is None else ""
        yield AnalysedFile(candidate=candidate, text=text, analysis=analysis)


def _known(cache: BlobCache, keys: Sequence[str]) -> dict[str, Analysis]:
    known = {}
    for key, value in cache.get(keys).items():
        with suppress(ValueError, TypeError, zlib.error):  # a damaged one is computed again
            known[key] = _unpack(value)
    return known


def _computed(files: Sequence[tuple[Candidate, bytes]], tokenizer: Tokenizer) -> Iterator[Analysis]:
    decoded = [filters.decode_source(raw) for _, raw in files]
    chunked = [_chunked(candidate, *judged) for (candidate, _), judged in zip(files, decoded, strict=True)]
    texts = [piece_texts(text, c.pieces) if c.pieces else [] for (text, _), c in zip(decoded, chunked, strict=True)]
    encoded = iter(_encode_all(tokenizer, [text for of_file in texts for text in of_file]))
    for (_, reason), file, of_file in zip(decoded, chunked, texts, strict=True):
        yield Analysis(reason=reason, chunked=file, tokens=tuple(next(encoded) for _ in of_file))


def _chunked(candidate: Candidate, text: str, reason: str | None) -> ChunkedFile:
    return chunk_file(text, candidate.language) if reason is None else _NONE


def _encode_all(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    if isinstance(tokenizer, GuardedTokenizer):
        return tokenizer.encode_arrays(texts)
    return [np.asarray(tokenizer.encode(text), dtype=np.int32) for text in texts]


def _key(candidate: Candidate, tokenizer: Tokenizer, *, is_parsed: bool = False) -> str:
    options = f"{records.FORMAT} {is_parsed or is_parsing()} {MAX_CHARS} {MAX_LINES}"
    parts = f"{options} {candidate.language} {candidate.blob} {tokenizer.digest}"
    return hashlib.sha256(parts.encode()).hexdigest()


def _pack(analysis: Analysis) -> bytes:
    """Compressed, for zlib's checksum as much as for the size."""
    head = json.dumps([analysis.reason, [len(ids) for ids in analysis.tokens]]).encode()
    body = records.pack(analysis.chunked)
    ids = np.concatenate([np.zeros(0, np.int32), *analysis.tokens]).astype("<u4")
    sizes = np.array([len(head), len(body)], "<u4").tobytes()
    return zlib.compress(b"".join((sizes, head, body, ids.tobytes())), level=1)


def _unpack(packed: bytes) -> Analysis:
    raw = zlib.decompress(packed)
    head_end = 8 + int.from_bytes(raw[:4], "little")
    body_end = head_end + int.from_bytes(raw[4:8], "little")
    reason, lengths = json.loads(raw[8:head_end])
    ids = np.frombuffer(raw, "<u4", offset=body_end).astype(np.int32)
    return Analysis(
        reason=reason,
        chunked=records.unpack(raw[head_end:body_end]),
        tokens=tuple(np.split(ids, np.cumsum(lengths)[:-1])) if lengths else (),
    )

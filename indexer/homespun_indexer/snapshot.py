"""Index snapshots: built from a repository, published whole, used again while nothing that shapes them has changed.

A generation's name is a digest of its content (path and blob of every candidate) and of the options that shape its
bytes, so equal work is recognised before it is done. Snapshots of the current state lie in `index/<repo>/`, those of a
given commit (for training and evaluation) in `index/<repo>/frozen/`, where newer states don't push them out.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import numpy as np

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError, StorageError
from homespun_core.paths import DataDir
from homespun_core.storage import Manifest
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import files
from homespun_indexer.blobs import AnalysedFile, BlobCache, analyse
from homespun_indexer.chunks import MAX_CHARS, MAX_LINES
from homespun_indexer.datastore import Datastore
from homespun_indexer.dense import DenseIndex, StaticEmbedder, embedding_table
from homespun_indexer.lexical import LexicalIndex, terms
from homespun_indexer.model_files import builtin_path
from homespun_indexer.repository import Repository, remote_urls
from homespun_indexer.symbols import SymbolTable
from homespun_indexer.tokenizer import GuardedTokenizer

logger = logging.getLogger(__name__)

KIND = "index"
FORMAT = 1
"""1: files.json, texts.bin, chunks.npy, lexical/, symbols.json, datastore/, dense/."""
_KEEP = 3
_KEEP_FROZEN = 4


class IndexState(StrEnum):
    """Whether the published index can be used as it is, and why not. Also the reason in the log."""

    MISSING = "missing"
    CORRUPT = "corrupt"
    FORMAT = "format"
    OPTIONS = "options"
    CONTENT = "content"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be indexed, and the digests that name the result."""

    selection: files.Selection
    options: str
    content: str

    @property
    def generation(self) -> str:
        return storage.fingerprint(self.options, self.content)[:16]


def index_repository(
    repo: Repository,
    *,
    settings: Settings,
    data: DataDir,
    model: ModelFiles,
    tokenizer: Tokenizer,
    progress: Progress,
    commit: str | None = None,
    exclude: frozenset[str] = frozenset(),
) -> Path:
    """The index of the repository's current state, made current; or of `commit`, not made current. Built only if
    needed.

    `exclude` leaves paths out: a corpus that holds out whole files needs an index that hasn't seen them.
    Raises RepositoryError when there is nothing to index, saying what was skipped and why.
    """
    plan = _plan(repo, settings, tokenizer, commit, exclude)
    parent = data.index(repo.id) / "frozen" if commit else data.index(repo.id)
    final = parent / plan.generation
    state = _state(parent, final, plan)
    logger.debug("index of %s: %s", repo.name, state)
    if state is not IndexState.EQUAL:
        if state is IndexState.CORRUPT:
            shutil.rmtree(final, ignore_errors=True)
        _publish(repo, plan, final, tokenizer, data, progress, _sources(repo, model, tokenizer, plan, commit))
    os.utime(final)  # used now: the last to be pruned
    if commit is None:
        storage.set_current(parent, final.name)
    storage.prune(parent, _KEEP_FROZEN if commit else _KEEP)
    return final


def _plan(
    repo: Repository, settings: Settings, tokenizer: Tokenizer, commit: str | None, exclude: frozenset[str]
) -> _Plan:
    selection = files.select(repo, settings=settings, commit=commit)
    kept = tuple(c for c in selection.candidates if c.path not in exclude)
    if not kept:
        raise _nothing_to_index(repo, files.count_reasons(selection.skipped))
    return _Plan(
        selection=files.Selection(candidates=kept, skipped=selection.skipped),
        options=storage.fingerprint(FORMAT, MAX_CHARS, MAX_LINES, tokenizer.digest, repo.name, remote_urls(repo)),
        content=storage.fingerprint([[c.path, c.blob] for c in kept]),
    )


def _nothing_to_index(repo: Repository, reasons: dict[str, int]) -> RepositoryError:
    skipped = ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "it has no files"
    return RepositoryError(f"{repo.identity}: no source files to index ({skipped})")


def _state(parent: Path, final: Path, plan: _Plan) -> IndexState:
    """Why `final` has to be built; every byte of a snapshot is checked before it is called equal."""
    if not (final / storage.MANIFEST).is_file():
        return _why_new(storage.current(parent), plan)
    try:
        storage.verify(final, storage.read_manifest(final, KIND, FORMAT))
    except StorageError:
        return IndexState.CORRUPT
    return IndexState.EQUAL


def _why_new(current: Path | None, plan: _Plan) -> IndexState:
    if current is None:
        return IndexState.MISSING
    try:
        manifest = storage.read_manifest(current, KIND, FORMAT)
    except StorageError:
        return IndexState.FORMAT
    return IndexState.CONTENT if manifest.sources.get("options") == plan.options else IndexState.OPTIONS


def _sources(
    repo: Repository, model: ModelFiles, tokenizer: Tokenizer, plan: _Plan, commit: str | None
) -> dict[str, str]:
    """`git_urls` holds one URL a line."""
    return {
        "repository": repo.identity,
        "name": repo.name,
        "branch": repo.branch,
        "commit": commit or repo.head,
        "git_urls": "\n".join(remote_urls(repo)),
        "base_model": model.name,
        "tokenizer": tokenizer.digest,
        "options": plan.options,
        "content": plan.content,
    }


def _publish(
    repo: Repository,
    plan: _Plan,
    final: Path,
    tokenizer: Tokenizer,
    data: DataDir,
    progress: Progress,
    sources: dict[str, str],
) -> None:
    analysed = _analysed(repo, plan, tokenizer, data, progress)
    counted = [f for f in analysed if f.analysis.reason is None]
    refused = {f.candidate.path: f.analysis.reason or "" for f in analysed if f.analysis.reason is not None}
    reasons = files.count_reasons({**plan.selection.skipped, **refused})
    if not counted:
        raise _nothing_to_index(repo, reasons)
    info: dict[str, object] = {
        "files": len(counted),
        "lines": sum(f.text.count("\n") + (not f.text.endswith("\n")) for f in counted),
        "chunks": sum(len(f.analysis.chunked.pieces) for f in counted),
        "tokens": sum(len(ids) for f in counted for ids in f.analysis.segments),
        "languages": dict(Counter(f.candidate.language for f in counted).most_common()),
        "skipped": reasons,
    }
    manifest = Manifest(kind=KIND, format_version=FORMAT, fingerprint=plan.generation, sources=sources, info=info)
    progress.start("Writing the index")
    with storage.publish_dir(final, manifest) as tmp:
        _write(tmp, counted, tokenizer)
    progress.finish(f"{info['chunks']:,} chunks")


def _analysed(
    repo: Repository, plan: _Plan, tokenizer: Tokenizer, data: DataDir, progress: Progress
) -> list[AnalysedFile]:
    candidates = plan.selection.candidates
    progress.start("Reading and parsing", total=len(candidates), unit="files")
    analysed = []
    with BlobCache(data.cache / "blobs.sqlite") as cache:
        for done, file in enumerate(analyse(files.read_contents(repo, candidates), tokenizer, cache), 1):
            analysed.append(file)
            progress.advance(done)
    progress.finish(f"{len(candidates):,} files")
    return analysed


def _write(folder: Path, analysed: Sequence[AnalysedFile], tokenizer: Tokenizer) -> None:
    _write_texts(folder, analysed)
    LexicalIndex.build(_documents(analysed)).save(folder / "lexical")
    SymbolTable.build([f.analysis.chunked.symbols for f in analysed]).save(folder / "symbols.json")
    segments = [np.concatenate([np.zeros(0, np.int32), *f.analysis.segments]) for f in analysed]
    Datastore.build(segments).save(folder / "datastore")
    _write_dense(folder / "dense", analysed, tokenizer)


def _write_texts(folder: Path, analysed: Iterable[AnalysedFile]) -> None:
    """All texts in one file to be mapped, and where in it files and chunks lie (chunks: file, first and last line,
    bytes)."""
    table: list[list[object]] = []
    rows: list[tuple[int, int, int, int, int]] = []
    offset = 0
    with (folder / "texts.bin").open("wb") as handle:
        for number, file in enumerate(analysed):
            starts = _line_starts(file.text)
            for piece in file.analysis.chunked.pieces:
                end = starts[piece.end_line] - 1  # without the line break
                rows.append((number, piece.start_line, piece.end_line, starts[piece.start_line - 1], end))
            raw = file.text.encode()
            table.append([file.candidate.path, file.candidate.language, file.candidate.blob, offset, len(raw)])
            handle.write(raw)
            offset += len(raw)
    np.save(folder / "chunks.npy", np.array(rows, dtype=np.int32).reshape(-1, 5))
    (folder / "files.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def _line_starts(text: str) -> list[int]:
    """Byte offset of each line, and of the line that would follow the last."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line.encode()) + 1)
    return starts


def _documents(analysed: Iterable[AnalysedFile]) -> Iterable[list[str]]:
    """The words of each chunk, and once more those of its path and of the definitions around it."""
    for file in analysed:
        lines = file.text.split("\n")
        path = terms(file.candidate.path)
        for piece in file.analysis.chunked.pieces:
            text = "\n".join([*piece.scope, *lines[piece.start_line - 1 : piece.end_line]])
            yield path + terms(text)


def _write_dense(folder: Path, analysed: Sequence[AnalysedFile], tokenizer: Tokenizer) -> None:
    folder.mkdir()
    own = builtin_tokenizer()
    if own.digest == tokenizer.digest:
        documents = [ids for f in analysed for ids in f.analysis.segments]
    else:
        texts = [t for f in analysed for t in _chunk_texts(f)]
        documents = [np.asarray(ids, np.int32) for ids in own.encode_many(texts)]
    embedder, vectors = StaticEmbedder.fit(own, embedding_table(str(builtin_path())), documents)
    embedder.save(folder)
    DenseIndex.build(vectors).save(folder / "vectors.faiss")


def _chunk_texts(file: AnalysedFile) -> list[str]:
    lines = file.text.split("\n")
    return ["\n".join(lines[p.start_line - 1 : p.end_line]) for p in file.analysis.chunked.pieces]


@cache
def builtin_tokenizer() -> GuardedTokenizer:
    """The embedder's tokenizer, whatever the base model is: its ids are rows of the built-in model's embedding
    table."""
    return GuardedTokenizer((builtin_path() / "tokenizer.json").read_text(encoding="utf-8"))

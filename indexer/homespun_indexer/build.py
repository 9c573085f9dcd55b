"""Segments built side by side, one process each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from homespun_core.errors import RepositoryError
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import analysis, files
from homespun_indexer.analysis import AnalysedFile
from homespun_indexer.cache import BlobCache
from homespun_indexer.embedders import NONE, embedded, load_embedder
from homespun_indexer.files import Candidate
from homespun_indexer.processes import Counter, NoSharedMemory, Processes, Spare, Work
from homespun_indexer.repository import Repository
from homespun_indexer.segment import IndexedFile, write_segment

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A segment to build. `cache` is the file of the blob cache."""

    repo: Repository
    candidates: Sequence[Candidate]
    target: Path
    cache: Path
    embedder: str = NONE
    """The setting."""


Outcome = tuple[str | None, int, int, int]
"""The last four fields of an `IndexedFile`: whoever asked has the others, which would be sent, and held, once more."""
SpareBuilder = Spare[Job, list[Outcome]]
"""Of `build_segment`."""


def build_segments(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress, spare: SpareBuilder | None = None
) -> list[list[IndexedFile]]:
    """Write every job's segment; returns their tables of files. `model` is where the processes find the tokenizer."""
    total = sum(len(job.candidates) for job in jobs)
    progress.start("Reading and parsing", total=total, unit="files")
    outcomes = _build_apart(jobs, tokenizer, model, progress, spare)
    progress.finish(f"{total:,} files")
    return [_table(job.candidates, of_job) for job, of_job in zip(jobs, outcomes, strict=True)]


def _table(candidates: Sequence[Candidate], outcomes: Sequence[Outcome]) -> list[IndexedFile]:
    return [IndexedFile(c.path, c.language, c.blob, c.size, *o) for c, o in zip(candidates, outcomes, strict=True)]


def _build_apart(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress, spare: SpareBuilder | None
) -> list[list[Outcome]]:
    try:
        with _processes(jobs, model, spare) as processes:
            return processes.run(jobs, progress)
    except NoSharedMemory as error:
        logger.warning("no processes beside this one (%s); indexing takes longer", error.strerror)
        return [build_segment(job, tokenizer, progress) for job in jobs]
    except BrokenProcessPool:
        logger.warning("%s: a process that parsed it was killed; its parts are tried one by one", jobs[0].repo.name)
        return [_build_alone(job, tokenizer, model, progress) for job in jobs]


def _processes(
    jobs: Sequence[Job], model: ModelFiles, spare: SpareBuilder | None
) -> AbstractContextManager[Processes[Job, list[Outcome]]]:
    if spare is not None and len(jobs) == 1:
        return spare.lent(model, jobs[0].repo.id)
    return Processes(build_segment, model, len(jobs))


def _build_alone(job: Job, tokenizer: Tokenizer, model: ModelFiles, progress: Progress) -> list[Outcome]:
    """A job that may be the one that killed its process."""
    try:
        return _without_killers(job, tokenizer, model, progress)
    except BrokenProcessPool:
        raise RepositoryError(
            f"{job.repo.identity}: a process that read it was killed, probably for want of memory; free some"
            " and run the same command again, finished work is kept"
        ) from None


def _without_killers(job: Job, tokenizer: Tokenizer, model: ModelFiles, progress: Progress) -> list[Outcome]:
    """File by file; one that kills its process is kept without its parser, so that it does so once. Without a cache to
    keep it in, the whole job is read that way. Raises BrokenProcessPool where the parsers aren't to blame."""
    killers: set[str] = set()
    while True:
        try:
            return _run_alone(build_file_by_file, job, model, progress)
        except BrokenProcessPool:
            killer = _first_unknown(job, tokenizer)
        if killer is None or killer.blob in killers:
            return _run_alone(build_segment, job, model, progress, as_lines=True)
        killers.add(killer.blob)
        logger.warning("%s: %r crashed its parser and is read as lines", job.repo.name, killer.path)
        _run_alone(keep_unparsed, replace(job, candidates=(killer,)), model, progress, as_lines=True)


def _run_alone(
    work: Work[Job, list[Outcome]], job: Job, model: ModelFiles, progress: Progress, *, as_lines: bool = False
) -> list[Outcome]:
    job.target.unlink(missing_ok=True)
    with Processes(work, model, as_lines=as_lines) as processes:
        return processes.run([job], progress)[0]


def _first_unknown(job: Job, tokenizer: Tokenizer) -> Candidate | None:
    """The file at which a process that goes file by file has ended."""
    with BlobCache(job.cache) as cache:
        unknown = analysis.unknown(job.candidates, tokenizer, cache)
        return next((found for found, raw in files.read_contents(job.repo, unknown) if raw is not None), None)


def build_file_by_file(job: Job, tokenizer: Tokenizer, progress: Progress | Counter) -> list[Outcome]:
    return build_segment(job, tokenizer, progress, one_by_one=True)


def keep_unparsed(job: Job, tokenizer: Tokenizer, progress: Progress | Counter) -> list[Outcome]:
    with BlobCache(job.cache) as cache:
        for candidate, raw in files.read_contents(job.repo, job.candidates):
            if raw is not None:
                analysis.keep_unparsed(candidate, raw, tokenizer, cache)
    return []


def build_segment(
    job: Job, tokenizer: Tokenizer, progress: Progress | Counter, *, one_by_one: bool = False
) -> list[Outcome]:
    with BlobCache(job.cache) as cache:
        contents = files.read_contents(job.repo, job.candidates)
        embedder = load_embedder(job.embedder)
        embed = partial(embedded, embedder, cache) if embedder is not None else None
        analysed = analysis.analyse(contents, tokenizer, cache, one_by_one=one_by_one)
        table = write_segment(job.target, _counted(analysed, progress), embed)
        return [(file.reason, file.num_lines, file.num_chunks, file.num_tokens) for file in table]


def _counted(analysed: Iterator[AnalysedFile], progress: Progress | Counter) -> Iterator[AnalysedFile]:
    for done, file in enumerate(analysed, 1):
        yield file
        progress.advance(done)

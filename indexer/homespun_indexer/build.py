"""Segments built side by side, one process each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from homespun_core.errors import RepositoryError
from homespun_core.types import ModelFiles, Progress, Tokenizer
from homespun_indexer import files
from homespun_indexer.analysis import AnalysedFile, analyse
from homespun_indexer.cache import BlobCache
from homespun_indexer.embedders import NONE, embedded, load_embedder
from homespun_indexer.files import Candidate
from homespun_indexer.processes import Counter, NoSharedMemory, Processes, Spare
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


SpareBuilder = Spare[Job, list[IndexedFile]]
"""Of `build_segment`."""


def build_segments(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress, spare: SpareBuilder | None = None
) -> list[list[IndexedFile]]:
    """Write every job's segment; returns their tables of files. `model` is where the processes find the tokenizer."""
    total = sum(len(job.candidates) for job in jobs)
    progress.start("Reading and parsing", total=total, unit="files")
    tables = _build_apart(jobs, tokenizer, model, progress, spare)
    progress.finish(f"{total:,} files")
    return tables


def _build_apart(
    jobs: Sequence[Job], tokenizer: Tokenizer, model: ModelFiles, progress: Progress, spare: SpareBuilder | None
) -> list[list[IndexedFile]]:
    try:
        with _processes(jobs, model, spare) as processes:
            return processes.run(jobs, progress)
    except NoSharedMemory as error:
        logger.warning("no processes beside this one (%s); indexing takes longer", error.strerror)
        return [build_segment(job, tokenizer, progress) for job in jobs]
    except BrokenProcessPool:
        logger.warning("%s: a process that parsed it was killed; its parts are tried one by one", jobs[0].repo.name)
        return [_build_alone(job, model, progress) for job in jobs]


def _processes(
    jobs: Sequence[Job], model: ModelFiles, spare: SpareBuilder | None
) -> AbstractContextManager[Processes[Job, list[IndexedFile]]]:
    if spare is not None and len(jobs) == 1:
        return spare.lent(model, jobs[0].repo.id)
    return Processes(build_segment, model, len(jobs))


def _build_alone(job: Job, model: ModelFiles, progress: Progress) -> list[IndexedFile]:
    """A job that may be the one that killed its process: then once more without the parsers."""
    for as_lines in (False, True):
        job.target.unlink(missing_ok=True)
        try:
            with Processes(build_segment, model, as_lines=as_lines) as processes:
                return processes.run([job], progress)[0]
        except BrokenProcessPool:
            logger.warning("%s: a file crashed its parser; that part is read as lines", job.repo.name)
    raise RepositoryError(
        f"{job.repo.identity}: a process that read it was killed, probably for want of memory; free some"
        " and run the same command again, finished work is kept"
    )


def build_segment(job: Job, tokenizer: Tokenizer, progress: Progress | Counter) -> list[IndexedFile]:
    with BlobCache(job.cache) as cache:
        contents = files.read_contents(job.repo, job.candidates)
        embedder = load_embedder(job.embedder)
        embed = partial(embedded, embedder, cache) if embedder is not None else None
        return write_segment(job.target, _counted(analyse(contents, tokenizer, cache), progress), embed)


def _counted(analysed: Iterator[AnalysedFile], progress: Progress | Counter) -> Iterator[AnalysedFile]:
    for done, file in enumerate(analysed, 1):
        yield file
        progress.advance(done)

"""`homespun index REPO...`: build or refresh the index of repositories, and say what went in and what didn't."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homespun_core.config import INDEX, Settings, add_flags, settings_from_args
from homespun_core.errors import HomespunError
from homespun_core.paths import DataDir
from homespun_core.storage import Manifest, locked, read_manifest
from homespun_core.types import Progress, SilentProgress
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.snapshot import FORMAT, KIND, index_repository
from homespun_indexer.tokenizer import load_tokenizer
from homespun_indexer.watch import watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """An index that is up to date."""

    repo: Repository
    path: Path
    manifest: Manifest
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repositories", nargs="+", metavar="REPO", help="directory of a git repository, or an https or ssh URL"
    )
    parser.add_argument("--watch", action="store_true", help="go on until stopped, and keep the index fresh")
    add_flags(parser, (INDEX,))


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    repos = []
    for source in args.repositories:
        indexed = index_once(source, settings, progress_for_terminal())
        print(summary(indexed), flush=True)
        repos.append((source, indexed.repo))
    if args.watch:
        keep_fresh(repos, settings)
    return 0


def keep_fresh(repos: Sequence[tuple[str, Repository]], settings: Settings) -> None:
    """Index again whenever one of the repositories changes. Doesn't return."""
    threads = [threading.Thread(target=_follow, args=(source, repo, settings), daemon=True) for source, repo in repos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _follow(source: str, repo: Repository, settings: Settings) -> None:
    """A local repository by its events, a cloned one by fetching it every few minutes."""
    stop = threading.Event()

    def refresh() -> None:
        try:
            print(summary(index_once(source, settings, SilentProgress())), flush=True)
        except (HomespunError, OSError) as error:  # the next change or fetch may find it mended
            print(f"homespun: {error}", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - a job loop: it mustn't end because one round found a bug
            print(f"homespun: {source}: {error!r}", file=sys.stderr, flush=True)

    if repo.is_local:
        watch(repo, refresh, stop)
    while not stop.wait(settings.fetch_minutes * 60):
        refresh()


def index_once(source: str, settings: Settings, progress: Progress) -> Indexed:
    """Open (or clone, or fetch) a repository and bring its index up to date.

    Raises HomespunError: the base model or the repository can't be used, or another process is indexing it.
    """
    started = time.monotonic()
    data = DataDir(settings.data_root)
    model = resolve_base_model(settings.base_model, settings.fim_family)
    tokenizer = load_tokenizer(model)
    repo = open_repository(source, data, branch=settings.branch, timeout_s=settings.git_timeout_s, progress=progress)
    with locked(data.locks / f"index-{repo.id}.lock", f"indexing of {repo.name}"):
        path = index_repository(repo, settings=settings, data=data, model=model, tokenizer=tokenizer, progress=progress)
    manifest = read_manifest(path, KIND, FORMAT)
    return Indexed(repo=repo, path=path, manifest=manifest, seconds=time.monotonic() - started)


def summary(indexed: Indexed) -> str:
    info = indexed.manifest.info
    counts = f"{info['files']:,} files, {info['lines']:,} lines, {info['chunks']:,} chunks in {indexed.seconds:.1f} s"
    lines = [f"{indexed.repo.name}: {counts}"]
    languages, skipped = info["languages"], info["skipped"]
    assert isinstance(languages, Mapping) and isinstance(skipped, Mapping)
    lines.append(f"  languages: {_listed(languages)}")
    if skipped:
        lines.append(f"  left out:  {_listed(skipped)}")
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())

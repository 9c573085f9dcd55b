"""`homespun forget`: leave something out of all training from now on, and take away what was trained on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from homespun_core import personal
from homespun_core.cli import is_confirmed
from homespun_core.config import INDEX, TRAIN
from homespun_core.errors import ConfigError, HomespunError, StorageError, TooLittleCode
from homespun_core.loading import LoadedSettings, add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir, hide_credentials, is_remote, repo_id, repo_identity, repo_identity_on_disk
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig, is_scope
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.people import author_hash
from homespun_indexer.progress import progress_for_terminal
from homespun_server.database.opening import open_database
from homespun_server.feedback import kept
from homespun_trainer.cli import summary, train
from homespun_trainer.forget.effects import Effect, effects, known_repositories, source_of, sweep, take_away
from homespun_trainer.train import TrainingInterruptedError

_EPILOG = """\
examples:
  homespun forget ~/code/shop                                  all of a repository
  homespun forget ~/code/shop --path 'payments/**'             some of its files
  homespun forget --author ada@example.com                     files that she changed, in every repository
  homespun forget --list                                       what is left out so far
  homespun forget --undo 2                                     learn number 2 again, at the next training

What it does, at once: remembers the request, so that every later corpus leaves these files out; takes adapters that
were trained on any of them, or may have had snippets of them in prompts, out of service and deletes them, with corpora,
evaluations, unfinished training runs and completions that the server kept (keep_completions; with --author all of the
repository, since none of them says who wrote what); trains anew without them. A training that goes on meanwhile
publishes nothing of it. Deleting adapters can't be undone; --undo only lets later training use the files again. Pages
that you wrote elsewhere (homespun eval --report) are yours. If it is killed, or a training is in the way,
`homespun retrain` or the server's next start goes on.

Renames are followed: --path leaves out what has the name now, had it once, or gets it later. Of a file that was renamed
since the last training, name the old path too: adapters know only the names that it had by then.

--author leaves out every file that the person ever changed (by e-mail address, renames followed), not only their
lines: what others wrote in these files is left out as well. Lines that moved from there to other files can't be found,
and neither can changes under another address: name each. The address isn't kept, only a salted hash of it.

Snippets of completions are another matter: they still show what is in the repository, where training doesn't. To keep
files out of these too, name them in .homespunignore, or remove them from the repository.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A request with the repository it names, if it names one."""

    request: Forgotten
    repository: RepositoryConfig | None

    def leaves_nothing_of(self, id: str) -> bool:
        """Of a repository, or of somebody's lines in it."""
        return self.request.is_whole and self.request.is_about(personal.repository_of(id))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "repository", nargs="?", metavar="REPO", help="path, URL or configured name (default: every one)"
    )
    parser.add_argument("--path", metavar="GLOB", help="only files that match, as in .gitignore")
    parser.add_argument("--author", metavar="EMAIL", help="only files that this person changed")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="show what is left out, and do nothing")
    instead.add_argument("--undo", metavar="N", type=int, help="take request N of the list back")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument("--no-train", action="store_true", help="don't train anew; `homespun train` does later")
    add_flags(parser, (TRAIN, INDEX))


def run(args: argparse.Namespace) -> int:
    """1 when it was not confirmed, or a repository couldn't be trained anew."""
    loaded = settings_from_args(args)
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    data = DataDir(loaded.settings.data_root)
    if args.list:
        print(listed(forgotten.load(data)), flush=True)
        return 0
    if args.undo is not None:
        back = forgotten.remove(data, args.undo)
        print(f"taken back: {described(back)}; the next `homespun train` may use it", flush=True)
        return 0
    wish = wish_of(args, loaded, data)
    found = _effects(data, wish.request)
    print(plan(wish.request, found), flush=True)
    if not args.yes and not _is_confirmed():
        return 1
    with forgotten.at_work(data):
        forgotten.add(data, wish.request)
        found = _effects(data, wish.request)  # again: a training run may have ended while we asked
        if not _is_all_gone(found, wish.request, loaded, data):
            print("homespun: it is remembered, but not gone everywhere; run the same command again", file=sys.stderr)
            return 1
        forgotten.finish(data, wish.request)
    print(f"forgotten: {described(wish.request)}", flush=True)
    return 0 if args.no_train else _train_anew(wish, found, loaded)


def _is_all_gone(found: Sequence[Effect], request: Forgotten, loaded: LoadedSettings, data: DataDir) -> bool:
    """One thing that can't be taken away doesn't keep the others from it."""
    gone = [_is_taken_away(data, effect) for effect in found]
    sweep(data)
    return all([_forget_completions(loaded, data, request), *gone])


def _forget_completions(loaded: LoadedSettings, data: DataDir, request: Forgotten) -> bool:
    """Those that the server has kept with their prompts."""
    url = loaded.settings.database_url
    if not url and not data.database.exists():
        return True
    try:
        engine = open_database(url, data.database)
    except HomespunError as error:
        print(f"homespun: {error}", file=sys.stderr, flush=True)
        return False
    try:
        number = kept.forget(engine, request)
    except SQLAlchemyError as error:
        print(f"homespun: the database fails ({type(error).__name__})", file=sys.stderr, flush=True)
        return False
    finally:
        engine.dispose()
    if number:
        print(f"  {number:,} kept completions are deleted", flush=True)
    return True


def _is_taken_away(data: DataDir, effect: Effect) -> bool:
    try:
        take_away(data, effect)
    except StorageError as error:
        print(f"homespun: {error}", file=sys.stderr, flush=True)
        return False
    return True


def wish_of(args: argparse.Namespace, loaded: LoadedSettings, data: DataDir) -> Wish:
    """Raises ConfigError when it says nothing to forget."""
    if not (args.repository or args.path or args.author):
        raise ConfigError("nothing to forget: name a REPO, --path or --author; `homespun forget --help` has examples")
    if args.author is not None and "@" not in args.author:
        raise ConfigError(f"--author {args.author}: not an e-mail address; `git log --format=%ae` shows them")
    repository = loaded.chosen([args.repository])[0] if args.repository else None
    if repository is not None and repository not in loaded.repositories:
        _refuse_unknown(repository.source, data)
    request = Forgotten(
        repository=_id_of(repository.source) if repository else None,
        name=(repository.name or hide_credentials(repository.source)) if repository else None,
        path=pattern_of(args.path) if args.path is not None else None,
        author=author_hash(data)(args.author) if args.author else None,
    )
    return Wish(request=request, repository=repository)


def _refuse_unknown(source: str, data: DataDir) -> None:
    """Raises ConfigError of a misspelt directory: it would be said to be forgotten. One that is gone is known by what
    was made of it."""
    if is_remote(source) or _id_of(source) in known_repositories(data):
        return
    place = Path(repo_identity_on_disk(source))
    if not (place / ".git").exists() and not (place / "HEAD").is_file():
        raise ConfigError(f"{source!r}: not a git repository, and nothing was ever made of it here")


def pattern_of(path: str) -> str:
    """As it is remembered. Raises ConfigError where nothing in a repository could match: it would be said to be
    forgotten."""
    pattern = path.strip().removeprefix("./")
    names = pattern.removeprefix("/").removesuffix("/").split("/")
    is_elsewhere = pattern.startswith("/") and Path(pattern).is_file()
    if pattern.startswith("!") or {"", ".", ".."} & set(names) or is_elsewhere:
        raise ConfigError(
            f"--path {path!r}: matches nothing; give a pattern as in .gitignore, such as 'src/**', that counts from the"
            " root of the repository"
        )
    return pattern


def _id_of(source: str) -> str:
    return repo_id(source if is_remote(source) else repo_identity_on_disk(source))


def _effects(data: DataDir, request: Forgotten) -> list[Effect]:
    return effects(data, known_repositories(data), request)


def described(request: Forgotten) -> str:
    files = f"files {request.path}" if request.path else "files" if request.author else "everything"
    by = f" changed by author {request.author}" if request.author else ""
    return f"{files}{by} in {request.name or 'every repository'}"


def listed(requests: Sequence[Forgotten]) -> str:
    if not requests:
        return "nothing is forgotten: every corpus may use everything"
    return "\n".join(f"{n}  {r.asked[:10]}  {described(r)}" for n, r in enumerate(requests, 1))


def plan(request: Forgotten, found: Sequence[Effect]) -> str:
    """What will go, in a few lines."""
    lines = [f"to be left out of all training from now on: {described(request)}"]
    for effect in found:
        parts = [f"{len(effect.adapters)} adapters{' (one is live)' if effect.is_live else ''}"]
        parts += [f"{len(effect.corpora)} corpora"] + (["an unfinished training run"] if effect.run else [])
        parts += ["scores and pages of evaluations"] if effect.evaluations else []
        lines.append(f"  {effect.repository}: {', '.join(parts)} will be deleted")
    return "\n".join(lines if found else [*lines, "  nothing here was trained on it so far"])


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        print("homespun: nothing was changed; add --yes where there is no terminal to ask on", file=sys.stderr)
        return False
    return is_confirmed("Go on?")


def _train_anew(wish: Wish, found: Sequence[Effect], loaded: LoadedSettings) -> int:
    """Whatever lost an adapter or a run, and has something left to learn. One that fails doesn't keep the others from
    it."""
    lost = [e for e in found if (e.adapters or e.run) and not wish.leaves_nothing_of(e.repository)]
    statuses = [_train(wish, effect, loaded) for effect in lost]
    return max(statuses, default=0)


def _train(wish: Wish, effect: Effect, loaded: LoadedSettings) -> int:
    if personal.owner_of(effect.repository) is not None:
        print(f"homespun: {effect.repository}: `homespun retrain` trains it anew", file=sys.stderr)
        return 0
    source = _source(wish, effect, loaded)
    if source is None:
        how = "give it an [[adapter]] table" if is_scope(effect.repository) else "run `homespun train URL`"
        print(f"homespun: {effect.repository}: {how} to train it anew", file=sys.stderr)
        return 1
    try:
        print(summary(train(source, loaded.settings, progress_for_terminal())), flush=True)
    except TooLittleCode as reason:
        print(f"homespun: {reason}", flush=True)
    except TrainingInterruptedError:
        print("homespun: stopped; it is forgotten, `homespun train` goes on with the training", file=sys.stderr)
        return 130
    except HomespunError as error:
        print(f"homespun: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _source(wish: Wish, effect: Effect, loaded: LoadedSettings) -> RepositoryConfig | ScopeConfig | str | None:
    if is_scope(effect.repository):
        return next((scope for scope in loaded.scopes if scope.id == effect.repository), None)
    if wish.repository is not None and wish.request.is_about(effect.repository):
        return wish.repository
    return _known_source(effect, loaded)


def _known_source(effect: Effect, loaded: LoadedSettings) -> RepositoryConfig | str | None:
    """Configured, or a path on this machine; the URL of another one isn't known with its protocol and user."""
    configured = next((r for r in loaded.repositories if _id_of(r.source) == effect.repository), None)
    said = source_of(effect)
    return configured or (said if said is not None and repo_identity(said) == said and said.startswith("/") else None)

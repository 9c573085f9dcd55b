"""Adapters that people have for themselves: who wants one, what it is called in the data directory, and its end.

Somebody who wants one is a file here, written when they ask and deleted when they take it back. Without it nothing is
trained, published or served, whatever else is left on the disk; so what is deleted first is that file. A training is
of one wish: what is asked for again is another, under which an earlier training publishes nothing.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from homespun_core import storage
from homespun_core.errors import ConfigError, HomespunError, StorageError
from homespun_core.paths import DataDir

logger = logging.getLogger(__name__)

_MARK = "+"
"""No directory name of a repository or of a shared adapter begins with it."""
_PATIENCE_S = 10.0
"""Publishing takes a second, on a slow disk some."""
_TRIES = 3
"""A training that goes on may write into what is being deleted."""


class WithdrawnError(HomespunError):
    """Nobody wants it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Somebody wants adapters trained on what they committed themselves."""

    user: str
    """Id of the account."""
    name: str
    authors: tuple[str, ...]
    """Hashes of their addresses, as in corpora."""
    since: float
    """When they asked: another one is another wish."""
    may_have: tuple[str, ...] | None = None
    """Ids of the repositories that they may read, as far as there is an index, and of the shared adapters that they may
    get: as a server saw it last, since rights are in its database. None before."""


def personal_id(user: str, repository: str) -> str:
    """Directory name of somebody's adapter for a repository."""
    return f"{_MARK}{user}{_MARK}{repository}"


def owner_of(id: str) -> str | None:
    """Whose adapter it is, by its directory name; None for one that isn't personal."""
    return id.split(_MARK, 2)[1] if id.startswith(_MARK) and id.count(_MARK) > 1 else None


def repository_of(id: str) -> str:
    """The repository that an adapter is for, by its directory name; a shared one stands for itself."""
    return id.split(_MARK, 2)[2] if owner_of(id) is not None else id


def wish_file(data: DataDir, user: str) -> Path:
    return data.root / "personal" / f"{user}.json"


def is_wanted(data: DataDir, user: str) -> bool:
    return wish_file(data, user).is_file()


def want(data: DataDir, wish: Wish) -> None:
    """Who wants the same already goes on wanting it. Raises BusyError when somebody is publishing, and doesn't end;
    StorageError when something of theirs is left and can't be deleted."""
    with _alone(data, wish.user):
        before = _read(wish_file(data, wish.user))
        if before is None:
            _remove_all(data, wish.user)  # what a training left that was killed after its wish had been taken back
        elif before.authors == wish.authors:
            may_have = before.may_have if wish.may_have is None else wish.may_have
            wish = replace(wish, since=before.since, may_have=may_have)
        _write(data, wish)


def note_rights(data: DataDir, user: str, may_have: tuple[str, ...]) -> None:
    """Nothing where they want none any more. Raises BusyError as `want` does."""
    with _alone(data, user):
        wish = _read(wish_file(data, user))
        if wish is not None:
            _write(data, replace(wish, may_have=may_have))


def stands(data: DataDir, wish: Wish | None) -> bool:
    """Whether it was not taken back, also if it was asked for again since; one that can't be read now was not. None is
    everybody's, and stands."""
    try:
        return wish is None or _since(data, wish.user) == wish.since
    except StorageError:
        return True


@contextmanager
def standing(data: DataDir, wish: Wish | None) -> Iterator[None]:
    """To publish under a wish in this block: it isn't taken back before the end. Raises WithdrawnError, and
    StorageError when it can't be read."""
    if wish is None:
        yield
        return
    with _alone(data, wish.user):
        if _since(data, wish.user) != wish.since:
            raise WithdrawnError(f"{wish.user}: the adapter's owner has taken it back; nothing is kept")
        yield


def _alone(data: DataDir, user: str) -> AbstractContextManager[None]:
    return storage.locked(data.locks / f"personal-{user}.lock", f"a change of what {user} wants", _PATIENCE_S)


def wishes(data: DataDir) -> list[Wish]:
    """By name. One that can't be read is nobody's wish."""
    found = [_read(path) for path in wish_file(data, "any").parent.glob("*.json")]
    return sorted((wish for wish in found if wish is not None), key=lambda wish: wish.name)


def wish_of(data: DataDir, word: str) -> Wish:
    """Of the user of that name or id. Raises ConfigError when they want none."""
    found = next((wish for wish in wishes(data) if word in (wish.name, wish.user)), None)
    if found is None:
        raise ConfigError(
            f"{word or repr(word)}: wants no adapter of their own; they ask for it with: homespun personal on"
        )
    return found


def take_back(data: DataDir, user: str) -> list[str]:
    """The wish, and all that was made of it. Returns the repositories that there was an adapter for. Killed on the way,
    `sweep` does the rest; a training run that goes on ends without an adapter. Raises BusyError as `want` does, and
    StorageError when something is left: it is served to nobody, and done again the rest goes too."""
    with _alone(data, user):
        _unlink(wish_file(data, user))
        return [repository_of(id) for id in _remove_all(data, user)]


def sweep(data: DataDir) -> list[str]:
    """Deletes what nobody wants any more: adapters, corpora, runs. Returns the ids of the adapters. What can't be
    deleted is said, and left to the next time."""
    gone: list[str] = []
    for owner in sorted({owner for owner, _ in _owned(data)}):
        if not is_wanted(data, owner):
            try:
                gone += _remove_all(data, owner)
            except StorageError as error:
                logger.warning("%s", error)
    return gone


def remove(data: DataDir, id: str) -> bool:
    """All that was made for somebody's own adapter of a repository. Returns whether there was one. Raises StorageError
    when something of it is left."""
    had_adapter = data.adapters(id).is_dir()
    with ExitStack() as all_of_it:  # from the last to the first, whatever becomes of one
        for of in _kinds(data):
            all_of_it.callback(_delete, of(id))
        all_of_it.callback(_unlink, data.adapters(id) / storage.CURRENT)  # servers let go of it at once
    return had_adapter


def _remove_all(data: DataDir, user: str) -> list[str]:
    """As much as can be. Returns the ids of the adapters."""
    gone: list[str] = []
    left: list[StorageError] = []
    for id in sorted({id for owner, id in _owned(data) if owner == user}):
        try:
            gone += [id] if remove(data, id) else []
        except StorageError as error:
            left.append(error)
    if left:
        raise left[0]
    return gone


def _delete(place: Path) -> None:
    for _ in range(_TRIES):
        shutil.rmtree(place, ignore_errors=True)
    try:
        shutil.rmtree(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _undeleted(place, error) from error


def _unlink(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise _undeleted(file, error) from error


def _undeleted(path: Path, error: OSError) -> StorageError:
    where = f"{path.parent.name}/{path.name}"
    return StorageError(
        f"{where}: can't be deleted ({error.strerror or error}); free it in the data directory, then again"
    )


def adapters_of(data: DataDir, user: str) -> Sequence[Path]:
    """Where there is an adapter of theirs, by repository."""
    root = data.all_adapters
    return sorted(p for p in root.iterdir() if owner_of(p.name) == user) if root.is_dir() else []


def _kinds(data: DataDir) -> Sequence[Callable[[str], Path]]:
    return data.adapters, data.corpus, data.training_run, data.evaluations, data.retraining


def _owned(data: DataDir) -> Iterator[tuple[str, str]]:
    """Of all that was made for somebody: whose it is, and its id."""
    for of in _kinds(data):
        root = of("any").parent
        for place in root.iterdir() if root.is_dir() else ():
            if (owner := owner_of(place.name)) is not None:
                yield owner, place.name


def _write(data: DataDir, wish: Wish) -> None:
    storage.write_atomic(wish_file(data, wish.user), json.dumps(asdict(wish), indent=1) + "\n")


def _read(path: Path) -> Wish | None:
    try:
        return _read_or_raise(path)
    except StorageError as error:
        logger.warning("%s", error)
        return None


def _since(data: DataDir, user: str) -> float | None:
    wish = _read_or_raise(wish_file(data, user))
    return wish.since if wish else None


def _read_or_raise(path: Path) -> Wish | None:
    """None where there is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(raw[name]) for name in ("authors", "may_have") if raw.get(name) is not None}
        return Wish(**{**raw, **lists})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(f"{path}: unreadable, so nobody's wish ({error}); its owner asks again") from error

"""Who changed which file, without keeping anybody's address: a salted hash stands for it, and the salt is in the data
directory only."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from homespun_core.paths import DataDir
from homespun_indexer.history import seconds, split_fields
from homespun_indexer.repository import Repository

_MARK = "//"
"""No path begins like this."""
_ADDRESS = re.compile(r"[^\s<>;,]{1,200}@[^\s<>;,]{1,200}")
_SALT_BYTES = 32
_MOST_RENAMED = 20_000
"""Files of one name (`__init__.py`) that are compared each with each where a commit moves and changes them: beyond, a
move loses their authors. 2,000 of forty lines take git 2.39 three seconds, so as many as these take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a path's history says."""

    changed: int
    """Seconds since 1970."""
    authors: tuple[str, ...]
    """Hashes, sorted."""
    names: tuple[str, ...] = ()
    """Other paths that it had, sorted."""


def author_hash(data: DataDir) -> Callable[[str], str]:
    """From an e-mail address, whatever its case, to the hash that stands for it. Makes the salt if there is none."""
    salt = _salt(data)

    def hashed(address: str) -> str:
        return hmac.new(salt, address.strip().lower().encode(), hashlib.sha256).hexdigest()[:16]

    return hashed


def _salt(data: DataDir) -> bytes:
    """All who make it at the same time agree, threads too: a file appears whole, by a link, and only once."""
    if not data.salt.is_file():
        data.root.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-salt-", dir=data.root)  # readable by its owner alone
        own = Path(name)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_SALT_BYTES))
        try:
            data.salt.hardlink_to(own)
        except FileExistsError:
            pass
        finally:
            own.unlink()
    return bytes.fromhex(data.salt.read_text().strip())


NOTHING = Past(changed=0, authors=())


def pasts(repo: Repository, commit: str, hashed: Callable[[str], str], since: str | None = None) -> Mapping[str, Past]:
    """The past of every path of a commit, renames included: authors as git and .mailmap have them, and co-authors. With
    `since`, an earlier commit, of what was changed after that.

    What a merge alone changed (a resolved conflict) isn't seen, and a shallow clone's history ends where it was cut.
    """
    changed: dict[str, int] = {}
    authors: defaultdict[str, set[str]] = defaultdict(set)
    names: defaultdict[str, set[str]] = defaultdict(set)
    today: dict[str, frozenset[str]] = {}  # old path -> what it is called in the commit
    begun = set[str]()  # what had these paths before was another file
    for time, addresses, is_new, old, new in _changes(repo, f"{since}..{commit}" if since else commit):
        paths = today.get(new, frozenset([new]))
        for path in paths:
            changed.setdefault(path, time)
            authors[path] |= addresses
        if old is not None:
            for path in paths:
                names[path] |= {old, new}
            # if it didn't begin in between, two branches renamed one file, each in its own way
            today[old] = paths if old in begun else paths | today.get(old, frozenset())
            begun.discard(old)
        if is_new:
            begun.add(new)
    known = functools.cache(hashed)
    return {
        path: Past(
            changed=time,
            authors=tuple(sorted({known(address) for address in authors[path]})),
            names=tuple(sorted(names[path] - {path})),
        )
        for path, time in changed.items()
    }


def with_later_names(past: Mapping[str, Past], later: Mapping[str, Past]) -> Mapping[str, Past]:
    """Of a commit's paths; `later` is what happened after it."""
    names = later_names(later)
    return {
        path: replace(before, names=tuple(sorted(names[path].union(before.names) - {path})))
        if path in names
        else before
        for path, before in past.items()
    }


def later_names(later: Mapping[str, Past]) -> Mapping[str, frozenset[str]]:
    """Of a commit's paths that were renamed after it; their own are among them."""
    names: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for path, after in later.items():
        for name in after.names:
            names[name] |= {path, *after.names}
    return dict(names)


def with_earlier(later: Mapping[str, Past], past: Mapping[str, Past], path: str) -> Past:
    """Of a path, what happened after a commit and what had happened before it, whatever it was called then."""
    after = later.get(path, NOTHING)
    all_of = [after, *(past[name] for name in (path, *after.names) if name in past)]
    return Past(
        changed=max(p.changed for p in all_of),
        authors=tuple(sorted({author for p in all_of for author in p.authors})),
        names=tuple(sorted({name for p in all_of for name in p.names} - {path})),
    )


def _changes(repo: Repository, commits: str) -> Iterator[tuple[int, set[str], bool, str | None, str]]:
    """Time, addresses, whether the path is new, old path where it was renamed, path: newest first."""
    trailers = "%(trailers:key=Co-authored-by,valueonly,separator=%x3b)"
    command = ["log", "--find-renames", f"-l{_MOST_RENAMED}", "--name-status", "-z", "--diff-merges=off"]
    time, addresses = 0, set[str]()
    with repo.git.running(
        *command, f"--format={_MARK}%ct;%ae;%aE;{trailers}", "--end-of-options", commits, "--"
    ) as process:
        assert process.stdout is not None
        fields = (f.decode("utf-8", "replace").removeprefix("\n") for f in split_fields(process.stdout))
        for field in fields:
            if field.startswith(_MARK):
                stamp, _, people = field.removeprefix(_MARK).partition(";")
                time, addresses = seconds(stamp), {a.lower() for a in _ADDRESS.findall(people)}
            elif field[:1] in ("R", "C"):
                old, new = next(fields, ""), next(fields, "")
                yield time, addresses, True, old if field[0] == "R" else None, new
            elif field:
                yield time, addresses, field == "A", None, next(fields, "")

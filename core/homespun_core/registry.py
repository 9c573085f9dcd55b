"""Adapters on disk: `adapters/<repo>/<version>/` snapshots, and what is known of them.

    <version>/       immutable: weights, report.json, MODEL_CARD.md
    CURRENT          the champion, which servers follow; the last thing a change writes
    ALIASES.json     candidate, earlier champions, pin, rejected ones
    HISTORY.jsonl    who changed what, when and why

A candidate that the gate turned down stays there, with the reasons in its report, until newer ones push it out.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

from homespun_core import aliases as names
from homespun_core import fences, model_card, personal, storage
from homespun_core.aliases import Aliases
from homespun_core.errors import StorageError
from homespun_core.storage import Manifest

ADAPTER_KIND = "adapter"
ADAPTER_FORMAT = 1
"""1: peft's adapter_config.json and adapter_model.safetensors, report.json; MODEL_CARD.md in all but the first."""
REPORT = "report.json"
CARD = "MODEL_CARD.md"
ALIASES = "ALIASES.json"
HISTORY = "HISTORY.jsonl"
KEEP = 5
"""Versions without a name that pruning leaves."""
GATE = "gate"
_LOCK = ".lock"
_STAMP = "%Y%m%d-%H%M%S"
_PATIENCE_S = 10.0
"""Changes take milliseconds; a training of hours must not fail since somebody pins a version at that moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    version: str
    path: Path
    base_digest: str
    """Digest of the base model it was trained on; it fits no other."""
    report: Mapping[str, Any]
    """Evaluation and gate: scores of every arm, whether it was promoted, and why or why not."""
    repositories: frozenset[str] = frozenset()
    """Ids of all that it has seen; empty where it doesn't say."""
    on_top_of: str | None = None
    """Of somebody's own: the adapter below, as servers call it (`repository/version`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the history."""

    time: str
    """UTC, ISO 8601."""
    by: str
    """An account of this machine, `gate` or `rollout`."""
    what: str
    version: str | None
    champion: str | None
    """After it."""
    why: str = ""


def new_version(fingerprint: str, adapters: Path | None = None) -> str:
    """A name for a version made now; names sort by time. In `adapters` it comes behind all that are there: if one was
    made while the clock was ahead, by a second more than that."""
    made = [at for version in (versions(adapters) if adapters else ()) if (at := _stamped(version)) is not None]
    at = max([int(time.time()), *(at + 1 for at in made)])
    return f"{time.strftime(_STAMP, time.gmtime(at))}-{fingerprint[:8]}"


def _stamped(version: str) -> int | None:
    """None of one that was named otherwise."""
    try:
        return timegm(time.strptime(version.rpartition("-")[0], _STAMP))
    except ValueError:
        return None


@contextmanager
def publish_adapter(
    path: Path, *, fingerprint: str, sources: Mapping[str, str], report: Mapping[str, Any]
) -> Iterator[Path]:
    """Yield a directory to put peft's two files into; on success it is the version at `path`, not live yet.

    `sources["base_model"]` is the base model's digest.
    """
    manifest = Manifest(kind=ADAPTER_KIND, format_version=ADAPTER_FORMAT, fingerprint=fingerprint, sources=sources)
    with storage.publish_dir(path, manifest) as tmp:
        yield tmp
        digests = {p.name: storage.file_digest(p) for p in sorted(tmp.glob("*.safetensors"))}
        (tmp / CARD).write_text(model_card.render(path.name, manifest, report, digests), encoding="utf-8")
        (tmp / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def versions(adapters: Path) -> list[str]:
    """All there are, oldest first."""
    return sorted(p.parent.name for p in adapters.glob(f"*/{storage.MANIFEST}") if not p.parent.name.startswith("."))


def aliases(adapters: Path) -> Aliases:
    """Raises StorageError when the record is there but unreadable: it may hold a pin."""
    record, pointer, existing = _record(adapters), _pointer(adapters), versions(adapters)
    try:
        return names.from_json(record, pointer, existing)
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{adapters / ALIASES}: unreadable ({error}); delete it: the live version stays, pin and candidate are lost"
        ) from error


def promote(adapters: Path, version: str, *, by: str = GATE, why: str = "") -> Aliases:
    """Make a version live: servers pick it up within a second. Raises StorageError when it is missing or damaged, or
    another one is pinned."""
    return _change(adapters, "promote", lambda now: (now.promoted(version), version), by, why)


def offer(adapters: Path, version: str, approval: str) -> Aliases:
    """The gate lets a version pass. Nothing happens when it is live already, or was rejected since."""
    return _change(adapters, "offer", lambda now: (now.offered(version, approval), version), GATE, "")


def approve(adapters: Path, *, by: str, why: str = "", only: str | None = None) -> Aliases:
    """The candidate becomes the champion. `only`: Refused if it is another one by now, as below."""
    return _change(adapters, "approve", lambda now: (now.approved(), _still(now.candidate, only)), by, why)


def reject(adapters: Path, *, by: str, why: str = "", only: str | None = None) -> Aliases:
    return _change(adapters, "reject", lambda now: (now.turned_down(), _still(now.candidate, only)), by, why)


def rollback(adapters: Path, *, by: str, why: str = "", only: str | None = None) -> Aliases:
    """Back to the last champion that is whole, or to the base model where there is none; what it leaves is rejected."""

    def change(now: Aliases) -> tuple[Aliases, str | None]:
        return _on_a_whole_one(adapters, now.rolled_back()), _still(now.champion, only)

    return _change(adapters, "rollback", change, by, why)


def pin(adapters: Path, *, by: str, why: str = "") -> Aliases:
    """Nothing but `retire` replaces the champion until `unpin`."""
    return _change(adapters, "pin", lambda now: (now.held(), now.champion), by, why)


def unpin(adapters: Path, *, by: str, why: str = "") -> Aliases:
    return _change(adapters, "unpin", lambda now: (now.released(), now.champion), by, why)


def retire(adapters: Path, doomed: Sequence[str], *, by: str, why: str = "") -> Aliases:
    """Take versions out of service at once, whatever their names, and delete them. The last champion that isn't among
    them takes its place.

    Those that are gone already are fine: a run that was cut off is run again.
    """

    def change(now: Aliases) -> tuple[Aliases, str]:
        return _on_a_whole_one(adapters, reduce(Aliases.retired, doomed, now)), ", ".join(doomed)

    after = _change(adapters, "retire", change, by, why)
    for version in doomed:
        storage.remove(adapters / version)
    return after


def prune(adapters: Path, keep: int = KEEP, *, on_top_of: str = "") -> list[str]:
    """Delete the oldest versions beyond `keep`; those with a name neither count nor go, nor do those that another
    adapter stands on or, by the setting `on_top_of`, will. Returns what went."""
    needed = _parents(adapters.parent) | {Path(on_top_of).name}
    with _locked(adapters):
        protected = aliases(adapters).protected | needed
        spare = [version for version in versions(adapters) if version not in protected]
        doomed = spare[: max(0, len(spare) - keep)]
        for version in doomed:
            storage.remove(adapters / version)
    return doomed


def _parents(root: Path) -> frozenset[str]:
    """Versions that those of any repository or team were trained on top of, by their reports: they are trained on them
    again. People's own aren't asked, which stand on what is live, whatever that was before."""
    places = [place for place in root.glob("*") if personal.owner_of(place.name) is None]
    return frozenset(
        name for place in places for path in place.glob(f"*/{REPORT}") for name in _parents_of(path.parent)
    )


def _parents_of(version: Path) -> list[str]:
    """None of one that can't be read: it is of no use either way."""
    try:
        report = read_report(version)
        below = report.get("preferences", {}).get("below", [])
        return [*(str(parent["name"]) for parent in report["training"].get("parents", ())), *below[1:]]
    except (StorageError, KeyError, TypeError, AttributeError):
        return []


def newest(adapters: Path) -> Adapter | None:
    """The last version trained, live or not."""
    found = versions(adapters)
    return load_adapter(adapters / found[-1]) if found else None


def live(adapters: Path) -> Adapter | None:
    """The live version. Raises StorageError when it is there but damaged."""
    path = storage.current(adapters)
    return load_adapter(path) if path else None


def load_adapter(path: Path) -> Adapter:
    """Check and describe a version; reads every byte of it once. Raises StorageError when it is damaged."""
    manifest = storage.read_manifest(path, ADAPTER_KIND, ADAPTER_FORMAT)
    storage.verify(path, manifest)
    return Adapter(
        version=path.name,
        path=path,
        base_digest=manifest.sources["base_model"],
        report=read_report(path),
        repositories=frozenset(manifest.sources.get("repositories", "").split()),
        on_top_of=manifest.sources.get("on_top_of") or None,
    )


def read_report(path: Path) -> dict[str, Any]:
    try:
        report: object = json.loads((path / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path / REPORT}: unreadable ({error})") from error
    if not isinstance(report, dict):
        raise StorageError(f"{path / REPORT}: not a report")
    return report


def model_card_of(path: Path) -> str:
    """As published; of a version from before there were cards, made now."""
    try:
        return (path / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        manifest = storage.read_manifest(path, ADAPTER_KIND, ADAPTER_FORMAT)
        return model_card.render(path.name, manifest, read_report(path), manifest.files)


def history(adapters: Path) -> list[Event]:
    """Oldest first. A line that was cut off by the end of a process is left out."""
    try:
        lines = (adapters / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(_event, lines) if event is not None]


def offered_at(events: Sequence[Event], version: str) -> float | None:
    """When the gate last let a version pass, seconds since 1970."""
    times = [event.time for event in events if event.what == "offer" and event.version == version]
    return datetime.fromisoformat(times[-1]).timestamp() if times else None


def champion_since(events: Sequence[Event], version: str) -> float | None:
    """When a version last came to be the champion that it is now, seconds since 1970; None where no line says so."""
    since = None
    for event in reversed(events):
        if event.champion != version:
            break
        since = event.time
    return None if since is None else datetime.fromisoformat(since).timestamp()


def whoami() -> str:
    """The account that runs this; in a container without accounts its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _change(
    adapters: Path, what: str, change: Callable[[Aliases], tuple[Aliases, str | None]], by: str, why: str
) -> Aliases:
    """`change` says what becomes of the names and which version it is about.

    Nothing under a lease that has ended. Record, then pointer, then history: a death before the pointer is written
    leaves the champion as it was (the record alone makes none, see `from_json`), one after it at most a line of history
    missing.
    """
    with _locked(adapters), fences.passing(adapters):
        before = aliases(adapters)
        after, version = change(before)
        if after == before and what != "retire":
            return after
        if after.champion not in (None, before.champion):
            load_adapter(adapters / str(after.champion))
        waiting = before.candidate if before.candidate == after.champion else None
        record = json.dumps(names.as_json(after, waiting), indent=1)
        storage.write_atomic(adapters / ALIASES, record + "\n")
        if after.champion != before.champion:
            _point(adapters, after.champion)
        _append(adapters, Event(time=_now(), by=by, what=what, version=version, champion=after.champion, why=why))
        return after


def rename(adapters: Path, before: str, after: str) -> None:
    """Whoever decided something under the first name did so under the second. Raises StorageError."""
    path = adapters / HISTORY
    if not path.is_file():
        return
    with _locked(adapters):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        renamed = [_renamed(line, before, after) for line in lines]
        if renamed != lines:
            storage.write_atomic(path, "".join(f"{line}\n" for line in renamed))


def _renamed(line: str, before: str, after: str) -> str:
    event = _event(line)
    return line if event is None or event.by != before else json.dumps(asdict(replace(event, by=after)))


def _still(version: str | None, only: str | None) -> str | None:
    """Whoever decided about one version must not hit the one that took its place meanwhile."""
    if only not in (None, version):
        raise names.Refused(f"{only} was meant, it is {version} by now")
    return version


def _on_a_whole_one(adapters: Path, after: Aliases) -> Aliases:
    """A way back must not end at a damaged version: servers would stay with the one to be left."""
    while after.champion is not None:
        try:
            load_adapter(adapters / after.champion)
            return after
        except StorageError:
            after = after.retired(after.champion)
    return after


def _locked(adapters: Path) -> AbstractContextManager[None]:
    return storage.locked(adapters / _LOCK, "a change of its adapters", _PATIENCE_S)


def _point(adapters: Path, champion: str | None) -> None:
    if champion is None:
        (adapters / storage.CURRENT).unlink(missing_ok=True)
    else:
        storage.set_current(adapters, champion)


def _pointer(adapters: Path) -> str | None:
    try:
        return (adapters / storage.CURRENT).read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _record(adapters: Path) -> Any:
    try:
        return json.loads((adapters / ALIASES).read_text(encoding="utf-8"))
    except FileNotFoundError:  # a data directory of before there was one
        return names.as_json(Aliases())
    except (OSError, ValueError) as error:
        raise StorageError(f"{adapters / ALIASES}: unreadable ({error}); delete it to go on without pin") from error


def _append(adapters: Path, event: Event) -> None:
    """Beginning with an empty line where the last one was cut off."""
    with (adapters / HISTORY).open("a+b") as handle:
        handle.seek(max(0, handle.seek(0, os.SEEK_END) - 1))
        start = b"\n" if handle.read(1) not in (b"", b"\n") else b""
        handle.write(start + json.dumps(asdict(event)).encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())


def _event(line: str) -> Event | None:
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

"""What the console says of a repository: what is served of it, how fresh, how large, and what stayed out and why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from homespun_core import storage
from homespun_core.paths import DataDir, hide_credentials
from homespun_server.access.principal import Principal
from homespun_server.console.words import age_s
from homespun_server.live import LiveRepository

State = Literal["served", "waits", "damaged", "none"]
"""`waits`: there is an index, but it isn't the one that is served (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    id: str
    name: str
    identity: str
    state: State
    commit: str | None = None
    age_s: float | None = None
    """Since its index was built."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Files, lines, chunks."""
    languages: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    """By reason, how many files stayed out."""
    is_uncommitted: bool = False
    """Holds what somebody has saved and not committed."""
    problems: Sequence[str] = ()
    adapter: str | None = None
    """The version that completes in it, of its own or lent."""
    adapter_of: str | None = None


def described(
    data: DataDir,
    live: Sequence[LiveRepository],
    problems: Sequence[str],
    who: Principal,
    configured: Mapping[str, str] | None = None,
) -> list[Repository]:
    """Those that `who` may read, by name. A damaged one is described, not raised. `configured` has, by id, the names of
    those of the settings, which may not be indexed yet."""
    names = configured or {}
    ids = sorted({*_folders(data.index_root), *(r.id for r in live), *names})
    by_id = {r.id: r for r in live}
    found = [_described(data, id, by_id.get(id), problems, names.get(id)) for id in ids if who.may_read(id)]
    return sorted(found, key=lambda r: (r.name.lower(), r.id))


def _described(
    data: DataDir, id: str, live: LiveRepository | None, problems: Sequence[str], configured: str | None
) -> Repository:
    snapshot = storage.current(data.index(id))
    own = [line for line in problems if id in line]
    adapter = live.adapter_path if live and live.adapter else None
    lent: dict[str, Any] = {
        "adapter": adapter.name if adapter else None,
        "adapter_of": adapter.parent.name if adapter else None,
    }
    name = configured or id.rpartition("-")[0] or id
    if snapshot is None:
        return Repository(id=id, name=name, identity=id, state="none", problems=own, **lent)
    try:
        manifest = json.loads((snapshot / storage.MANIFEST).read_text(encoding="utf-8"))
        sources, info = _table(manifest["sources"]), _table(manifest["info"])
        languages, skipped = _table(info.get("languages", {})), _table(info.get("skipped", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        own = [*own, f"{snapshot.name}: unreadable ({error})"]
        return Repository(id=id, name=name, identity=id, state="damaged", problems=own, **lent)
    is_served = live is not None and live.index_path is not None and live.index_path.name == snapshot.name
    return Repository(
        id=id,
        name=str(sources.get("name") or name),
        identity=hide_credentials(str(sources.get("repository") or id)),
        state="served" if is_served else "waits",
        commit=_text(sources.get("commit")),
        age_s=age_s(_text(manifest.get("created")), time.time()),
        counts=_numbers(info, ("files", "lines", "chunks")),
        languages=_numbers(languages),
        skipped=_numbers(skipped),
        is_uncommitted=bool(sources.get("uncommitted_of")),
        problems=own,
        **lent,
    )


def _numbers(values: Mapping[str, Any], wanted: Iterable[str] | None = None) -> dict[str, int]:
    """The most first, where it isn't said which."""
    names = wanted if wanted is not None else sorted(values, key=lambda name: (-_number(values[name]), name))
    return {str(name): _number(values[name]) for name in names if name in values}


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where a table should be")
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _folders(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if p.is_dir()] if root.is_dir() else []

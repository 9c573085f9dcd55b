"""What the console says of adapters, and the decisions about them: those of `homespun adapters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homespun_core import registry, storage
from homespun_core.aliases import Aliases
from homespun_core.errors import ConfigError, StorageError
from homespun_core.paths import DataDir
from homespun_core.scopes import is_scope
from homespun_server.access.principal import Principal
from homespun_server.adapters import describe, repositories
from homespun_server.console.charts import Estimate, Forest, forest

MEASURES = {
    "bits_per_byte": "bits per byte (less is better)",
    "exact_match": "lines exactly right",
    "edit_similarity": "edit similarity",
    "identifier_f1": "identifiers right",
}
_LESS_IS_BETTER = frozenset(("bits_per_byte",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    title: str
    says: str
    """What it does, in a sentence."""
    change: Callable[[Path, str, str, str], Aliases]
    """Of a folder, the version that was meant, who and why."""
    is_grave: bool = False


DECISIONS: Mapping[str, Decision] = {
    "approve": Decision(
        title="Approve",
        says="The candidate becomes the champion: everybody gets it within a second.",
        change=lambda place, version, by, why: registry.approve(place, by=by, why=why, only=version),
    ),
    "reject": Decision(
        title="Reject",
        says="Nobody gets the candidate from now on; it doesn’t come back by itself.",
        change=lambda place, version, by, why: registry.reject(place, by=by, why=why, only=version),
        is_grave=True,
    ),
    "rollback": Decision(
        title="Roll back",
        says="Go back to the champion before, or to the base model if there was none.",
        change=lambda place, version, by, why: registry.rollback(place, by=by, why=why, only=version),
        is_grave=True,
    ),
    "pin": Decision(
        title="Pin",
        says="Nothing replaces the champion until it is unpinned; new ones wait as candidates.",
        change=lambda place, version, by, why: registry.pin(place, by=by, why=why),
    ),
    "unpin": Decision(
        title="Unpin",
        says="New adapters may replace the champion again.",
        change=lambda place, version, by, why: registry.unpin(place, by=by, why=why),
    ),
    "promote": Decision(
        title="Promote",
        says="Make this version the champion, whatever the gate said.",
        change=lambda place, version, by, why: registry.promote(place, version, by=by, why=why),
    ),
}


def readable(data: DataDir, who: Principal) -> list[str]:
    """Folders of the adapters whose every repository `who` may read: an adapter gives away what it was trained on."""
    return [repo for repo in repositories(data) if may_read(data, repo, who)]


def may_read(data: DataDir, repo: str, who: Principal) -> bool:
    if who.readable is None:
        return True
    place = data.adapters(repo)
    seen = {id for version in registry.versions(place) for id in _saw(place / version)}
    return who.may_read(repo) and (seen <= who.readable if seen else not is_scope(repo))


def facts_of(data: DataDir, repo: str) -> Mapping[str, Any]:
    """As `homespun adapters list --json` has them."""
    return describe(data.adapters(repo))


def open_decisions(facts: Mapping[str, Any]) -> Mapping[str, str]:
    """What can be decided now about the names, with the version that each is about."""
    champion, candidate, pinned = facts.get("champion"), facts.get("candidate"), facts.get("pinned")
    found = {"approve": candidate, "reject": candidate} if candidate and not pinned else {}
    if candidate and pinned:
        found = {"reject": candidate}
    if champion:
        found |= {"unpin": champion} if pinned else {"rollback": champion, "pin": champion}
    return found


def decide(data: DataDir, repo: str, what: str, *, version: str, by: str, why: str) -> Aliases:
    """Raises ConfigError for what isn't a decision or a version, StorageError (Refused) for what can't be done now."""
    decision = DECISIONS.get(what)
    if decision is None:
        raise ConfigError(f"{what[:40]}: no such decision; there are {', '.join(DECISIONS)}")
    place = data.adapters(repo)
    if version not in registry.versions(place):
        raise ConfigError(f"{version[:80]}: {repo} has no such version; it may have been deleted meanwhile")
    if not why.strip():
        raise ConfigError("a reason is needed: whoever looks at the history later will want to know")
    return decision.change(place, version, by, " ".join(why.split()))


def gains(report: Mapping[str, Any]) -> Forest | None:
    """What the gate compared, with 95 % intervals; None for a report without differences."""
    differences = report.get("differences") or {}
    deciding = str(report.get("deciding") or f"adapter+retrieval - {report.get('control')}")
    found = differences.get(deciding)
    if not isinstance(found, Mapping):
        return None
    rows = [
        _estimate(title, found[name], better=-1 if name in _LESS_IS_BETTER else 1)
        for name, title in MEASURES.items()
        if isinstance(found.get(name), Mapping) and _value(found[name]) is not None
    ]
    return forest(deciding.replace(" - ", " against "), rows) if rows else None


def arms(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """One row for each arm of the evaluation: the means over all places."""
    found = report.get("arms") or {}
    return [{"name": name} | _means(arm.get("all", {})) for name, arm in found.items() if isinstance(arm, Mapping)]


def _means(scores: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _value(scores.get(name)) for name in (*MEASURES, "milliseconds")}


def _value(score: object) -> float | None:
    value = score.get("value") if isinstance(score, Mapping) else score
    return float(value) if isinstance(value, int | float) else None


def _estimate(title: str, found: Mapping[str, Any], *, better: int) -> Estimate:
    value = float(found.get("value") or 0.0)
    low, high = (_value(found.get(end)) for end in ("low", "high"))
    surely = 0 if low is None or high is None or low <= 0 <= high else (1 if value > 0 else -1)
    tone = {0: "", better: "good", -better: "bad"}[surely]
    return Estimate(label=title, value=value, low=low, high=high, tone=tone)


def _saw(version: Path) -> frozenset[str]:
    try:
        manifest = storage.read_manifest(version, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
    except StorageError:
        return frozenset()
    return frozenset(manifest.sources.get("repositories", "").split())

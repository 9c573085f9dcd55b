"""What `homespun adapters rollout` says: the stage, both arms in numbers, and what is missing for a verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homespun_core import registry
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_server.database.opening import failures_in_one_line, open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tallies import Arm, p95_ms, total
from homespun_server.rollout import state as states
from homespun_server.rollout.control import control
from homespun_server.rollout.follower import watched_since
from homespun_server.rollout.observed import observed
from homespun_server.rollout.stages import DAY_S, Arms, Limits, advance, going_on, shadow_use, share_percent
from homespun_server.shadow import facts as shadows
from homespun_server.shadow.decision import seen

_NOBODY: Arm = {}


def describe(data: DataDir, repos: Sequence[str], settings: Settings) -> dict[str, Any]:
    """By repository, as JSON values. Only reads."""
    store = store_of(data, settings)
    try:
        with failures_in_one_line():
            return {repo: rollout_of(data.adapters(repo), store, settings) for repo in repos}
    finally:
        if store is not None:
            store.close()


def render(state: dict[str, Any]) -> str:
    if not state:
        return "no adapters yet; train one with: homespun train REPO"
    return "\n\n".join("\n".join([repo, *_lines(facts)]) for repo, facts in state.items())


def store_of(data: DataDir, settings: Settings) -> FeedbackStore | None:
    """None where nothing was recorded yet: looking must not make a database."""
    if not settings.database_url and not data.database.exists():
        return None
    return FeedbackStore(open_database(settings.database_url, data.database))


def rollout_of(place: Path, store: FeedbackStore | None, settings: Settings) -> dict[str, Any]:
    names, now = registry.aliases(place), time.time()
    events = registry.history(place)
    facts: dict[str, Any] = {
        "champion": names.champion,
        "candidate": names.candidate,
        "decides": settings.rollout,
        "approval": settings.approval,
    }
    if names.candidate is None:
        since = watched_since(events, names.champion)
        is_automatic = settings.rollout == "automatic" and since is not None and not names.pinned
        until = min(since, now) + settings.rollback_days * DAY_S if is_automatic and since is not None else 0.0
        return facts | {"watched_until": _day(until) if until > now else None}
    offered, shadow = registry.offered_at(events, names.candidate) or now, shadow_use(settings)
    others = control(place, names.candidate, names.champion)
    kept = states.read(place)
    is_begun = kept is not None and kept.candidate == names.candidate
    known = going_on(kept, names.candidate, others, now if is_begun else min(offered, now), shadow)
    shadowed = shadows.read(place, names.candidate, others)
    adapters = (others, names.candidate)
    arms = observed(store, place, names.candidate, adapters, known.since) if store else dict.fromkeys(adapters, _NOBODY)
    found = Arms(champion=arms[others], candidate=arms[names.candidate])
    after, decision = advance(known, found, now, Limits())
    return facts | {
        "stage": known.stage,
        "since": _day(known.since),
        "percent": share_percent(known, names.candidate, settings.canary_percent, shadow),
        "shadow": asdict(seen(shadowed)) if shadowed else None,
        "arms": _numbers(found),
        "verdict": "wait" if known.stage == "shadow" else decision.verdict,
        "reason": known.reason if known.stage == "shadow" else after.reason,
    }


def _numbers(found: Arms) -> dict[str, dict[str, Any]]:
    return {"champion": numbers_of(found.champion), "candidate": numbers_of(found.candidate)}


def numbers_of(arm: Arm) -> dict[str, Any]:
    counts = total(arm)
    return asdict(counts) | {
        "users": len(arm),
        "acceptance": counts.acceptance,
        "kept_per_opportunity": counts.kept_per_opportunity,
        "p95_ms": p95_ms(arm),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    champion = facts["champion"] or "the base model"
    if facts["candidate"] is None:
        watched = facts["watched_until"]
        undone = f"; rolled back if users are worse off, until {watched}" if watched else ""
        return [f"  {champion} is everybody's{undone}"]
    share = f"{facts['percent']:g} % of the users since {facts['since']} ({facts['stage']})"
    return [
        f"  {facts['candidate']} is tried by {share}",
        *(f"  {line}" for line in _in_shadow(facts.get("shadow"))),
        *(f"  {line}" for line in table_of(facts["arms"])),
        f"  {facts['reason']}",
        f"  {_who(facts)}",
    ]


def _in_shadow(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return []
    lines = [f"in the shadow: {found['places']:,} places, failed at {found['failed']:,}"]
    if found["agreement"] is not None:
        lines[0] += f"; the same first line at {found['agreement']:.0%}"
    if found["champion_ms"] and found["candidate_ms"]:
        lines[0] += f"; {found['champion_ms']:.1f} → {found['candidate_ms']:.1f} ms a token"
    if found["written"]:
        change = "" if found["bits_per_byte"] is None else f", {found['bits_per_byte']:+.3f} bits per byte"
        right = f"{found['champion_right']:.0%} → {found['candidate_right']:.0%} right"
        lines.append(f"of {found['written']:,} lines that people wrote there: {right}{change}")
    return lines


def _who(facts: dict[str, Any]) -> str:
    said = "" if facts["verdict"] == "wait" else f"; what users did says {facts['verdict']}"
    if facts["decides"] == "automatic" and facts["approval"] == "manual":
        return f"the server ends it where users are worse off; a person approves it (homespun adapters approve){said}"
    if facts["stage"] == "shadow":
        return "the server decides when users try it; or: homespun adapters approve, reject"
    if not facts["percent"]:
        return "nobody tries it: set canary_percent; or decide: homespun adapters approve, reject"
    if facts["decides"] == "automatic":
        return "the server decides; to end it: homespun adapters rollout REPO --abort, or approve"
    return f"a person decides (homespun adapters approve, reject){said}"


def table_of(numbers: dict[str, dict[str, Any]]) -> list[str]:
    rows = [("", "users", "completions", "accepted", "of those shown", "kept per completion", "95th percentile")]
    for name, arm in numbers.items():
        late = "" if arm["p95_ms"] is None else f"{arm['p95_ms']:.0f} ms"
        counts = (f"{arm['users']:,}", f"{arm['opportunities']:,}", f"{arm['accepted']:,}")
        rows.append((name, *counts, f"{arm['acceptance']:.0%}", f"{arm['kept_per_opportunity']:.2f}", late))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))

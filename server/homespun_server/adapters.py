"""`homespun adapters`: what was trained, what became of it, and the decisions that are a person's."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homespun_core import registry, storage
from homespun_core.aliases import Aliases
from homespun_core.config import ADAPTERS
from homespun_core.errors import ConfigError, StorageError
from homespun_core.estimates import spelled
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir, hide_credentials, repo_id, repo_identity_on_disk
from homespun_core.registry import Event
from homespun_core.repositories import nearest
from homespun_core.scopes import scope_id
from homespun_server.rollout import showing

_EPILOG = """\
Each training run leaves a version. The champion is live; the candidate passed the gate and waits for a person; the
previous one is what a rollback goes back to. Others stay until newer ones push them out.

examples:
  homespun adapters list                      all repositories and versions
  homespun adapters show shop champion        its model card: made of what, how good, why it went live
  homespun adapters rollback shop --why "…"   the one before is live within a second
  homespun adapters promote shop 20261128-1   by the beginning of its name
  homespun adapters pin shop                  nothing replaces the champion, new ones wait as candidates
  homespun adapters rollout shop              who gets the candidate, and how they do with it
  homespun adapters approve shop 20261128-1   the candidate, unless a newer one has taken its place
  homespun train … --approval manual          the gate's yes makes a candidate: approve or reject it

REPO is a path, a URL, or a name as `list` shows it; VERSION a name, its beginning, or champion, candidate, previous,
newest. A running server follows each change by itself.
"""
REPORT_PAGE = "report.html"
_RECENT = 5
_ABOUT_THE_CANDIDATE = ("approve", "reject")
_ALIASES = ("champion", "candidate", "previous", "newest")

Change = Callable[[Path, argparse.Namespace, str, str], Aliases]

_CHANGES: dict[str, tuple[str, Change]] = {
    "promote": (
        "make VERSION the champion",
        lambda place, args, by, why: registry.promote(place, resolve(place, args.version), by=by, why=why),
    ),
    "rollback": (
        "go back to the champion before (to the base model if there was none)",
        lambda place, args, by, why: registry.rollback(place, by=by, why=why),
    ),
    "approve": (
        "make the candidate the champion",
        lambda place, args, by, why: registry.approve(place, by=by, why=why, only=_meant(place, args.version)),
    ),
    "reject": (
        "turn the candidate down",
        lambda place, args, by, why: registry.reject(place, by=by, why=why, only=_meant(place, args.version)),
    ),
    "pin": (
        "let nothing replace the champion",
        lambda place, args, by, why: registry.pin(place, by=by, why=why),
    ),
    "unpin": (
        "end that",
        lambda place, args, by, why: registry.unpin(place, by=by, why=why),
    ),
    "retire": (
        "take VERSION out of service and delete it, pinned or not",
        lambda place, args, by, why: registry.retire(place, [resolve(place, args.version)], by=by, why=why),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    listing = _action(actions, "list", "all versions, with the last changes")
    listing.add_argument("repository", nargs="?", metavar="REPO", help="this one only")
    show = _action(actions, "show", "the model card and history of one version")
    _add_place(show, has_version=True)
    for name, (help, _) in _CHANGES.items():
        action = _action(actions, name, help)
        _add_place(action, has_version=name in ("promote", "retire"))
        if name in _ABOUT_THE_CANDIDATE:
            _add_meant(action)
        action.add_argument("--why", default="", metavar="TEXT", help="kept in the history")
    rollout = _action(actions, "rollout", "how far the candidate has come with users, and what a verdict waits for")
    rollout.add_argument("repository", nargs="?", metavar="REPO", help="this one only")
    _add_meant(rollout)
    rollout.add_argument("--abort", action="store_true", help="reject the candidate: nobody gets it from now on")
    prune = _action(actions, "prune", "delete the oldest versions; never one with a name, or below another")
    _add_place(prune, has_version=False)
    prune.add_argument(
        "--keep",
        type=_count,
        default=registry.KEEP,
        metavar="N",
        help=f"other versions left (default: {registry.KEEP})",
    )


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    data = DataDir(loaded.settings.data_root)
    configured = {repo.name: repo_id(repo.source) for repo in loaded.repositories if repo.name}
    repo = find_repository(data, args.repository, configured) if args.repository is not None else None
    if args.action == "list":
        state = {name: describe(data.adapters(name)) for name in ([repo] if repo else repositories(data))}
        print(json.dumps(state, indent=1) if args.json else render(state))
        return 0
    if args.action == "rollout" and not args.abort:
        if args.version is not None:
            raise ConfigError(f"{args.version}: a version is only for --abort; see: homespun adapters rollout --help")
        found = showing.describe(data, [repo] if repo else repositories(data), loaded.settings)
        print(json.dumps(found, indent=1) if args.json else showing.render(found))
        return 0
    if repo is None and args.action == "rollout":
        raise ConfigError("--abort: say whose rollout; see: homespun adapters rollout")
    assert repo is not None  # argparse insists on it for the other actions
    place = data.adapters(repo)
    if args.action == "show":
        print(_shown(place, resolve(place, args.version), as_json=args.json))
    elif args.action == "prune":
        gone = registry.prune(place, args.keep, on_top_of=loaded.settings.on_top_of)
        print(json.dumps({"deleted": gone}) if args.json else f"{repo}: deleted {', '.join(gone) or 'nothing'}")
    else:
        now = _changed(place, args)
        print(json.dumps(_names(now)) if args.json else f"{repo}: {said(now)}")
    return 0


def _changed(place: Path, args: argparse.Namespace) -> Aliases:
    if args.action == "rollout":
        meant = _meant(place, args.version)
        return registry.reject(place, by=registry.whoami(), why="the rollout was aborted", only=meant)
    _, change = _CHANGES[args.action]
    return change(place, args, registry.whoami(), args.why)


def repositories(data: DataDir) -> list[str]:
    """Those with at least one version."""
    root = data.all_adapters
    return sorted(p.name for p in root.iterdir() if registry.versions(p)) if root.is_dir() else []


def find_repository(data: DataDir, word: str, configured: dict[str, str]) -> str:
    """The folder a person means by a path, URL, configured name, name in a listing or the readable part of that."""
    known = repositories(data)
    short = [name for name in known if name.rpartition("-")[0] == word]
    meant: tuple[str, ...] = (
        word,
        configured.get(word, ""),
        scope_id(word),
        *(short if len(short) == 1 else ()),
        repo_id(repo_identity_on_disk(word)),
    )
    for name in meant:
        if name in known:
            return name
    shown = hide_credentials(word)
    if len(short) > 1:
        raise ConfigError(f"{shown}: several repositories are called that; say which: {', '.join(short)}")
    if not known:
        raise ConfigError(f"{shown}: no adapter was trained yet in {data.root}; start with: homespun train REPO")
    raise ConfigError(f"{shown}: no adapter was trained for it{nearest(shown, known, 'repositories with adapters')}")


def resolve(place: Path, word: str) -> str:
    """The version a person means by its name, the beginning of it, or an alias."""
    known = registry.versions(place)
    if not word:  # every name begins with it: `retire shop "$V"` would delete the only version
        raise ConfigError("VERSION is empty; see: homespun adapters list")
    if word in _ALIASES:
        found = known[-1] if word == "newest" else getattr(registry.aliases(place), word)
        if found is None:
            raise ConfigError(f"{word}: {place.name} has none; see: homespun adapters list {place.name}")
        return str(found)
    fitting = [word] if word in known else [version for version in known if version.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{word}: several versions begin with that: {', '.join(fitting)}")
    raise ConfigError(f"{word}: no such version of {place.name}{nearest(word, [*known, *_ALIASES], 'versions')}")


def _meant(place: Path, word: str | None) -> str | None:
    """Which candidate a decision is about; None is whichever there is."""
    return None if word is None else resolve(place, word)


def describe(place: Path) -> dict[str, Any]:
    """A repository's adapters as JSON values; a damaged part is described, not raised."""
    try:
        now = registry.aliases(place)
    except StorageError as error:
        return {"error": str(error), "versions": [], "history": []}
    return {
        **_names(now),
        "versions": [_version(place / version, now) for version in reversed(registry.versions(place))],
        "history": [asdict(event) for event in registry.history(place)],
    }


def render(state: dict[str, dict[str, Any]]) -> str:
    if not state:
        return "no adapters yet; train one with: homespun train REPO"
    return "\n\n".join("\n".join([repo, *_repository_lines(facts)]) for repo, facts in state.items())


def said(now: Aliases) -> str:
    parts = [f"{now.champion} is live" if now.champion else "no adapter is live, completions come from the base model"]
    parts += ["pinned"] if now.pinned else []
    parts += [f"candidate {now.candidate}"] if now.candidate else []
    parts += [f"a rollback goes to {now.previous}"] if now.previous else []
    return "; ".join(parts)


def _repository_lines(facts: dict[str, Any]) -> list[str]:
    if "error" in facts:
        return [f"  {facts['error']}"]
    rows = [("version", "", "made", "exact match, gain", "bits per byte", "gate")]
    rows += [_row(version) for version in facts["versions"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    recent = [_event_line(event) for event in facts["history"][-_RECENT:]]
    return [f"  {line}".rstrip() for line in [*table, *([""] if recent else []), *recent]]


def _row(version: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    name, names = str(version["version"]), ", ".join(version["aliases"])
    if "error" in version:
        return (name, names, "", "", "", str(version["error"]))
    gate = {True: "passed", False: "turned down", None: ""}[version["promote"]]
    gains = (
        _gain(version["gain"].get(key), form) for key, form in (("exact_match", "+.1%"), ("bits_per_byte", "+.3f"))
    )
    return (version["version"], names, version["created"], *gains, gate)


def _gain(estimate: dict[str, float | None] | None, form: str) -> str:
    return spelled(estimate, form) if estimate else ""


def _version(path: Path, now: Aliases) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": path.name, "aliases": list(now.names_of(path.name))}
    try:
        manifest = storage.read_manifest(path, registry.ADAPTER_KIND, registry.ADAPTER_FORMAT)
        report = registry.read_report(path)
    except StorageError as error:
        return facts | {"error": str(error)}
    deciding = report.get("deciding") or f"adapter+retrieval - {report.get('control')}"
    return facts | {
        "created": manifest.created,
        "base_model": manifest.sources.get("base_model"),
        "promote": report.get("promote"),
        "reasons": report.get("reasons", []),
        "gain": report.get("differences", {}).get(deciding, {}),
    }


def _names(now: Aliases) -> dict[str, Any]:
    return {
        "champion": now.champion,
        "candidate": now.candidate,
        "previous": now.previous,
        "pinned": now.pinned,
        "rejected": sorted(now.rejected),
    }


def _shown(place: Path, version: str, *, as_json: bool) -> str:
    now, events = registry.aliases(place), [e for e in registry.history(place) if e.version == version]
    if as_json:
        facts = _version(place / version, now) | {"history": [asdict(event) for event in events]}
        return json.dumps(facts | {"report": registry.read_report(place / version)}, indent=1)
    parts = [registry.model_card_of(place / version), "## Now\n", ", ".join(now.names_of(version)) or "no alias"]
    page = place / version / REPORT_PAGE
    parts += ["\n## Evaluation as a page\n", str(page)] if page.is_file() else []
    parts += ["\n## History\n", *(_event_line(asdict(event)) for event in events)] if events else []
    return "\n".join(parts)


def _event_line(event: dict[str, Any]) -> str:
    """One line, whatever somebody wrote as the reason."""
    why = f" ({' '.join(Event(**event).why.split())})" if event["why"] else ""
    return f"{event['time']}  {event['by']}: {event['what']} {event['version'] or ''}{why}"


def _action(actions: Any, name: str, help: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    action.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(action, (ADAPTERS,))
    return action


def _add_place(action: argparse.ArgumentParser, *, has_version: bool) -> None:
    action.add_argument("repository", metavar="REPO", help="path, URL, or name as `homespun adapters list` shows it")
    if has_version:
        action.add_argument(
            "version", metavar="VERSION", help="name, its beginning, or champion, candidate, previous, newest"
        )


def _add_meant(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "version",
        nargs="?",
        metavar="VERSION",
        help="the candidate that is meant: refused if another one has taken its place (default: whichever it is)",
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number

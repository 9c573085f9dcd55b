"""`homespun status`: what is indexed, trained and running, read from the data directory and the running server."""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from homespun_core import registry, retraining, storage
from homespun_core.config import SERVE
from homespun_core.errors import ConfigError, StorageError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import DataDir, hide_credentials, repo_id, repo_identity_on_disk
from homespun_core.repositories import nearest
from homespun_core.scopes import is_scope
from homespun_server.console import words
from homespun_server.disk import disk_bytes
from homespun_server.rollout import state as rollout_state

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks the server on this machine, past any proxy the environment names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository", nargs="?", metavar="REPO", help="this one only, with languages, disk and what stayed out"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(parser, (SERVE,))


def run(args: argparse.Namespace) -> int:
    data = DataDir(settings_from_args(args).settings.data_root)
    state = collect(data)
    if args.repository is not None:
        name = _meant(list(state["repositories"]), args.repository)
        state["repositories"] = {name: state["repositories"][name] | {"disk": disk_bytes(data, name)}}
    print(json.dumps(state, indent=1) if args.json else render(state))
    return 0


def _meant(known: list[str], word: str) -> str:
    """By the name in a listing, the readable part of it, a path or a URL. Raises ConfigError."""
    ids = {word, repo_id(repo_identity_on_disk(word))}
    found = [name for name in known if name in ids] or [name for name in known if name.rpartition("-")[0] == word]
    if len(found) > 1:
        raise ConfigError(f"{word}: several are called that; say which: {', '.join(found)}")
    if not found:
        raise ConfigError(f"{hide_credentials(word)}: is not known here{nearest(word, known, 'repositories')}")
    return found[0]


def collect(data: DataDir) -> dict[str, Any]:
    """The state as JSON values; a damaged part is described, not raised."""
    names = {
        p.name
        for kind in (data.index_root, data.root / "adapters", data.root / "runs")
        if kind.is_dir()
        for p in kind.iterdir()
    }
    return {
        "data_dir": str(data.root),
        "server": _server(data),
        "repositories": {name: _repository(data, name) for name in sorted(names)},
    }


def _repository(data: DataDir, repo: str) -> dict[str, Any]:
    return {
        "index": _index(data.index(repo)),
        "adapter": _adapter(data.adapters(repo)),
        "shared": _shared_by(data.adapters(repo)) if is_scope(repo) else None,
        "training": "unfinished; `homespun train` goes on with it" if _has_files(data.training_run(repo)) else None,
        "retraining": retraining.read_ledger(data.retraining(repo)).decision or None,
        "fresh_code": _fresh_code(data.retraining(repo)),
        "reception": _reception(data.retraining(repo), data.adapters(repo)),
    }


def _fresh_code(folder: Path) -> dict[str, Any] | None:
    """How the live adapter did on it when that was measured last."""
    scores = retraining.read_scores(folder)
    if not scores:
        return None
    last = scores[-1]
    return {
        "adapter": last.adapter,
        "bits_per_byte": round(last.bits_per_byte, 4),
        "drift_percent": None if last.drift_percent is None else round(last.drift_percent, 1),
        "alarm": last.is_alarm,
    }


def _reception(folder: Path, adapters: Path) -> dict[str, Any] | None:
    """Of the live adapter, where people accept less than before."""
    live = storage.current(adapters)
    found = retraining.fall(retraining.read_receptions(folder), live.name if live else None, time.time())
    if found is None:
        return None
    return {"adapter": found.adapter, "accepted": round(found.lately, 4), "accepted_before": round(found.before, 4)}


def _index(path: Path) -> dict[str, Any] | None:
    snapshot = storage.current(path) if path.is_dir() else None
    if snapshot is None:
        return None
    try:
        manifest = json.loads((snapshot / storage.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"error": f"{snapshot}: {error}"}
    return {"built": manifest["created"], **manifest["sources"], **manifest["info"]}


def _adapter(path: Path) -> dict[str, Any] | None:
    try:
        newest = registry.newest(path)
        live = registry.live(path) if newest else None
        names = registry.aliases(path)
    except StorageError as error:
        return {"error": str(error)}
    if newest is None:
        return None
    return {
        "live": live.version if live else None,
        "newest": newest.version,
        "promoted": newest.report.get("promote"),
        "reasons": newest.report.get("reasons", []),
        "candidate": names.candidate,
        "rollout": _rollout(path, names.candidate),
        "pinned": names.pinned,
        "rejected": newest.version in names.rejected,
    }


def _rollout(path: Path, candidate: str | None) -> str | None:
    """Its stage, where the server decides about the candidate."""
    state = rollout_state.read(path)
    return state.stage if state is not None and state.candidate == candidate else None


def _shared_by(path: Path) -> list[str] | None:
    """Ids of the repositories that the live one was trained on."""
    try:
        live = registry.live(path)
    except StorageError:  # `adapter` says it
        return None
    return sorted(live.repositories) if live else None


def _has_files(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _server(data: DataDir) -> dict[str, Any] | None:
    try:
        url = str(json.loads(data.server_state.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError):
        return None
    try:
        with DIRECT.open(f"{url}/readyz", timeout=2) as response:
            return {"url": url, "answers": True, **json.load(response)}
    except urllib.error.HTTPError as error:
        return {"url": url, "answers": True, "status": error.code}
    except (OSError, ValueError):
        return {"url": url, "answers": False}


def render(state: dict[str, Any]) -> str:
    server = state["server"]
    lines = [f"data directory  {state['data_dir']}", f"server          {_server_line(server)}"]
    lines += [f"  problem: {problem}" for problem in (server or {}).get("problems", ())]
    lines += [
        f"  keeps: {r['kept_completions']:,} completions of {r['repository']} with their prompts (keep_completions)"
        for r in (server or {}).get("repositories", ())
        if "kept_completions" in r
    ]
    if not state["repositories"]:
        lines.append("repositories    none yet; start with: homespun up REPO")
    for name, repo in state["repositories"].items():
        lines += [
            "",
            name,
            *([f"  index     {_index_line(repo['index'])}"] if not is_scope(name) else []),
            f"  adapter   {_adapter_line(repo['adapter'])}",
        ]
        if repo["shared"]:
            lines.append(f"  shared    {', '.join(repo['shared'])} get it, unless they have their own")
        if repo["training"]:
            lines.append(f"  training  {repo['training']}")
        if repo["retraining"]:
            lines.append(f"  next      {repo['retraining']}")
        if repo["fresh_code"]:
            lines.append(f"  drift     {_drift_line(repo['fresh_code'])}")
        if repo["reception"]:
            lines.append(f"  accepted  {_reception_line(repo['reception'])}")
        lines += _details(repo) if "disk" in repo else []
    return "\n".join(lines)


def _details(repo: dict[str, Any]) -> list[str]:
    index = repo["index"] or {}
    rows = {
        "languages": {name: words.count(number) for name, number in index.get("languages", {}).items()},
        "left out": {why: words.count(number) for why, number in index.get("skipped", {}).items()},
        "disk": {what: words.size(size) for what, size in repo["disk"].items()},
    }
    return [f"  {title:<9} {', '.join(f'{n} {v}' for n, v in row.items())}" for title, row in rows.items() if row]


def _server_line(server: dict[str, Any] | None) -> str:
    if server is None:
        return "not running"
    return server["url"] if server["answers"] else f"{server['url']} (does not answer)"


def _index_line(index: dict[str, Any] | None) -> str:
    if index is None:
        return "none; build it with: homespun index REPO"
    if "error" in index:
        return str(index["error"])
    counts = ", ".join(f"{index[k]:,} {k}" for k in ("files", "chunks") if isinstance(index.get(k), int))
    return f"commit {str(index.get('commit', '?'))[:12]}, {counts}, built {index['built']}"


def _drift_line(fresh: dict[str, Any]) -> str:
    drift = fresh["drift_percent"]
    beside = "" if drift is None else f", {drift:+.1f} % beside when it was judged"
    alarm = "; ALARM, see: homespun retrain --report FILE" if fresh["alarm"] else ""
    return f"fresh code costs {fresh['bits_per_byte']:.3f} bits per byte{beside}{alarm}"


def _reception_line(reception: dict[str, Any]) -> str:
    share = f"{reception['accepted']:.0%} of what is shown, {reception['accepted_before']:.0%} before"
    return f"{share}; ALARM, see: homespun retrain --report FILE"


def _waits(stage: str | None) -> str:
    if stage is None:
        return "waits for approval (homespun adapters approve)"
    return f"is tried by {'half' if stage == 'half' else 'a share'} of the users (homespun adapters rollout)"


def _adapter_line(adapter: dict[str, Any] | None) -> str:
    if adapter is None:
        return "none; train one with: homespun train REPO"
    if "error" in adapter:
        return str(adapter["error"])
    live, newest, candidate = adapter["live"], adapter["newest"], adapter["candidate"]
    parts = [f"{live} is live{' and pinned' if adapter['pinned'] else ''}"] if live else []
    if candidate:
        parts.insert(0, f"{candidate} {_waits(adapter['rollout'])}")
    if adapter["rejected"]:
        parts.insert(0, f"{newest} was rejected (homespun adapters list)")
    elif not adapter["promoted"] and newest != live:
        parts.insert(0, f"{newest} was turned down: {'; '.join(adapter['reasons'])}")
    return "; ".join(parts) or f"{newest} is not live (homespun adapters list)"

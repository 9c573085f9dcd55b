"""`homespun jobs`: the server's queue from the command line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args

from homespun_core.config import JOBS
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.paths import is_remote, repo_identity_on_disk
from homespun_server.jobs.client import AdminClient
from homespun_server.jobs.following import overlap
from homespun_server.jobs.states import WORKER_KINDS, State

_EPILOG = """\
A job waits (queued), runs on a worker, and is done, failed, cancelled, or poisoned: given up after three tries. One
about a repository waits and one runs at most; asking again means the newest commit.

examples:
  homespun jobs list                     what waits, runs and has ended, and who works
  homespun jobs add index shop           by a name, path or URL; `train` and `evaluate` too
  homespun jobs show 17                  all that is known of one
  homespun jobs log 17 --follow          what its worker prints, until it ends
  homespun jobs cancel 17                also while it runs: training keeps its checkpoint
  homespun jobs retry 17                 after it failed, was cancelled or poisoned

The server is asked: --server-url says where it is, HOMESPUN_API_TOKEN who you are.
"""
_LOOK_S = 1.0
_OPEN = ("queued", "running")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    listing = _action(actions, "list", "jobs, newest first")
    listing.add_argument("--state", choices=get_args(State), help="these only")
    listing.add_argument("--kind", choices=WORKER_KINDS, help="these only")
    listing.add_argument("--repository", metavar="REPO", help="of this one only, by the id that `list` shows")
    listing.add_argument("--limit", type=int, default=30, metavar="N", help="at most (default: 30)")
    add = _action(actions, "add", "ask for a job")
    add.add_argument("kind", choices=WORKER_KINDS)
    add.add_argument("repository", metavar="REPO", help="id, configured name, path or URL")
    add.add_argument("--commit", metavar="ID", help="train on what this commit holds (default: the newest)")
    add.add_argument("--priority", type=int, default=0, metavar="N", help="higher ones first (default: 0)")
    log = _action(actions, "log", "the end of what its worker printed")
    log.add_argument("--follow", action="store_true", help="go on until the job has ended")
    for name, help in (
        ("show", "all that is known of a job; the loss too, while it trains"),
        ("cancel", "take it out of the queue, or stop it"),
        ("retry", "try again what failed, was cancelled or poisoned"),
    ):
        _action(actions, name, help)
    for name in ("show", "log", "cancel", "retry"):
        actions.choices[name].add_argument("id", type=int, metavar="ID", help="as `list` shows it")


def _action(actions: Any, name: str, help: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help, description=help.capitalize() + ".")
    action.add_argument("--json", action="store_true", help="for programs")
    add_flags(action, (JOBS,))
    return action


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    client = AdminClient(settings.server_url, settings.api_token)
    if args.action == "list":
        found = client.jobs(state=args.state, kind=args.kind, repository=args.repository, limit=args.limit)
        print(json.dumps(found, indent=1) if args.json else render(found, time.time()))
    elif args.action == "log":
        _log(client, args.id, follow=args.follow)
    else:
        job = _changed(client, args)
        print(json.dumps(job, indent=1) if args.json or args.action == "show" else said(job))
    client.close()
    return 0


def _changed(client: AdminClient, args: argparse.Namespace) -> dict[str, Any]:
    if args.action == "add":
        return client.add(args.kind, _absolute(args.repository), args.commit, args.priority)
    if args.action == "show":
        return client.job(args.id)
    return client.change(args.id, args.action)


def _absolute(word: str) -> str:
    """A path means the same to the server as here; names stay names."""
    is_path = not is_remote(word) and ("/" in word or word in (".", ".."))
    return repo_identity_on_disk(word) if is_path else word


def _log(client: AdminClient, id: int, *, follow: bool) -> None:
    shown = ""
    while True:
        is_open = client.job(id)["state"] in _OPEN
        log = client.log(id)
        print(log[overlap(shown, log) :], end="", flush=True)
        shown = log
        if not follow or not is_open:
            return
        time.sleep(_LOOK_S)


def render(found: Mapping[str, Any], now: float) -> str:
    jobs, workers = found["jobs"], found["workers"]
    rows = [_row(job, now) for job in jobs]
    widths = [max(len(row[n]) for row in rows) for n in range(5)] if rows else []
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]).rstrip() for row in rows]
    names = ", ".join(f"{worker['name']} ({', '.join(worker['kinds'])})" for worker in workers)
    return "\n".join([*(lines or ["no jobs"]), f"workers: {names or 'none; start one with homespun worker'}"])


def _row(job: Mapping[str, Any], now: float) -> tuple[str, ...]:
    at = job["ended"] or job["started"] or job["created"]
    return (str(job["id"]), job["state"], job["kind"], job["repository"], _when(at), _what(job, now))


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%m-%d %H:%M")


def _what(job: Mapping[str, Any], now: float) -> str:
    if job["state"] == "queued" and job["not_before"] > now + 1:
        return f"again in {job['not_before'] - now:.0f} s: {job['reason']}"
    if job["state"] != "running":
        return str(job["reason"])
    if job["is_unwanted"]:
        return "is being stopped"
    left = "" if job["eta_s"] is None else f", about {job['eta_s']:.0f} s left in this step"
    return f"{job['words'] or 'begins'}{left} ({job['worker']})"


def said(job: Mapping[str, Any]) -> str:
    what = "is being stopped" if job["is_unwanted"] else f"is {job['state']}"
    return f"job {job['id']}: {job['kind']} of {job['repository']} {what}"

"""`homespun audit`: who changed what about people and rights."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection

from homespun_core.errors import ConfigError, StorageError
from homespun_server.access import audit, heads, reading
from homespun_server.access.audit import Entry
from homespun_server.access.cli import opened
from homespun_server.access.cli.opened import Desk, actions_of, add_action, day, minute, table

_NEWEST = 50
_EPILOG = """\
Entries can be added and nothing else: triggers in the database refuse to change or delete one, and each holds the
digest of the one before. Somebody with full rights on the database could still take entries off the end; to be able to
tell, the server notes the newest one's digest every ten seconds: in audit.heads in its data directory, and in its log,
which you may collect on another machine. `verify` looks at the former by itself, at the latter with --heads.

examples:
  homespun audit list --newest 20
  homespun audit verify                     says how many there are, and the head's digest
  homespun audit verify --noted 9f2c…       is what was noted then still there?
  homespun audit verify --heads server.log  is what the server logged (log_format = "json")?
  homespun audit head                       to be noted by hand
  homespun audit export > audit.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = actions_of(parser, _EPILOG)
    listing = add_action(actions, "list", "the newest entries", _list)
    listing.add_argument("--newest", type=int, default=_NEWEST, metavar="N", help=f"so many (default: {_NEWEST})")
    verify = add_action(actions, "verify", "check the chain from the first entry on", _verify)
    verify.add_argument("--noted", metavar="DIGEST", help="of an entry that must be there")
    help = "lines of JSON that the server logged or wrote (default: audit.heads in the data directory)"
    verify.add_argument("--heads", type=Path, metavar="FILE", help=help)
    add_action(actions, "head", "number and digest of the newest entry, to be noted elsewhere", _head)
    export = add_action(actions, "export", "all entries as JSON lines", _export)
    export.add_argument("--after", type=int, default=0, metavar="NUMBER", help="those after this one")


run = opened.run


def _list(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        found = list(audit.entries(connection, newest=max(0, args.newest)))
        names = _names(connection)
    rows = [_row(entry, names) for entry in found]
    text = table([("", "time (UTC)", "who", "from", "", "what", "object", ""), *rows]) if rows else "no entries"
    return desk.say([entry.as_json() for entry in found], text)


def _verify(desk: Desk, args: argparse.Namespace) -> int:
    file = args.heads or heads.heads_file(desk.data)
    if args.heads is not None and not file.exists():
        raise ConfigError(f"{file}: no such file; give one with lines of JSON of a server's log, or leave --heads out")
    noted = heads.read(file)
    with desk.reading() as connection:
        found = audit.verify(connection, args.noted, noted)
    if found.problem:
        where = f"; noted in {file} (move it away if an older database was restored)" if noted else ""
        raise StorageError(f"audit log: {found.problem}; {found.entries} entries are as they were written{where}")
    if not found.has_noted:
        raise StorageError(f"audit log: no entry has the digest {args.noted}; some were taken off the end")
    held = f", held against {len(noted)} noted heads" if noted else ""
    text = f"{found.entries} entries, none changed or missing{held}; the head is {found.head}"
    return desk.say(asdict(found) | {"noted_heads": len(noted)}, text)


def _head(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        newest = next(audit.entries(connection, newest=1), None)
    if newest is None:
        return desk.say({}, "no entries")
    return desk.say({"audit_entry": newest.number, "audit_digest": newest.digest}, f"{newest.number} {newest.digest}")


def _export(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        for entry in audit.entries(connection, args.after):
            print(json.dumps(entry.as_json(), ensure_ascii=False, sort_keys=True))
    return 0


def _row(e: Entry, names: dict[str, str]) -> tuple[str, ...]:
    who, when = names.get(e.actor, e.actor), minute(e.time_ms / 1e3)
    return (str(e.number), when, who, e.origin, e.decision, e.action, _named(e.object, names), _told(e.details, names))


def _names(connection: Connection) -> dict[str, str]:
    return {user.id: user.name for user in reading.all_users(connection)}


def _named(object: str, names: dict[str, str]) -> str:
    kind, _, id = object.partition(":")
    return f"{kind}:{names.get(id, id)}"


def _told(details: str, names: dict[str, str]) -> str:
    told = {key: value for key, value in json.loads(details).items() if value}
    if "expires" in told:
        told["expires"] = day(told["expires"])
    return ", ".join(f"{key} {names.get(str(value), value)}" for key, value in told.items())

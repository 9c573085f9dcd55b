"""`homespun user`: who has an account, and what they are."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from homespun_core.cli import is_confirmed
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir
from homespun_core.personal import take_back
from homespun_server.access import leavers, reading
from homespun_server.access.changing import ROLES
from homespun_server.access.cli import opened
from homespun_server.access.cli.opened import Desk, actions_of, add_action, day, table, the_team, the_user
from homespun_server.access.personal import erased, exported
from homespun_server.access.records import User

_EPILOG = """\
The first account ends the time when nobody was asked: from then on every request needs a token, and a repository can be
read by admins, by the teams that `groups` of its [[repository]] table name, and by whom it is granted.

roles:
  developer    completes, with the repositories that they may read
  repo-admin   and manages those repositories and their adapters
  auditor      reads the audit log, usage and metrics; no code
  admin        everything

examples:
  homespun user add ada --role admin          then: homespun token create ada
  homespun user add bob --team shop-developers
  homespun user deactivate bob                his tokens end within seconds, for good
  homespun user export bob                    all that is known of him, as JSON
  homespun user erase bob                     and nothing of that stays; the audit log knows a number
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = actions_of(parser, _EPILOG)
    add = add_action(actions, "add", "make an account", _add)
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", choices=ROLES, default="developer", help="(default: developer)")
    add.add_argument("--email", metavar="ADDRESS")
    add.add_argument("--team", action="append", default=[], metavar="TEAM", help="may be given several times")
    add_action(actions, "list", "everybody", _list)
    for name, help, run in (
        ("show", "one of them, with teams, tokens and grants", _show),
        ("deactivate", "let them do nothing any more, and revoke their tokens", _deactivate),
        ("activate", "undo that; they need new tokens", _activate),
        ("export", "all that is known of them, as JSON", _export),
    ):
        add_action(actions, name, help, run).add_argument("name", metavar="NAME")
    role = add_action(actions, "role", "make somebody a developer, repo-admin, auditor or admin", _role)
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=ROLES)
    email = add_action(actions, "email", "set the e-mail address that their commits are found by", _email)
    email.add_argument("name", metavar="NAME")
    email.add_argument("address", nargs="?", metavar="ADDRESS", help="none: what is there is deleted")
    erase = add_action(actions, "erase", "delete all that is known of them, feedback included", _erase)
    erase.add_argument("name", metavar="NAME")
    erase.add_argument("--yes", action="store_true", help="don't ask")


run = opened.run


def _add(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        is_first = not reading.has_accounts(change.connection)
        user = change.add_user(args.name, role=args.role, email=args.email)
        for word in args.team:
            change.add_member(the_team(change.connection, word), user)
    first = "; from now on every request needs a token" if is_first else ""
    return desk.say(
        asdict(user),
        f"{user.name} has an account as {user.role}{first}; give them one: homespun token create {user.name}",
    )


def _list(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        users, teams = reading.all_users(connection), reading.all_teams(connection)
    of = {user.name: [team.name for team in teams if user.name in team.members] for user in users}
    rows = [
        (u.name, u.role, "active" if u.active else "deactivated", day(u.created), ", ".join(of[u.name])) for u in users
    ]
    empty = "nobody has an account; whoever reaches this server on loopback may do everything"
    text = table([("name", "role", "", "since", "teams"), *rows]) if users else empty
    return desk.say([asdict(user) | {"teams": of[user.name]} for user in users], text)


def _show(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        user = the_user(connection, args.name)
        person, tokens = reading.person(connection, user.id), reading.all_tokens(connection, user.id)
    assert person is not None
    lines = [
        f"{user.name}: {user.role}, {'active' if user.active else 'deactivated'}, since {day(user.created)}, {user.id}",
        *([f"e-mail  {user.email}"] if user.email else []),
        f"teams   {', '.join(sorted(person.teams)) or 'none'}",
        *(f"grant   {g.pattern} to {g.subject} ({g.source})" for g in person.grants),
        *(f"token   {t.id} {t.name}{' (revoked)' if t.revoked else ''}" for t in tokens),
    ]
    return desk.say(asdict(person) | {"tokens": [asdict(token) for token in tokens]}, "\n".join(lines))


def _role(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        change.set_role(user := the_user(change.connection, args.name), args.role)
    return desk.say({"name": user.name, "role": args.role}, f"{user.name} is {args.role} now")


def _email(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        change.set_email(user := the_user(change.connection, args.name), args.address)
    return desk.say(
        {"name": user.name, "email": args.address}, f"{user.name}: {args.address or 'no e-mail address any more'}"
    )


def _deactivate(desk: Desk, args: argparse.Namespace) -> int:
    user = _set_active(desk, args.name, False)
    return desk.say({"name": user.name, "active": False}, f"{user.name} is deactivated, and their tokens are revoked")


def _activate(desk: Desk, args: argparse.Namespace) -> int:
    user = _set_active(desk, args.name, True)
    return desk.say(
        {"name": user.name, "active": True}, f"{user.name} is active; a new token: homespun token create {user.name}"
    )


def _set_active(desk: Desk, name: str, active: bool) -> User:
    with desk.changing() as change:
        user = the_user(change.connection, name)
        change.set_active(user, active)
    leavers.take_back(desk.data, desk.engine)  # no server may be running
    return user


def _export(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        facts = exported(connection, the_user(connection, args.name))
    Desk(loaded=desk.loaded, engine=desk.engine, is_json=True).say(facts, "")
    return 0


def _erase(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        user = the_user(connection, args.name)
    if not args.yes and not _is_sure(user.name):
        raise ConfigError("nothing was erased")
    take_back(DataDir(desk.loaded.settings.data_root), user.id)
    with desk.changing() as change:
        number = erased(change, user, desk.data)
    return desk.say(
        {"erased": user.id, "completions": number},
        f"all that was known of {args.name} is erased, {number:,} completions with it; the audit log says {user.id}",
    )


def _is_sure(name: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(f"user {name}: erasing can't be undone; give --yes where nobody can be asked")
    return is_confirmed(f"Erase all that is known of {name}? It can't be undone.")

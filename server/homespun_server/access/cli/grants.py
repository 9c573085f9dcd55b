"""`homespun access`: who may read which repository, and why."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection

from homespun_core.errors import ConfigError
from homespun_core.paths import repo_id, repo_identity_on_disk
from homespun_core.repositories import nearest
from homespun_server.access import reading
from homespun_server.access.cli import opened
from homespun_server.access.cli.opened import Desk, actions_of, add_action, day, table, the_team, the_user
from homespun_server.access.decisions import Guarded, verdict_on
from homespun_server.access.guarding import adapter_groups, on_disk
from homespun_server.access.records import Team, User

_EPILOG = """\
Admins read every repository, auditors none. Anybody else reads those that `groups` of their [[repository]] table open
to a team of theirs, those that are granted to them or to a team, and, with default_access = "everyone", those without
groups.

A repository is named by its name, its id, or a glob of its name or address: 'shop', 'shop-*', 'git.example.com/shop/*'.

examples:
  homespun access grant ada shop
  homespun access grant --team web-developers 'git.example.com/web/*'
  homespun access check ada shop               says why
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = actions_of(parser, _EPILOG)
    for name, help, run in (
        ("grant", "let a user or a team read what a name or glob means", _grant),
        ("revoke", "take that back", _revoke),
    ):
        action = add_action(actions, name, help, run)
        action.add_argument("user", nargs="?", metavar="USER")
        action.add_argument("repository", metavar="REPO")
        action.add_argument("--team", metavar="TEAM", help="instead of a user")
    add_action(actions, "list", "all grants", _list)
    check = add_action(actions, "check", "whether somebody may read a repository, and why", _check)
    check.add_argument("user", metavar="USER")
    check.add_argument("repository", nargs="?", metavar="REPO", help="(default: all there are)")


run = opened.run


def _grant(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        subject = _subject(change.connection, args)
        change.grant(subject, args.repository)
    known = on_disk(desk.data, adapter_groups(desk.loaded.scopes))
    aimed = "" if _meant(known, args.repository) else " (no repository of that name is indexed here yet)"
    facts = {"subject": subject.name, "pattern": args.repository}
    return desk.say(facts, f"{subject.name} may read {args.repository}{aimed}")


def _revoke(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        subject = _subject(change.connection, args)
        if not change.revoke_grants(subject, args.repository):
            raise ConfigError(f"{args.repository}: {subject.name} has no such grant; see: homespun access list")
    facts = {"subject": subject.name, "pattern": args.repository}
    return desk.say(facts, f"the grant of {args.repository} to {subject.name} is revoked")


def _list(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        grants = reading.all_grants(connection)
    rows = [(g.subject, g.pattern, g.source, day(g.created), day(g.expires)) for g in grants]
    text = table([("who", "repository", "said by", "since", "ends"), *rows]) if grants else "no grants"
    return desk.say([asdict(grant) for grant in grants], text)


def _check(desk: Desk, args: argparse.Namespace) -> int:
    """Ends with 1 when one repository was asked about and may not be read."""
    known = on_disk(desk.data, adapter_groups(desk.loaded.scopes))
    asked = _meant(known, args.repository) if args.repository else known
    if not known:
        raise ConfigError("no repository is indexed here yet; start with: homespun index REPO")
    if not asked:
        raise ConfigError(f"{args.repository}: no such repository is indexed here{_nearest(known, args.repository)}")
    with desk.reading() as connection:
        person = reading.person(connection, the_user(connection, args.user).id)
    assert person is not None
    is_open, now = desk.loaded.settings.default_access == "everyone", time.time()
    found = {g.id: verdict_on(person, g, is_open, now) for g in asked}
    lines = [f"{'yes' if v.allowed else 'no '}  {id}: {person.user.name} {v.why}" for id, v in found.items()]
    desk.say({id: asdict(verdict) for id, verdict in found.items()}, "\n".join(lines))
    return 0 if not args.repository or all(verdict.allowed for verdict in found.values()) else 1


def _subject(connection: Connection, args: argparse.Namespace) -> User | Team:
    if (args.user is None) == (args.team is None):
        raise ConfigError("say who: USER REPO, or --team TEAM REPO")
    return the_team(connection, args.team) if args.team else the_user(connection, args.user)


def _meant(known: Sequence[Guarded], word: str) -> Sequence[Guarded]:
    ids = {word, repo_id(repo_identity_on_disk(word))}
    return [g for g in known if g.id in ids or word == g.name or word in g.addresses]


def _nearest(known: Sequence[Guarded], word: str) -> str:
    return nearest(word, [g.name or g.id for g in known], "repositories")

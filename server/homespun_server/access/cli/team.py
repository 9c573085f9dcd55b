"""`homespun team`: groups of users, as `groups` in homespun.toml and the identity provider name them."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from homespun_server.access import reading
from homespun_server.access.cli import opened
from homespun_server.access.cli.opened import Desk, actions_of, add_action, table, the_team, the_user

_EPILOG = """\
A team may read the repositories whose [[repository]] table in homespun.toml names it under `groups`, and what is
granted to it (homespun access grant). Groups of an identity provider become teams of the same name.

examples:
  homespun team add shop-developers
  homespun team join shop-developers ada
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = actions_of(parser, _EPILOG)
    add_action(actions, "add", "make a team", _add).add_argument("team", metavar="TEAM")
    add_action(actions, "list", "all teams and who is in them", _list)
    add_action(actions, "remove", "delete a team, and what was granted to it", _remove).add_argument(
        "team", metavar="TEAM"
    )
    for name, help, run in (("join", "put somebody into it", _join), ("leave", "take somebody out of it", _leave)):
        action = add_action(actions, name, help, run)
        action.add_argument("team", metavar="TEAM")
        action.add_argument("user", metavar="USER")


run = opened.run


def _add(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        team = change.add_team(args.team)
    return desk.say(asdict(team), f"there is a team {team.name}")


def _list(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        teams = reading.all_teams(connection)
    rows = [(team.name, ", ".join(team.members)) for team in teams]
    text = table([("team", "members"), *rows]) if teams else "no teams yet; make one: homespun team add NAME"
    return desk.say([asdict(team) for team in teams], text)


def _remove(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        change.remove_team(team := the_team(change.connection, args.team))
    return desk.say({"removed": team.name}, f"team {team.name} is gone, and what was granted to it")


def _join(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        team, user = the_team(change.connection, args.team), the_user(change.connection, args.user)
        change.add_member(team, user)
    return desk.say({"team": team.name, "user": user.name}, f"{user.name} is in {team.name}")


def _leave(desk: Desk, args: argparse.Namespace) -> int:
    with desk.changing() as change:
        team, user = the_team(change.connection, args.team), the_user(change.connection, args.user)
        change.remove_member(team, user)
    return desk.say({"team": team.name, "user": user.name}, f"{user.name} isn't in {team.name}")

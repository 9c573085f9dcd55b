"""`homespun token`: what editors and scripts show to be let in."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from homespun_core.errors import ConfigError
from homespun_server.access import reading
from homespun_server.access.changing import SCOPES
from homespun_server.access.cli import opened
from homespun_server.access.cli.opened import Desk, actions_of, add_action, day, minute, table, the_user
from homespun_server.access.records import TokenRecord

_DAYS = 90
_DAY_S = 86_400
_EPILOG = """\
A token stands for its user, and may do what its scopes and the user's role both allow. It is printed once; the database
has its digest only. What is revoked ends within seconds.

scopes:
  complete     completions and what became of them (default)
  index:read   the state of repositories, models and metrics
  admin        whatever the user's role may manage: people, repositories, the audit log

examples:
  homespun token create ada                        for her editor: HOMESPUN_API_TOKEN=… or `homespun login`
  homespun token create ada --name ci --scope index:read --days 365
  homespun token list ada
  homespun token revoke 3f2a9c0d1b7e
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = actions_of(parser, _EPILOG)
    create = add_action(actions, "create", "make a token and print it, once", _create)
    create.add_argument("user", metavar="USER")
    create.add_argument("--name", default="token", metavar="TEXT", help="what it is for")
    create.add_argument("--scope", action="append", choices=SCOPES, help="may be given several times")
    lasting = create.add_mutually_exclusive_group()
    lasting.add_argument("--days", type=float, default=_DAYS, metavar="N", help=f"until it ends (default: {_DAYS})")
    lasting.add_argument("--no-expiry", action="store_true", help="it never ends by itself")
    listing = add_action(actions, "list", "tokens, without their secrets", _list)
    listing.add_argument("user", nargs="?", metavar="USER", help="of this one only")
    revoke = add_action(actions, "revoke", "end a token", _revoke)
    revoke.add_argument("id", metavar="ID", help="as in `homespun token list`, or the token itself")


run = opened.run


def _create(desk: Desk, args: argparse.Namespace) -> int:
    if args.days <= 0:
        raise ConfigError(f"--days: {args.days:g} is not above 0; for a token that doesn't end: --no-expiry")
    expires = None if args.no_expiry else time.time() + args.days * _DAY_S
    with desk.changing() as change:
        user = the_user(change.connection, args.user)
        token = change.add_token(user, args.name, scopes=args.scope or ("complete",), expires=expires)
    facts = {"id": token.id, "token": token.text, "user": user.name, "expires": expires}
    until = f"ends on {day(expires)}" if expires else "never ends"
    return desk.say(facts, f"{token.text}\n(of {user.name}, {until}; it isn't shown again)")


def _list(desk: Desk, args: argparse.Namespace) -> int:
    with desk.reading() as connection:
        of = the_user(connection, args.user).id if args.user else None
        tokens = reading.all_tokens(connection, of)
    names = ("id", "user", "name", "scopes", "made", "ends", "last used", "")
    text = table([names, *map(_row, tokens)]) if tokens else "no tokens; make one: homespun token create USER"
    return desk.say([asdict(token) for token in tokens], text)


def _row(t: TokenRecord) -> tuple[str, ...]:
    state = "revoked" if t.revoked else "expired" if t.expires and t.expires < time.time() else ""
    times = (day(t.created), day(t.expires), minute(t.last_used))
    return (t.id, t.user, t.name, ", ".join(sorted(t.scopes)), *times, state)


def _revoke(desk: Desk, args: argparse.Namespace) -> int:
    id = args.id.split("_")[1] if args.id.startswith("homespun_") else args.id
    with desk.changing() as change:
        if not change.revoke_token(id):
            raise ConfigError(f"token {id}: there is none of that id that is still good; see: homespun token list")
    return desk.say({"revoked": id}, f"token {id} is revoked")

"""What the verbs about access share: the database of the settings, and who asks."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from homespun_core import registry
from homespun_core.config import ADAPTERS
from homespun_core.errors import ConfigError, StorageError
from homespun_core.loading import LoadedSettings, add_flags, settings_from_args
from homespun_core.paths import DataDir
from homespun_core.repositories import nearest
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import Change, changing
from homespun_server.access.records import Team, User
from homespun_server.database.opening import open_database

Run = Callable[["Desk", argparse.Namespace], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    loaded: LoadedSettings
    engine: Engine
    is_json: bool

    @property
    def data(self) -> DataDir:
        return DataDir(self.loaded.settings.data_root)

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """Whoever may run this here may do everything: they could as well change the database."""
        with changing(self.engine, Actor(id=f"cli:{registry.whoami()}", origin="cli")) as change:
            yield change

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StorageError(f"the database can't be read ({type(error).__name__}); see database_url") from error

    def say(self, facts: Any, text: str) -> int:
        """The facts as JSON where that was asked for."""
        print(json.dumps(facts, indent=1, default=_plain) if self.is_json else text)
        return 0


def run(args: argparse.Namespace) -> int:
    """Of each of these verbs."""
    loaded = settings_from_args(args)
    engine = open_database(loaded.settings.database_url, DataDir(loaded.settings.data_root).database)
    try:
        action: Run = args.run_action
        return action(Desk(loaded=loaded, engine=engine, is_json=args.json), args)
    finally:
        engine.dispose()


def actions_of(parser: argparse.ArgumentParser, epilog: str) -> Any:
    parser.epilog = epilog
    return parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)


def add_action(actions: Any, name: str, help: str, run: Run) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
    action.add_argument("--json", action="store_true", help="print it as JSON")
    add_flags(action, (ADAPTERS,))
    action.set_defaults(run_action=run)
    return action


def the_user(connection: Connection, word: str) -> User:
    found = reading.user_named(connection, word)
    if found is None or found.erased is not None:
        names = [user.name for user in reading.all_users(connection)]
        meant = nearest(word, names, "users") if names else "; make the first: homespun user add NAME --role admin"
        raise ConfigError(f"user {word}: there is none of that name{meant}")
    return found


def the_team(connection: Connection, word: str) -> Team:
    found = reading.team_named(connection, word)
    if found is None:
        names = [team.name for team in reading.all_teams(connection)]
        meant = nearest(word, names, "teams") if names else "; make the first: homespun team add NAME"
        raise ConfigError(f"team {word}: there is none of that name{meant}")
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row names the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def day(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d", time.gmtime(at))


def minute(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


def _plain(value: object) -> Any:
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(type(value).__name__)

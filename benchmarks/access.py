"""What asking who somebody is costs a request, on a database with people, teams, grants and repositories."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from sqlalchemy import Engine
from starlette.types import Receive, Scope, Send

from homespun_core.config import Settings
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.decisions import Guarded, readable_by
from homespun_server.access.gate import Gate
from homespun_server.access.lookup import Lookup
from homespun_server.database.opening import open_database

_TEAMS, _GRANTS = 20, 5
_BY = Actor(id="benchmark", origin="benchmark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--requests", type=int, default=30_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database("", Path(folder) / "homespun.db")
        asyncio.run(_measure(engine, args.users, _repositories(args.repositories), args.requests))
        engine.dispose()


async def _measure(engine: Engine, users: int, repositories: tuple[Guarded, ...], requests: int) -> None:
    lookup = Lookup(engine, lambda: repositories)
    lookup.start()
    gate = Gate(_nothing, Settings(), lookup, ())
    print(f"{'without accounts':<40}", _said([await _asked(gate, "") for _ in range(requests)]))
    tokens = _people(engine, users)
    lookup.look()
    gate = Gate(_nothing, Settings(requests_per_minute=10**9, user_requests_per_minute=10**9), lookup, ())
    print(f"{'a token for the first time':<40}", _said([await _asked(gate, token) for token in tokens]))
    print(f"{'a token that is known':<40}", _said([await _asked(gate, tokens[n % users]) for n in range(requests)]))
    with engine.connect() as connection:
        user = reading.user_named(connection, "user0")
        person = reading.person(connection, user.id) if user else None
    assert person is not None
    start = time.perf_counter()
    readable_by(person, repositories, False, 0.0)
    print(f"{f'deciding on {len(repositories)} repositories':<40} {(time.perf_counter() - start) * 1e3:.3f} ms")
    lookup.close()


def _repositories(number: int) -> tuple[Guarded, ...]:
    return tuple(
        Guarded(
            id=f"repo{n}-0000",
            name=f"repo{n}",
            addresses=frozenset({f"git.example.com/team{n % _TEAMS}/repo{n}"}),
            groups=frozenset({f"team{n % _TEAMS}"}),
        )
        for n in range(number)
    )


def _people(engine: Engine, number: int) -> list[str]:
    with changing(engine, _BY) as change:
        teams = [change.add_team(f"team{n}") for n in range(_TEAMS)]
        tokens = []
        for n in range(number):
            user = change.add_user(f"user{n}")
            change.add_member(teams[n % _TEAMS], user)
            for other in range(_GRANTS):
                change.grant(user, f"git.example.com/team{other}/*")
            tokens.append(change.add_token(user, "editor").text)
    return tokens


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application."""


async def _receive() -> dict[str, str]:
    return {"type": "http.disconnect"}


async def _send(message: object) -> None:
    raise AssertionError(message)  # nobody is refused


async def _asked(gate: Gate, token: str) -> float:
    """Milliseconds in the gate."""
    headers = [(b"host", b"127.0.0.1:8080"), (b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    start = time.perf_counter()
    await gate(scope, _receive, _send)
    return (time.perf_counter() - start) * 1e3


def _said(times: Sequence[float]) -> str:
    cuts = quantiles(times, n=100)
    return f"median {median(times):.4f} ms, 95th percentile {cuts[94]:.4f}, 99th {cuts[98]:.4f}"


if __name__ == "__main__":
    main()

"""How many completions may be on their way: over real sockets to the real application, and alone."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPResponse
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.types import CLIENT_HEADER, ModelFiles
from homespun_server import connections, lane
from homespun_server.access.principal import LOCAL
from homespun_server.admission import allowance
from homespun_server.app import build_app
from homespun_server.connections import Connection
from homespun_server.engine.protocol import Engine, EngineLoad
from homespun_server.lane import Held, Lane, Places, Turns, places_of, refusal
from homespun_server.routes import completions

COMPLETION = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
BODY = b'{"prompt": "x"}'.ljust(100)


def _no_engine(model: ModelFiles, settings: Settings) -> Engine:
    raise ConfigError("no model in this test")


@pytest.fixture
def address(builtin: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Of a server with one place, which a body that doesn't come holds for as long as a test takes."""
    monkeypatch.setattr(lane, "BODY_S", 60.0)
    monkeypatch.setattr(connections, "BODY_S", 60.0)
    app = build_app(Settings(data_dir=str(tmp_path), max_requests=1), builtin, _no_engine)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http=Connection))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


@contextmanager
def _asking(address: tuple[str, int], sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(sent)
        yield connection


def _answer(connection: socket.socket) -> tuple[HTTPResponse, bytes]:
    response = HTTPResponse(connection)
    response.begin()
    return response, response.read()


def _status(connection: socket.socket) -> int:
    return _answer(connection)[0].status


def _asked(address: tuple[str, int], sent: bytes) -> int:
    with _asking(address, sent) as connection:
        return _status(connection)


def _wait_until_taken(address: tuple[str, int]) -> None:
    while _asked(address, COMPLETION + BODY) != 429:
        pass


def test_one_too_many_is_refused_before_its_body_is_there(address: tuple[str, int]) -> None:
    with _asking(address, COMPLETION):
        _wait_until_taken(address)
        with _asking(address, COMPLETION) as second:
            response, body = _answer(second)
        assert response.status == 429 and response.getheader("Retry-After") == "1"
        assert json.loads(body)["error"]["type"] == "rate_limit_error"


def test_the_connection_of_a_refusal_can_be_used_again(address: tuple[str, int]) -> None:
    with _asking(address, COMPLETION):
        _wait_until_taken(address)
        with _asking(address, COMPLETION + BODY) as second:
            assert _status(second) == 429
            second.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _status(second) == 200


def test_what_is_no_completion_answers_while_the_lane_is_full(address: tuple[str, int]) -> None:
    with _asking(address, COMPLETION):
        _wait_until_taken(address)
        paths = (b"/healthz", b"/metrics", b"/console", b"/v1/models")
        told = {path: _asked(address, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path) for path in paths}
    # There is no engine in this test, and so no model to name.
    assert told == {b"/healthz": 200, b"/metrics": 200, b"/console": 200, b"/v1/models": 503}


def test_who_holds_a_place_and_sends_nothing_loses_it(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BODY_S", 0.2)
    with _asking(address, COMPLETION) as stalled:
        assert _status(stalled) == 408
        assert _asked(address, COMPLETION + BODY) == 503  # the place is free; there is no engine in this test


def test_who_hangs_up_leaves_the_place_to_others(address: tuple[str, int]) -> None:
    with _asking(address, COMPLETION):
        _wait_until_taken(address)
    while (status := _asked(address, COMPLETION + BODY)) == 429:
        pass
    assert status == 503  # there is no engine in this test


class Inside:
    """An application that keeps whoever is let in until they are released."""

    def __init__(self, places: int, *, has_accounts: bool = True) -> None:
        """Without accounts editors say their names."""
        self._has_accounts = has_accounts
        self.users, self.refused = list[str](), list[str]()
        self._release = asyncio.Event()
        self._lane = Lane(self._app, completions.router.routes, places, lambda: None)
        self._asking = list[asyncio.Task[None]]()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["asker"].startswith("warm") and not scope["state"]["places"].make_way():
            await refusal(scope["path"])(scope, receive, send)
            return
        self.users.append(scope["asker"])
        await self._release.wait()

    async def ask(self, *users: str) -> None:
        self._asking += [asyncio.create_task(self._ask(user)) for user in users]
        await asyncio.sleep(0)

    async def release(self) -> None:
        self._release.set()
        await asyncio.gather(*self._asking)
        self._release.clear()
        self._asking.clear()
        self.users.clear()
        self.refused.clear()

    async def _ask(self, user: str) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 429
                self.refused.append(user)

        async def receive() -> Message:
            raise AssertionError("nothing is read of what is refused")

        headers = [] if self._has_accounts or not user else [(CLIENT_HEADER.encode(), user.encode())]
        principal = replace(LOCAL, user=user if self._has_accounts else "")
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
        await self._lane(scope | {"asker": user, "state": {"principal": principal}}, receive, send)


either_way = pytest.mark.parametrize("has_accounts", [True, False], ids=["accounts", "editors"])


@either_way
async def test_who_asks_for_everything_leaves_places_for_the_others(has_accounts: bool) -> None:
    """Of 16 places a greedy one holds 8, and the next ones find 4 and 2."""
    inside = Inside(places=16, has_accounts=has_accounts)
    await inside.ask(*["greedy"] * 20, *["ada"] * 5, *["bob"] * 5)
    assert [inside.users.count(user) for user in ("greedy", "ada", "bob")] == [8, 4, 2]
    assert len(inside.refused) == 16
    await inside.release()
    await inside.ask(*["greedy"] * 20)
    assert inside.users == ["greedy"] * 8  # all places had come back
    await inside.release()


@either_way
async def test_who_was_let_in_lately_comes_in_before_who_was_not(has_accounts: bool) -> None:
    """Two of six places are for anybody; the others are for those whose prompts are in the engine's cache."""
    inside = Inside(places=6, has_accounts=has_accounts)
    await inside.ask("ada", "bob", "eve")
    assert (inside.users, inside.refused) == (["ada", "bob"], ["eve"])
    await inside.release()
    await inside.ask("eve")
    await inside.release()
    await inside.ask("ada", "bob", "max", "eve")
    assert (inside.users, inside.refused) == (["ada", "bob", "eve"], ["max"])
    await inside.release()


@pytest.mark.parametrize("name", ["", "x" * 65], ids=["none", "too long"])
async def test_every_place_is_for_those_who_cannot_be_told_apart(name: str) -> None:
    inside = Inside(places=6, has_accounts=False)
    await inside.ask(*[name] * 7)
    assert len(inside.users) == 6
    await inside.release()


@pytest.mark.parametrize(("each_s", "lasts_s"), [(9, 54), (11, 0)], ids=["typing", "with pauses"])
def test_a_turn_ends_with_a_pause_or_after_a_minute(each_s: int, lasts_s: int) -> None:
    now = 0.0
    turns = Turns(lambda: now)
    assert "ada" not in turns
    turns.let_in("ada")
    held = [0.0]
    while "ada" in turns:
        held.append(now)
        turns.let_in("ada")
        now += each_s
    assert held[-1] == lasts_s
    turns.let_in("ada")
    assert "ada" in turns


def test_turns_that_ended_take_no_memory() -> None:
    now = 0.0
    turns = Turns(lambda: now)
    for user in range(100):
        turns.let_in(str(user))
        now += 1
    assert len(turns) == 10


def test_a_request_for_several_holds_a_place_for_each_that_is_made_at_a_time_if_there_are() -> None:
    places = Places(3)
    first, second = Held(places, Places(1), "ada"), Held(places, Places(1), "bob")
    assert first.take(1) == 1 and second.take(1) == 1
    assert first.take(1) == 0  # one is left: somebody else's
    second.release()
    assert first.take(1) == 1 and places.free == 1
    first.release()
    assert places.free == 3 and not places.held


@either_way
async def test_what_only_prepares_a_place_keeps_nobody_out_who_waits(has_accounts: bool) -> None:
    """It waits until the engine has nothing else to do, and held one of the places for completions until then."""
    inside = Inside(places=6, has_accounts=has_accounts)
    await inside.ask("warm 1", "warm 2", "warm 3", "ada", "bob")
    assert (inside.users, inside.refused) == (["warm 1", "warm 2", "ada", "bob"], ["warm 3"])
    await inside.release()
    await inside.ask("warm 1")
    assert inside.users == ["warm 1"]  # its place had come back
    await inside.release()


@pytest.mark.parametrize(("cores", "prompt_ms"), [(1, 180), (2, 90), (16, 20)])
async def test_as_more_come_completions_get_smaller_before_anybody_is_refused(
    cores: int, prompt_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt of which nothing is in the cache takes the engine 90 ms on two cores with AVX-512."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    settings = Settings()
    inside, told = Inside(places_of(settings)), list[str]()
    for number in range(200):
        load = EngineLoad(num_running=0, num_waiting=0, wait_ms=prompt_ms * len(inside.users), step_ms=1.0)
        less = allowance(load, target_ms=settings.target_ms, priority="typed", snippets=3, max_new_tokens=64).reasons
        await inside.ask(f"developer {number}")
        told.append("refused" if inside.refused else less[-1] if less else "whole")
    assert told[0] == "whole" and told[-1] == "refused"
    assert told.index("fewer_snippets") < told.index("refused")
    await inside.release()


def test_places_follow_from_cores_or_servers_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, places in ((1, 6), (2, 12), (16, 96)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert places_of(Settings()) == places
    assert places_of(Settings(vllm_urls="http://a:1, http://b:1", max_queue=8)) == 2 * (2 * 32 + 8)
    assert places_of(Settings(max_requests=5)) == 5

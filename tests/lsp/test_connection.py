"""A server in trouble: what it costs, what is said of it, and how it ends."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest

from homespun_core.types import CLIENT_HEADER
from homespun_lsp.backends.exchange import Answer, Ask
from homespun_lsp.connection import Connection
from homespun_lsp.context import Query
from homespun_lsp.servers import Server
from homespun_lsp.signin import tokens
from homespun_lsp.status import State, Status
from tests.lsp.fake_server import HOLD, FakeServer, fake_server

TYPED = Query(prefix="x = ", suffix="", path=None, language="python", repo=None)
BY_HAND = Query(prefix="x = ", suffix="", path=None, language="python", repo=None, trigger="invoked")


@pytest.fixture(autouse=True)
def state(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class Watched:
    def __init__(self, server: Server) -> None:
        self.seen: list[Status] = []
        self._changed = asyncio.Event()
        self.connection = Connection(server, self._note)

    def _note(self, connection: Connection) -> None:
        self.seen.append(connection.status)
        self._changed.set()

    async def ask(self, query: Query = TYPED, timeout_ms: int = 5_000) -> Answer:
        return await self.connection.complete(Ask(query=query, max_tokens=5, client="c"), timeout_ms=timeout_ms)

    @property
    def state(self) -> State:
        return self.connection.status.state

    async def until(self, state: State) -> None:
        async with asyncio.timeout(30):
            while self.state is not state:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def connected(url: str, **about: Any) -> AsyncIterator[Watched]:
    watched = Watched(Server(url=url, **about))
    try:
        yield watched
    finally:
        await watched.connection.close()


async def test_what_kind_of_server_it_is_is_asked_once(fake: FakeServer) -> None:
    async with connected(fake.url) as watched:
        assert [(await watched.ask()).text for _ in range(3)] == ["completed"] * 3
        assert [question.path for question in fake.questions] == ["/v1/models"]
        assert watched.connection.backend == "homespun"
        assert [status.state for status in watched.seen] == [State.READY]


async def test_a_server_that_knows_no_models_is_taken_for_ours(fake: FakeServer) -> None:
    fake.pages.clear()
    async with connected(fake.url) as watched:
        assert (await watched.ask()).text == "completed"
        assert fake.requests[0].body["homespun"]["client"] == fake.requests[0].headers[CLIENT_HEADER] == "c"


async def test_tabby_is_recognised(fake: FakeServer) -> None:
    fake.pages = {"/v1/health": {"model": "StarCoder-1B", "version": {"git_describe": "v"}}}
    async with connected(fake.url) as watched:
        assert (await watched.ask()).text == "completed"
        assert fake.requests[0].body["segments"] == {"prefix": "x = ", "suffix": ""}


async def test_a_server_that_comes_up_is_noticed_without_a_key_being_pressed() -> None:
    async with fake_server() as gone:
        port = int(gone.url.rpartition(":")[2])
    async with connected(f"http://127.0.0.1:{port}") as watched:
        await watched.ask()
        assert watched.state is State.OFFLINE
        async with fake_server(port=port):
            await watched.until(State.READY)
            assert (await watched.ask()).text == "completed"
        assert [status.state for status in watched.seen] == [State.OFFLINE, State.READY]


async def test_while_a_server_is_away_typing_sends_nothing_and_asking_by_hand_does(fake: FakeServer) -> None:
    fake.pages["/v1/models"] = deque([(503, {})] * 2 + [{"data": [{"id": "m", "owned_by": "homespun"}]}])
    async with connected(fake.url) as watched:
        for _ in range(20):
            assert (await watched.ask()).text == ""
        assert (watched.state, fake.requests) == (State.STARTING, [])
        assert (await watched.ask(BY_HAND)).text == "completed"
        assert watched.state is State.READY


async def test_a_busy_server_is_left_alone_for_as_long_as_it_says(fake: FakeServer) -> None:
    fake.replies.extend([(429, {}), "well"])
    async with connected(fake.url) as watched:
        for _ in range(20):
            assert (await watched.ask()).text == ""
        assert len(fake.requests) == 1
        async with asyncio.timeout(20):
            while not (await watched.ask()).text:  # noqa: ASYNC110  # as keys are pressed
                await asyncio.sleep(0.05)
        assert len(fake.requests) == 2


async def test_signing_in_elsewhere_is_noticed(fake: FakeServer) -> None:
    """As `homespun login` does it in a terminal, while the editor runs."""
    fake.pages["/v1/models"] = deque([401, {"data": [{"id": "m", "owned_by": "homespun"}]}])
    async with connected(fake.url) as watched:
        assert (await watched.ask()).text == ""
        assert watched.state is State.SIGNED_OUT and "homespun login" in watched.connection.status.says
        tokens.keep(fake.url, "n3w")
        await watched.until(State.READY)
        assert (await watched.ask()).text == "completed"
        assert fake.requests[-1].headers["authorization"] == "Bearer n3w"


async def test_a_token_that_the_user_set_wins_over_the_kept_one(fake: FakeServer) -> None:
    tokens.keep(fake.url, "kept")
    async with connected(fake.url, token="given") as watched:
        await watched.ask()
        assert fake.requests[0].headers["authorization"] == "Bearer given"
    async with connected(fake.url) as watched:
        await watched.ask()
        assert fake.requests[1].headers["authorization"] == "Bearer kept"


async def test_a_server_that_lists_its_models_to_all_does_not_seem_to_recover(fake: FakeServer) -> None:
    """llama.cpp with --api-key does. It was told twice a minute that all was well again."""
    fake.default = 401
    async with connected(fake.url, token="wrong") as watched:
        await watched.ask()
        tokens.keep("http://elsewhere", "x")
        await asyncio.sleep(4)  # more than one look at the kept token
        assert [status.state for status in watched.seen] == [State.READY, State.SIGNED_OUT]


@pytest.mark.parametrize(
    ("reply", "state", "says"),
    [
        (403, State.NOT_PERMITTED, "ask whoever administers"),
        (404, State.FAILING, "check 'serverUrl'"),
        (400, State.FAILING, "check 'serverUrl'"),
        (308, State.FAILING, "where it leads"),
        (502, State.OFFLINE, "is down"),
        (500, State.FAILING, "status 500"),
        ({"odd": 1}, State.FAILING, "something else"),
    ],
)
async def test_each_trouble_has_its_name(fake: FakeServer, reply: object, state: State, says: str) -> None:
    fake.replies.append(reply)
    async with connected(fake.url) as watched:
        assert (await watched.ask()).text == ""
        assert watched.state is state and says in watched.connection.status.message


async def test_a_slow_server_is_given_up_and_its_request_ended(fake: FakeServer) -> None:
    fake.default = HOLD
    async with connected(fake.url) as watched:
        assert (await watched.ask(timeout_ms=50)).text == ""
        assert "in time" in watched.connection.status.says
        await asyncio.wait_for(fake.requests[0].closed.wait(), 20)


async def test_a_connection_that_the_server_closed_meanwhile_costs_no_suggestion() -> None:
    """Proxies close idle connections sooner than we expect: the request is made once more on a new one."""
    answers = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        with closing(writer), suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                answers += 1
                if answers == 3:  # models, first completion, and then gone
                    return
                body = b'{"choices": [{"text": "yes"}], "data": [{"id": "m", "owned_by": "homespun"}]}'
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener, connected(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as watched:
        assert [(await watched.ask()).text for _ in range(2)] == ["yes", "yes"]
        assert answers == 4

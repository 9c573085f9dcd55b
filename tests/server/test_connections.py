"""Clients that send too slowly, too much, or no end, over real sockets to the real application (without a model)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from homespun_core.config import Settings
from homespun_core.errors import ConfigError
from homespun_core.types import ModelFiles
from homespun_server import connections
from homespun_server.app import build_app
from homespun_server.engine.protocol import Engine

PATH = "/v1/homespun/events"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def _no_engine(model: ModelFiles, settings: Settings) -> Engine:
    raise ConfigError("no model in this test")


@pytest.fixture
def address(builtin: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "HEADERS_S", 0.3)
    monkeypatch.setattr(connections, "BODY_S", 0.3)
    app = build_app(Settings(data_dir=str(tmp_path)), builtin, _no_engine)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, http=connections.Connection))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def _connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=20) as connection:
        yield connection


def _answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_nothing_of_an_answer_waits_until_the_client_has_acknowledged_what_came_before(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = connections.Connection.connection_made, list[int]()

    def noting(self: connections.Connection, transport: asyncio.Transport) -> None:
        made(self, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(connections.Connection, "connection_made", noting)
    assert httpx.get(f"http://{address[0]}:{address[1]}/healthz").status_code == 200
    assert len(seen) == 1 and all(seen)


@pytest.mark.parametrize("begun", [b"", b"POST ", HEAD])
def test_headers_that_do_not_end_are_hung_up_on(address: tuple[str, int], begun: bytes) -> None:
    with _connected(address) as connection:
        connection.sendall(begun)
        assert _answer(connection) == b""


def test_the_second_request_of_a_connection_may_dribble_no_longer_than_the_first(address: tuple[str, int]) -> None:
    with _connected(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while b"alive" not in connection.recv(65_536):
            pass
        connection.sendall(b"GET /hea")
        assert _answer(connection) == b""


def test_a_body_that_does_not_end_is_told_so(address: tuple[str, int]) -> None:
    with _connected(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        connection.settimeout(20)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 2000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000]
)
def test_a_body_larger_than_any_route_takes_is_refused_before_its_end(
    address: tuple[str, int], rest: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_BODY_BYTES", 1000)
    with _connected(address) as connection:
        connection.sendall(HEAD + rest)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413")


def test_two_hundred_slow_clients_keep_nobody_else_waiting(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(_connected(address)).sendall(b"POST /v1/comp")
        assert httpx.get(f"http://{address[0]}:{address[1]}/healthz", timeout=10).json() == {"alive": True}


@pytest.mark.parametrize("path", ["/v1/completions", PATH])
@pytest.mark.parametrize("num_bytes", [4_900_000, 10_000_000])
def test_whoever_sends_too_much_without_looking_reads_the_refusal(
    address: tuple[str, int], path: str, num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As urllib does: it asks for the connection to be closed, sends everything, and reads then."""
    monkeypatch.setattr(connections, "BODY_S", 60)
    url, body = f"http://{address[0]}:{address[1]}{path}", b"x" * num_bytes
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=60)
        assert refused.value.code == 413
        refused.value.close()


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("num_bytes", [b"4000000", b"10000000"])
def test_whoever_dribbles_after_the_refusal_is_hung_up_on(
    address: tuple[str, int], close: bytes, num_bytes: bytes
) -> None:
    with _connected(address) as connection, pytest.raises(ConnectionError):
        connection.sendall(HEAD + close + b"Content-Length: " + num_bytes + b"\r\n\r\n{")
        for _ in range(1_000):
            connection.sendall(b" ")
            time.sleep(0.01)


def test_no_more_is_read_after_the_refusal_than_is_bounded(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_S", 60)
    monkeypatch.setattr(connections, "MAX_DROPPED_BYTES", 1000)
    with _connected(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 10000000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                connection.sendall(b"x" * 1_000_000)


def test_a_client_that_waits_for_the_word_to_send_is_refused_without_it(address: tuple[str, int]) -> None:
    with _connected(address) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 10000000\r\n\r\n")
        assert _answer(connection).startswith(b"HTTP/1.1 413")

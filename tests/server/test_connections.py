"""Clients that send too slowly, too much, or no end, over real sockets to the real application (without a model)."""

from __future__ import annotations

import contextlib
import socket
import threading
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

"""More connections than files may be open: row 11."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.machine import make_shop, serving

pytestmark = pytest.mark.e2e
_FILES = 64


def test_connections_beyond_half_of_all_files_are_refused_in_a_line_of_log_and_the_others_live_on(
    tmp_path: Path,
) -> None:
    make_shop(tmp_path)
    with serving(tmp_path, prefix=["prlimit", "--nofile=100:200"]) as server:
        assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (200, 200)  # raised by itself
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (_FILES, _FILES))
        expected = server.text
        with contextlib.ExitStack() as stack:
            address = (urlsplit(server.url).hostname, urlsplit(server.url).port)
            held = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(100)]
            said = _refusals(held, 100 - _FILES // 2)
            assert sum(b"503" in answer for answer in said) > 0
        deadline = time.monotonic() + 20
        while server.ask().status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert server.text == expected and server.is_ready
        lines = server.running.lines
    for said_once in ("connections refused", "connections wait"):
        assert sum(said_once in line for line in lines) <= 1
    assert any("connections refused" in line and "LimitNOFILE" in line for line in lines)


def _refusals(connections: list[socket.socket], number: int) -> list[bytes]:
    """What so many of them are told; b"" is a connection that was closed without a word."""
    waiting, answers = set(connections), list[bytes]()
    deadline = time.monotonic() + 9  # a second less than a silent one is waited for
    while len(answers) < number:
        assert time.monotonic() < deadline, answers
        for connection in select.select(list(waiting), [], [], 1.0)[0]:
            waiting.discard(connection)
            try:
                answers.append(connection.recv(1_000))
            except ConnectionResetError:
                answers.append(b"")
    return answers

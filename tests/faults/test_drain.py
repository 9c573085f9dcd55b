"""SIGTERM while everybody asks: row 39. What was begun ends well, and so does what was taken."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.faults.machine import BODY, Server, make_shop, serving

pytestmark = [pytest.mark.e2e, pytest.mark.faults]
_STREAMS = 4
_ASKING = 4


def begun(server: Server, ready: threading.Barrier, number: int) -> str:
    """The last line of a stream that had begun when the signal came."""
    body = BODY | {"stream": True, "max_tokens": 40, "user": f"s{number}", "homespun": {"raw": True}}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        ready.wait(60)
        return [line for line in lines if line][-1]


def answered(server: Server, body: bytes) -> int | None:
    """The status of a completion, on a connection of its own. None: refused, or reset while still in line; with "100
    Continue" the server says that it took the request, and an end of the connection after that is an error."""
    url = httpx.URL(server.url)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    with contextlib.ExitStack() as opened:
        try:
            connection = opened.enter_context(socket.create_connection((url.host, url.port or 80), timeout=60))
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            reply = opened.enter_context(connection.makefile("rb"))
            first = reply.readline()
        except ConnectionError:
            return None
        if not first:
            return None
        if first.split()[1] == b"100":
            connection.sendall(body)
            assert reply.readline() == b"\r\n"
            first = reply.readline()
        json.loads(reply.read().partition(b"\r\n\r\n")[2])  # whole
        return int(first.split()[1])


def asking(server: Server, number: int) -> tuple[list[int], list[int]]:
    """Statuses of completions and of /readyz, one after the other, until nobody listens any more."""
    completed: list[int] = []
    readiness: list[int] = []
    body = json.dumps(BODY | {"user": f"a{number}"}).encode()
    while (status := answered(server, body)) is not None:
        completed.append(status)
        with contextlib.suppress(httpx.TransportError):
            readiness.append(httpx.get(f"{server.url}/readyz", timeout=60).status_code)
    return completed, readiness


@pytest.mark.timeout(300)  # half a minute where nobody else uses the machine
def test_sigterm_under_load_finishes_what_was_begun_and_fails_nobody(tmp_path: Path) -> None:
    make_shop(tmp_path)
    flags = ("--max-new-tokens=1000", "--completion-deadline-ms=60000", "--max-requests=20", "--max-queue=20")
    with serving(tmp_path, *flags) as server, concurrent.futures.ThreadPoolExecutor(_STREAMS + _ASKING) as pool:
        ready = threading.Barrier(_STREAMS + 1)
        streams = [pool.submit(begun, server, ready, number) for number in range(_STREAMS)]
        others = [pool.submit(asking, server, number) for number in range(_ASKING)]
        ready.wait(60)
        server.running.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert [stream.result(60) for stream in streams] == ["data: [DONE]"] * _STREAMS
        found = [other.result(60) for other in others]
        assert server.running.process.wait(60) == 0
        print(f"drained in {time.monotonic() - began:.1f} s, {sum(len(c) for c, _ in found)} completions beside")
    for completed, readiness in found:
        assert set(completed) <= {200, 503} and 200 in completed
        assert set(readiness) <= {200, 503}
        if 503 in completed:  # told to go elsewhere, and so was whoever asks for readiness
            assert 200 not in completed[completed.index(503) :]

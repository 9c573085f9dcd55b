"""SIGTERM while everybody asks: row 39. What was begun ends well, nobody sees an error of the server's."""

from __future__ import annotations

import concurrent.futures
import signal
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
    body = BODY | {"stream": True, "max_tokens": 80, "user": f"s{number}", "homespun": {"raw": True}}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        ready.wait(60)
        return [line for line in lines if line][-1]


def asking(server: Server, number: int) -> tuple[list[int], list[int]]:
    """Statuses of completions and of /readyz, one after the other, until nobody listens any more."""
    completed: list[int] = []
    readiness: list[int] = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while True:
            try:
                completed.append(client.post("/v1/completions", json=BODY | {"user": f"a{number}"}).status_code)
                readiness.append(client.get("/readyz").status_code)
            except httpx.TransportError:
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

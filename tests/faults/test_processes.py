"""Processes that are killed, stopped, or given too little of something: rows 5, 41 and 43."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import running
from tests.faults.machine import BODY, make_shop, open_files, serving, without_a_network

pytestmark = pytest.mark.e2e
_ASK = """
import json, sys, urllib.request
url, body = sys.argv[1] + "/v1/completions", sys.argv[2].encode()
request = urllib.request.Request(url, body, {"content-type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=30))["choices"][0]["text"])
try:
    urllib.request.urlopen("http://192.0.2.1", timeout=2)
except OSError as error:
    print("no way out:", error)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("processes")
    make_shop(root)
    return root


def test_a_server_killed_with_twenty_requests_in_flight_starts_again_and_says_the_same(root: Path) -> None:
    """Row 5: connections are reset, no lock is left, and the database is whole."""
    with serving(root, "--completion-deadline-ms=60000", "--max-requests=20") as server:
        expected = server.text
        idle = open_files(server.pid)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            long = {"max_tokens": 200, "homespun": {"raw": True}}
            asked = [pool.submit(server.ask, **long, user=str(n)) for n in range(20)]
            while open_files(server.pid) < idle + 20 and not any(future.done() for future in asked):
                time.sleep(0.01)
            server.kill()
            for future in asked:
                error = future.exception(30)
                assert error is None or isinstance(error, httpx.TransportError)
            assert any(future.exception() for future in asked)
    with closing(sqlite3.connect(root / "data" / "homespun.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with serving(root) as again:
        assert again.text == expected


def test_a_second_sigterm_ends_the_drain_and_the_next_server_starts(root: Path) -> None:
    """Row 41: the first one finishes what is in flight, the second one doesn't wait for it; SIGKILL is row 5."""
    with serving(root, "--max-new-tokens=1000", "--completion-deadline-ms=60000") as server:
        body = BODY | {"stream": True, "max_tokens": 1000, "homespun": {"raw": True}}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            server.running.process.send_signal(signal.SIGTERM)
            server.running.process.send_signal(signal.SIGTERM)
            with pytest.raises((httpx.TransportError, StopIteration)):
                while True:
                    next(lines)
        assert server.running.process.wait(30) == 0
    assert not (root / "data" / "server.json").exists()
    with serving(root) as again:
        assert again.is_ready


def test_without_any_network_a_server_starts_and_completes(root: Path) -> None:
    """Row 43: loopback only, as in an air-gapped machine whose cable was pulled. The built-in model needs nothing."""
    with serving(root) as server:
        expected = server.text
    with serving(root, prefix=without_a_network()) as server:
        words = server.inside(sys.executable, "-c", _ASK, server.url, json.dumps(BODY))
        words.remove("--mount")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        text, _, rest = done.stdout.partition("\nno way out:")
        assert text == expected and rest, done.stdout + done.stderr
        server.running.process.send_signal(signal.SIGTERM)
        assert server.running.process.wait(30) == 0


def test_a_gateway_that_waits_for_a_vllm_ends_when_it_is_told_to(root: Path) -> None:
    """It once took as long as it had patience for the vLLM, two minutes, and a pod has one."""
    with running("serve", "--port=0", "--data-dir=data", "--vllm-urls=http://127.0.0.1:9", cwd=root) as waiting:
        waiting.wait_for("the model is loading", timeout=60)
        waiting.process.send_signal(signal.SIGTERM)
        assert waiting.process.wait(40) == 0

"""`homespun serve` as a process of its own, over a real socket."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homespun_core import registry
from homespun_core.paths import DataDir
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_trainer import trained_on
from homespun_trainer.trained_on import Source

BODY = {"prompt": "def add(a, b):\n    return", "max_tokens": 8}


class Server:
    def __init__(self, data: Path, *flags: str) -> None:
        self.data = data
        argv = [sys.executable, "-m", "homespun_core.cli", "serve", "--data-dir", str(data), *flags]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []

    def wait_until_ready(self) -> str:
        """Its URL, from the line it prints."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("homespun is ready: "):
                return line.removeprefix("homespun is ready: ").strip()
        raise AssertionError("".join(self.lines))

    def end(self, number: int) -> tuple[int, str]:
        """Exit status and everything it printed."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, "".join(self.lines) + output


@contextlib.contextmanager
def serving(data: Path, *flags: str) -> Iterator[Server]:
    server = Server(data, *flags)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def test_a_new_server_prints_a_code_that_makes_its_first_admin(tmp_path: Path) -> None:
    with serving(tmp_path, "--setup", "--host=0.0.0.0", "--port=0") as server:
        url = server.wait_until_ready().replace("0.0.0.0", "127.0.0.1")
        words = next(line for line in server.lines if line.startswith("homespun set-up: ")).split()
        fields = {"code": words[words.index("enter") + 1], "name": "ada"}
        made = httpx.post(f"{url}/setup", data=fields, headers={"sec-fetch-site": "same-origin"})
        assert made.status_code == 200 and "Welcome, ada" in made.text
        assert httpx.post(f"{url}/v1/completions", json=BODY).status_code == 401
        server.end(signal.SIGTERM)


def test_a_server_does_not_start_on_an_adapter_that_is_to_be_forgotten(tmp_path: Path) -> None:
    """`homespun forget` was killed behind its first write."""
    data = DataDir(tmp_path)
    path = data.adapters("shop-1") / "v1"
    with registry.publish_adapter(path, fingerprint="f", sources={"base_model": "b"}, report={}) as folder:
        seen = Source(repository="shop-1", path="pay.py", blob="0", authors=())
        trained_on.write(folder, [seen])
    registry.promote(data.adapters("shop-1"), "v1")
    forgotten.add(data, Forgotten(path="pay.py"))
    with serving(tmp_path, "--port", "0") as server:
        server.wait_until_ready()
        assert registry.live(data.adapters("shop-1")) is None and not path.exists()
        server.end(signal.SIGTERM)


def test_a_port_in_use_is_one_line_that_names_it_and_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(tmp_path, "--port", str(port)) as server:
            output, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 1
    (line,) = output.strip().splitlines()[-1:]
    assert f"port {port}" in line and "in use" in line and "--port" in line
    assert "Traceback" not in output and not (tmp_path / "server.json").exists()


def test_it_serves_cancels_for_clients_that_left_and_drains_at_sigterm(tmp_path: Path) -> None:
    options = ["--port", "0", "--max-new-tokens", "1000", "--completion-deadline-ms", "60000"]
    with serving(tmp_path, *options) as server:
        url = server.wait_until_ready()
        state = json.loads((tmp_path / "server.json").read_text())
        assert state == {"url": url, "pid": server.process.pid}
        with httpx.Client(base_url=url, timeout=60) as client:
            assert client.post("/v1/completions", json=BODY).status_code == 200
            _leave_a_stream(client)
            _leave_a_plain_request(url)
            _wait_for(client, 'homespun_completions_total{outcome="cancelled"} 2.0')
            body = {"prompt": "z = ", "max_tokens": 60, "stream": True, "homespun": {"raw": True}}
            with client.stream("POST", "/v1/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                server.process.send_signal(signal.SIGTERM)
                rest = [line for line in lines if line]
        code, output = server.end(signal.SIGTERM)
    assert rest[-1] == "data: [DONE]" and json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
    assert code == 0 and "Traceback" not in output
    assert not (tmp_path / "server.json").exists()


def test_an_interrupt_while_the_model_loads_ends_it_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as server:
        while not (tmp_path / "server.json").exists():
            time.sleep(0.02)
        code, output = server.end(signal.SIGINT)
    assert code == 0 and "Traceback" not in output


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--base-model", "/nonexistent/model"], "no directory"),
        (["--host", "0.0.0.0"], "HOMESPUN_API_TOKEN"),
        (["--port", "70000"], "70000 is above 65535"),
        (["--max-new-tokens", "5000", "--port", "0"], "max_new_tokens: 5000"),
    ],
)
def test_what_cannot_work_ends_at_once_with_one_line(tmp_path: Path, flags: list[str], reason: str) -> None:
    with serving(tmp_path, *flags) as server:
        output, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 1
    assert reason in output.strip().splitlines()[-1] and "Traceback" not in output


def _leave_a_stream(client: httpx.Client) -> None:
    body = {"prompt": "x = ", "max_tokens": 1000, "stream": True, "homespun": {"raw": True}}
    with client.stream("POST", "/v1/completions", json=body) as response:
        next(response.iter_lines())


def _leave_a_plain_request(url: str) -> None:
    body = {"prompt": "y = ", "max_tokens": 1000, "homespun": {"raw": True}}
    with contextlib.suppress(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json=body, timeout=httpx.Timeout(60, read=0.05))


def _wait_for(client: httpx.Client, line: str) -> None:
    deadline = time.monotonic() + 20
    while line not in client.get("/metrics").text:
        assert time.monotonic() < deadline, client.get("/metrics").text
        time.sleep(0.05)

"""Ten times the load: row 35. Asked at fixed times, whether or not there were answers, as people type."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.faults.machine import BODY, Server, make_shop, serving
from tests.server.engine.vllm.fake_server import FakeVllm

pytestmark = [pytest.mark.e2e, pytest.mark.faults]
_ENGINE_S = 0.05
"""For a completion, one after the other: 20 a second."""
_ASKERS = 8
_EVERY_S, _TIMES = 0.5, 10
_MORE_MB = 64


@dataclass
class Seen:
    statuses: Counter[int] = field(default_factory=Counter[int])
    shown: int = 0
    """Answers with something to show."""
    without_a_time: int = 0
    """Refusals that don't say when to come back."""
    pages: Counter[int] = field(default_factory=Counter[int])

    def note(self, head: bytes, content: bytes) -> None:
        status = int(head.split()[1])
        self.statuses[status] += 1
        if status == 200:
            self.shown += bool(json.loads(content)["choices"][0]["text"])
        elif b"\r\nretry-after: " not in head.lower():
            self.without_a_time += 1


async def asked_by(num_askers: int, server: Server) -> Seen:
    seen, url = Seen(), httpx.URL(server.url)

    async def ask(number: int, turn: int) -> None:
        await asyncio.sleep((number / num_askers + turn) * _EVERY_S)
        body = BODY | {"prompt": f"{BODY['prompt']}value_{number}_{turn}.", "user": f"u{number}"}
        seen.note(*await _asked(url, json.dumps(body | {"homespun": {"raw": True}}).encode()))

    async with asyncio.TaskGroup() as asking:
        for number in range(num_askers):
            for turn in range(_TIMES):
                asking.create_task(ask(number, turn))
        asking.create_task(_look(server, seen))
    return seen


async def _asked(url: httpx.URL, body: bytes) -> tuple[bytes, bytes]:
    """Head and content. By hand, since httpx takes ten times the time on a machine that the server needs."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    reply = await reader.read()
    writer.close()
    said, _, content = reply.partition(b"\r\n\r\n")
    return said, content


async def _look(server: Server, seen: Seen) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for _ in range(_TIMES):
            for path in ("/console", "/metrics"):
                seen.pages[(await client.get(path)).status_code] += 1
            await asyncio.sleep(_EVERY_S)


def megabytes(server: Server, what: str) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{what}:")) >> 10


@pytest.mark.timeout(300)
async def test_ten_times_the_load_gets_half_as_many_answers_at_least_and_the_rest_a_time_to_come_back(
    tmp_path: Path,
) -> None:
    make_shop(tmp_path)
    engine = FakeVllm(max_context=2048, each_s=_ENGINE_S)
    try:
        flags = (f"--vllm-urls={engine.url}", "--max-requests=8", "--completion-deadline-ms=10000")
        with serving(tmp_path, *flags) as server:
            usual = await asked_by(_ASKERS, server)
            before = megabytes(server, "VmRSS")
            many = await asked_by(10 * _ASKERS, server)
            more = megabytes(server, "VmHWM") - before
            assert server.is_ready
    finally:
        engine.kill()
    print(f"{usual}, then {many}, {more} MB more")
    assert usual.shown and many.shown * 2 >= usual.shown
    assert set(many.statuses) <= {200, 429, 503} and many.statuses[429] > many.shown
    assert not many.without_a_time
    assert set(many.pages) == {200}
    assert more < _MORE_MB

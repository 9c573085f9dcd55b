"""Ten times the load, of all and of one: rows 35 and 36. Asked at fixed times, answered or not, as people type."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import homespun
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


async def asked_by(num_askers: int, server: Server, token: str = "") -> Seen:
    seen, url = Seen(), httpx.URL(server.url)

    async def ask(number: int, turn: int) -> None:
        await asyncio.sleep((number / num_askers + turn) * _EVERY_S)
        body = BODY | {"prompt": f"{BODY['prompt']}value_{number}_{turn}.", "user": f"u{number}"}
        seen.note(*await _asked(url, json.dumps(body | {"homespun": {"raw": True}}).encode(), token))

    async with asyncio.TaskGroup() as asking:
        for number in range(num_askers):
            for turn in range(_TIMES):
                asking.create_task(ask(number, turn))
        asking.create_task(_look(server, seen, token))
    return seen


async def _asked(url: httpx.URL, body: bytes, token: str) -> tuple[bytes, bytes]:
    """Head and content. By hand, since httpx takes ten times the time on a machine that the server needs."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    shown = "".join(f"{name}: {value}\r\n" for name, value in _shown(token).items())
    writer.write(f"{head}{shown}\r\n".encode() + body)
    reply = await reader.read()
    writer.close()
    said, _, content = reply.partition(b"\r\n\r\n")
    return said, content


def _shown(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


async def _look(server: Server, seen: Seen, token: str) -> None:
    async with httpx.AsyncClient(base_url=server.url, headers=_shown(token), timeout=60) as client:
        for _ in range(_TIMES):
            for path in ("/console", "/metrics"):
                seen.pages[(await client.get(path)).status_code] += 1
            await asyncio.sleep(_EVERY_S)


def megabytes(server: Server, what: str) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{what}:")) >> 10


@contextmanager
def in_front_of_an_engine(root: Path) -> Iterator[Server]:
    engine = FakeVllm(max_context=2048, each_s=_ENGINE_S)
    try:
        flags = (f"--vllm-urls={engine.url}", "--max-requests=8", "--completion-deadline-ms=10000")
        with serving(root, *flags) as server:
            yield server
    finally:
        engine.kill()


@pytest.mark.timeout(300)
async def test_ten_times_the_load_gets_half_as_many_answers_at_least_and_the_rest_a_time_to_come_back(
    tmp_path: Path,
) -> None:
    make_shop(tmp_path)
    with in_front_of_an_engine(tmp_path) as server:
        usual = await asked_by(_ASKERS, server)
        before = megabytes(server, "VmRSS")
        many = await asked_by(10 * _ASKERS, server)
        more = megabytes(server, "VmHWM") - before
        assert server.is_ready
    print(f"{usual}, then {many}, {more} MB more")
    assert usual.shown and many.shown * 2 >= usual.shown
    assert set(many.statuses) <= {200, 429, 503} and many.statuses[429] > many.shown
    assert not many.without_a_time
    assert set(many.pages) == {200}
    assert more < _MORE_MB


@pytest.mark.timeout(300)
async def test_one_account_that_asks_for_ten_times_as_much_leaves_another_half_of_its_answers_at_least(
    tmp_path: Path,
) -> None:
    make_shop(tmp_path)
    tokens = []
    for name in ("greedy", "ada"):
        for words in (f"user add {name} --role=admin", f"token create {name} --scope=complete --scope=index:read"):
            done = homespun(*words.split(), "--data-dir=data", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        tokens.append(done.stdout.split()[0])
    greedy, ada = tokens
    with in_front_of_an_engine(tmp_path) as server:
        alone = await asked_by(_ASKERS // 2, server, ada)
        _, beside = await asyncio.gather(asked_by(10 * _ASKERS, server, greedy), asked_by(_ASKERS // 2, server, ada))
    print(f"{alone}, then {beside}")
    assert alone.shown and beside.shown * 2 >= alone.shown
    assert set(beside.statuses) <= {200, 429, 503} and not beside.without_a_time
    assert set(beside.pages) == {200}

"""Somebody writes: key by key through the real process, and what must hold on a machine of any speed."""

import asyncio
import os
from pathlib import Path

from tests.lsp.editor import Editor, editor
from tests.lsp.fake_server import FakeServer, Request

WRITTEN = "def total(items):\n    return sum(item.price for item in items)\n"
MAX_MEMORY_KB = 80 * 1024


def suggested(request: Request) -> str:
    """What is going to be written, some of it; something else where a word ends."""
    typed = request.body["prompt"]
    rest = WRITTEN[len(typed) :][:18].rstrip()
    return "something_else()" if typed.endswith(" ") else rest.partition("\n")[0] if "stop" in request.body else rest


async def test_ghost_text_stays_while_it_is_typed_and_the_process_is_small_and_idle(fake: FakeServer) -> None:
    fake.default = suggested
    async with editor(serverUrl=fake.url, prefetch=True) as session:
        buffer, shown, num_shown = session.open("|\n"), "", 0
        for key in WRITTEN:
            buffer.type(key)
            item = await buffer.ghost()
            now = str(item.insert_text) if item else ""
            if len(shown) > 1 and shown.startswith(key):
                assert now.startswith(shown[1:]), f"{shown!r} went away at {key!r}"
            shown, num_shown = now, num_shown + bool(now)
        assert num_shown > len(WRITTEN) / 2
        assert memory_kb(session) < MAX_MEMORY_KB
        assert await rests(session)


def memory_kb(session: Editor) -> int:
    """At most so far."""
    status = (proc(session) / "status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


async def rests(session: Editor) -> bool:
    """Whether there comes a second in which it does nothing; at first it may still tell what was shown."""
    for _ in range(20):
        before = ticks(session)
        await asyncio.sleep(1)
        if ticks(session) - before <= 1:
            return True
    return False


def ticks(session: Editor) -> int:
    fields = (proc(session) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 100 // os.sysconf("SC_CLK_TCK")


def proc(session: Editor) -> Path:
    server = session.client._server
    assert server is not None
    return Path("/proc", str(server.pid))

"""Several windows of one person at once, each with a language server of its own."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import keyring.backends.fail
import pytest
from keyring.backend import KeyringBackend

from homespun_lsp.signin import tokens
from tests.lsp.editor import Buffer, Invoked, editor
from tests.lsp.fake_server import HOLD, FakeServer, fake_server
from tests.lsp.signin.keyring_in_a_file import Keyring, used

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", [Keyring, keyring.backends.fail.Keyring], ids=["keyring", "file"])
async def test_a_token_that_is_renewed_all_the_time_reaches_every_window(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[KeyringBackend]
) -> None:
    environ = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "KEYRING_FILE": str(tmp_path / "keyring"),
        "PYTHON_KEYRING_BACKEND": f"{kind.__module__}.Keyring",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    for name in ("XDG_STATE_HOME", "KEYRING_FILE"):
        monkeypatch.setenv(name, environ[name])
    async with AsyncExitStack() as stack:
        stack.enter_context(used(kind))
        renew(fake, 0)
        opened = [editor(serverUrl=fake.url, environ=environ, debounceMs=0, sendStatus="on") for _ in range(3)]
        windows = [await stack.enter_async_context(one) for one in opened]
        buffers = [window.open("x = |") for window in windows]
        for number in range(1, 6):
            for _ in range(20):
                renew(fake, number)
            await asyncio.gather(*map(answered, buffers))
        renew(fake, 6)
        for buffer, window in zip(buffers, windows, strict=True):
            await buffer.ghost(Invoked)
            await window.is_told("ready")  # without another key
        await asyncio.gather(*map(answered, buffers))
        assert fake.requests[-1].headers["authorization"] == "Bearer t6"


def renew(fake: FakeServer, number: int) -> None:
    tokens.keep(fake.url, f"t{number}")
    fake.token = f"t{number}"


async def answered(buffer: Buffer) -> None:
    async with asyncio.timeout(20):
        while not await buffer.ghost(Invoked):
            buffer.type("x")
        buffer.type("y")


async def test_a_server_that_hangs_holds_up_its_own_files_alone(fake: FakeServer, tmp_path: Path) -> None:
    async with fake_server() as stuck:
        stuck.default = HOLD
        servers = {str(tmp_path / "stuck"): {"serverUrl": stuck.url}}
        async with editor(serverUrl=fake.url, servers=servers, debounceMs=0) as session:
            held = session.open("x = |", tmp_path / "stuck/a.py").ask()
            await stuck.arrived(1)
            for number in range(5):
                assert await session.open("x = |", tmp_path / f"other/{number}.py").ghost()
            assert not held.done()
            stuck.requests[0].reply.set_result("late")
            assert await held

"""The language server ends with its editor, however that goes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from homespun_lsp.signin import tokens
from tests.lsp.editor import COMMAND
from tests.lsp.fake_server import HOLD, FakeServer
from tests.lsp.raw import Raw, raw
from tests.lsp.signin.keyring_in_a_file import Keyring, used

ROOT = Path(__file__).parents[2]

EDITOR = """
import json, os, subprocess, sys, time
quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
server = subprocess.Popen(sys.argv[2:], stdin=pipe, stdout=pipe, stderr=quiet)
heir = None
if sys.argv[1] == "heir":
    heir = subprocess.Popen(["sleep", "60"], stdout=quiet, stderr=quiet, pass_fds=[server.stdin.fileno()])
body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize",
                   "params": {"processId": os.getpid(), "rootUri": None, "capabilities": {}}})
server.stdin.write(f"Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
server.stdin.flush()
server.stdout.readline()
print(server.pid, heir.pid if heir else 0, flush=True)
time.sleep(60)
"""


async def test_shutdown_and_exit_end_it_well_and_exit_alone_badly() -> None:
    async with raw() as polite, raw() as rude:
        for server in (polite, rude):
            await server.start(serverUrl="http://127.0.0.1:1")
        await polite.request("shutdown")
        for server in (polite, rude):
            server.send("exit")
        assert (await polite.ended(), await rude.ended()) == (0, 1)


@pytest.mark.parametrize("last", ["nothing", "shutdown", "half a message", "a request"])
async def test_it_ends_when_its_input_does(fake: FakeServer, last: str) -> None:
    fake.default = HOLD
    async with raw() as server:
        await server.start(serverUrl=fake.url, debounceMs=0)
        match last:
            case "shutdown":
                await server.request("shutdown")
            case "half a message":
                server.stdin.write(b"Content-Length: 100\r\n\r\n{")
            case "a request":
                await being_answered(server, fake)
        server.stdin.close()
        await server.ended()
        if last == "a request":
            await asyncio.wait_for(fake.requests[0].closed.wait(), 20)
        assert "Traceback" not in server.stderr


async def test_it_ends_while_the_keyring_waits_for_its_owner(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python waits for its threads, and one of them for somebody to unlock the keyring: it outlived its editor."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KEYRING_FILE", str(tmp_path / "keyring"))
    with used(Keyring):
        assert tokens.keep(fake.url, "t") == tokens.KEYRING
    (tmp_path / "keyring").unlink()
    os.mkfifo(tmp_path / "keyring")
    locked = {
        "PYTHON_KEYRING_BACKEND": "tests.lsp.signin.keyring_in_a_file.Keyring",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "KEYRING_FILE": str(tmp_path / "keyring"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    async with raw(**locked) as eof, raw(**locked) as told:
        for server in (eof, told):
            await server.start(serverUrl=fake.url)
            assert (await server.request("homespun/status"))["state"] == "connecting"
        eof.stdin.close()
        await told.request("shutdown")
        told.send("exit")
        await eof.ended()
        assert await told.ended() == 0


@pytest.mark.parametrize("heir", ["none", "heir"])
async def test_killing_the_editor_ends_it(heir: str) -> None:
    """Also where a process that the editor started holds the other end of the pipe."""
    editor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EDITOR, heir, *COMMAND, stdout=asyncio.subprocess.PIPE
    )
    assert editor.stdout
    server, kept = map(int, (await editor.stdout.readline()).split())
    try:
        editor.kill()
        await editor.wait()
        await until(lambda: not command_of(server))
    finally:
        for process in {server, kept} - {0}:
            if command_of(process):
                os.kill(process, signal.SIGKILL)


async def being_answered(server: Raw, fake: FakeServer) -> None:
    server.open("file:///nowhere/a.py", "x = ")
    where = {"textDocument": {"uri": "file:///nowhere/a.py"}, "position": {"line": 0, "character": 4}}
    server.send("textDocument/inlineCompletion", {**where, "context": {"triggerKind": 1}}, id=99)
    await fake.arrived(1)


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # about processes that aren't ours
            await asyncio.sleep(0.05)


def command_of(process: int) -> str:
    """Empty once it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""

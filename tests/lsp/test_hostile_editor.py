"""An editor that says what makes no sense, much too much of it, or too late: the language server goes on."""

import asyncio
import json
from pathlib import Path

from lsprotocol import types

from tests.lsp.editor import Buffer, Invoked, editor
from tests.lsp.fake_server import HOLD, FakeServer
from tests.lsp.raw import Raw, raw

URI = "file:///nowhere/a.py"


def change(
    uri: str, text: str, start: tuple[int, int] | None = None, end: tuple[int, int] = (0, 0), version: int | None = 2
) -> dict[str, object]:
    where = start and {"start": dict(zip(POSITION, start, strict=True)), "end": dict(zip(POSITION, end, strict=True))}
    about = {"uri": uri, "version": version}
    return {"textDocument": about, "contentChanges": [{"text": text, **({"range": where} if where else {})}]}


POSITION = ("line", "character")


async def test_versions_that_go_back_and_ranges_beyond_the_end(fake: FakeServer) -> None:
    async with raw() as server:
        await server.start(serverUrl=fake.url, debounceMs=0)
        server.open(URI, "ab")
        server.send("textDocument/didChange", change(URI, "c", (7, 3), (9, 9), version=-4))
        server.send("textDocument/didChange", change(URI, "d", (0, 999), (0, 999), version=2**31 - 1))
        server.send("textDocument/didChange", change(URI, "e", (0, 4), (0, 1), version=1))
        assert await server.ghost(URI, 99, 99) == "completed"
        assert fake.prompts == ["abcde"]
        server.open(URI, "opened again")
        await server.ghost(URI, 0, 12)
        assert fake.prompts[1:] == ["opened again"]


async def test_what_makes_no_sense_is_passed_over_and_no_code_of_it_gets_into_the_log(fake: FakeServer) -> None:
    """pygls writes what it can't read into its own log, whole."""
    async with raw() as server:
        await server.start(serverUrl=fake.url, debounceMs=0)
        server.open(URI, "x = ")
        nonsense: list[object] = [
            [],
            [1, 2],
            {"jsonrpc": "1.0", "method": "exit"},
            {"jsonrpc": "2.0"},
            {"jsonrpc": "2.0", "id": {"a": 1}, "result": "pa55word"},
            {"jsonrpc": "2.0", "id": 77, "result": "pa55word"},
            {"jsonrpc": "2.0", "method": "nobody/knows", "params": {"text": "pa55word"}},
            {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"contentChanges": "pa55word"}},
            {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": change(URI, "pa55word", (-1, 0))},
            {"jsonrpc": "2.0", "method": "textDocument/didChange", "params": change("", "pa55word")},
            {"jsonrpc": "2.0", "method": "textDocument/didShowCompletion", "params": {"item": "pa55word"}},
            {"jsonrpc": "2.0", "method": "workspace/didChangeConfiguration", "params": {"settings": ["pa55word"]}},
            {"jsonrpc": "2.0", "method": "workspace/didChangeWorkspaceFolders", "params": {"event": "pa55word"}},
        ]
        for message in nonsense:
            server.send_body(json.dumps(message).encode())
        server.send_body(b"pa55word, which is no JSON")
        server.send_body(b"[" * 100_000)
        assert await server.ghost(URI, 0, 4) == "completed"
        assert "pa55word" not in server.stderr and "Traceback" not in server.stderr


async def test_a_storm_of_cancels(fake: FakeServer) -> None:
    """Of requests that never were, and of some that are taken back at once: those are hardly ever sent."""
    fake.default = HOLD
    async with raw() as server:
        await server.start(serverUrl=fake.url, debounceMs=0)
        server.open(URI, "a")
        where = {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 1}}
        for number in range(10_000, 15_000):
            if number % 10 == 0:
                server.send("textDocument/inlineCompletion", {**where, "context": {"triggerKind": 1}}, id=number)
            server.send("$/cancelRequest", {"id": number})
        await server.request("homespun/status")
        fake.default = "well"
        server.send("textDocument/didChange", change(URI, "b", (0, 1), (0, 1)))
        assert await server.ghost(URI, 0, 2) == "well"
    assert len(fake.requests) < 100


async def test_a_hundred_kilobytes_in_one_key(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("x = |\n")
        fake.default = "y" * 9_000
        item = await buffer.ghost()
        assert item
        buffer.insert(item)  # accepted, and followed through what comes now
        buffer.type("z" * 100_000)
        buffer.type("\n" * 100_000)
        fake.default = "well"
        item = await buffer.ghost(Invoked)
        assert item and item.insert_text == "well"
        assert len(fake.prompts[-1]) <= 8_000
        buffer.save()
        buffer.close()


async def test_documents_that_are_not_open_are_no_documents(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("x|")
        buffer.close()
        buffer.type("y")
        buffer.save()
        assert await buffer.ghost(Invoked) is None
        buffer.close()
        assert not fake.requests and session.log == []


async def test_folders_of_the_workspace_come_and_go(fake: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "src/a.py"
    paths: list[str] = []

    async def ask_after(buffer: Buffer, added: list[Path], removed: list[Path]) -> None:
        event = types.WorkspaceFoldersChangeEvent(
            added=[folder(p) for p in added], removed=[folder(p) for p in removed]
        )
        buffer.client.workspace_did_change_workspace_folders(types.DidChangeWorkspaceFoldersParams(event=event))
        buffer.type("b")
        assert await buffer.ghost(Invoked)
        paths.append(fake.requests[-1].body["homespun"]["path"])

    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        buffer = session.open("a|", file)
        await ask_after(buffer, [tmp_path], [])
        await ask_after(buffer, [tmp_path / "src"], [tmp_path])
        await ask_after(buffer, [], [tmp_path / "src", tmp_path / "never"])
    assert paths == ["src/a.py", "a.py", file.as_posix()]


def folder(path: Path) -> types.WorkspaceFolder:
    return types.WorkspaceFolder(uri=path.as_uri(), name=path.name)


async def test_thousands_of_documents_leave_nothing_behind(fake: FakeServer) -> None:
    """Opened, written in, some of them asked about and accepted, and closed: afterwards as much memory as after the
    first five hundred, though the others were many times as large. (10,000 take as little.)"""
    async with raw() as server:
        await server.start(serverUrl=fake.url, debounceMs=0)
        await live_through(server, range(500))
        before = server.resident_mb
        await live_through(server, range(500, 2_500))
        assert server.resident_mb - before < 8


async def live_through(server: Raw, numbers: range) -> None:
    """20 kB of text in each of them, once typed in."""
    for number in numbers:
        uri = f"file:///nowhere/folder{number}/file{number}.py"
        server.open(uri, f"value_{number} = compute(other_{number})\n" * 500)
        server.send("textDocument/didChange", change(uri, "x", (0, 0)))
        if number % 20 == 0:
            ghost = await server.ghost(uri, 0, 1)
            server.send("textDocument/didChange", change(uri, ghost, (0, 1), (0, 1)))
        server.close(uri)
        if number % 100 == 0:
            await server.stdin.drain()
            assert (await server.request("homespun/status"))["state"] in ("ready", "connecting")
    await asyncio.sleep(0.5)

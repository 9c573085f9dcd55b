"""Where the options come from, what is said about bad ones, and that secrets stay secret."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from lsprotocol import types
from pytest_lsp.client import client_capabilities

from tests.lsp.editor import COMMAND, Invoked, editor
from tests.lsp.fake_server import FakeServer, fake_server

PULL = types.ClientCapabilities(workspace=types.WorkspaceClientCapabilities(configuration=True))


async def test_address_and_token_come_from_the_environment(fake: FakeServer) -> None:
    environ = {"HOMESPUN_SERVER_URL": fake.url + "/", "HOMESPUN_API_TOKEN": "from-environment"}
    async with editor(environ=environ) as session:
        assert await session.open("x = |").ghost()
    assert fake.requests[0].headers["authorization"] == "Bearer from-environment"


async def test_options_can_be_pulled_and_change_while_running(fake: FakeServer) -> None:
    async with (
        fake_server() as other,
        editor(capabilities=PULL, configuration={"serverUrl": fake.url, "token": "one"}) as session,
    ):
        buffer = session.open("|")
        buffer.type("a")
        assert await buffer.ghost()
        session.client.set_configuration({"serverUrl": other.url, "token": "two"}, section="homespun")
        session.configure(None)
        while not other.requests:
            buffer.type("b")
            await buffer.ghost()  # nothing, where the change overtakes it
        assert fake.requests[-1].headers["authorization"] == "Bearer one"
        assert other.requests[0].headers["authorization"] == "Bearer two"


async def test_nothing_goes_to_the_default_server_before_the_editor_said_which_one(fake: FakeServer) -> None:
    may_tell = asyncio.Event()

    async def told_late(*params: object) -> list[object]:
        await may_tell.wait()
        return [{"serverUrl": other.url}]

    async with (
        fake_server() as other,
        editor(capabilities=PULL, answers=told_late, serverUrl=fake.url, token="t", debounceMs=0) as session,
    ):
        buffer = session.open("x = |")
        session.client.protocol.notify("textDocument/didFocus", {"textDocument": {"uri": buffer.uri}})
        assert not (await buffer.menu()).items
        asked = buffer.ask()
        assert not (await buffer.menu()).items
        may_tell.set()
        assert await asked
        assert other.requests and not (fake.requests or fake.questions)


async def test_an_editor_that_says_its_settings_at_once_is_not_waited_for(fake: FakeServer) -> None:
    """VS Code: and a setting that is taken back later is the default again, not what it was at the start."""
    may_tell = asyncio.Event()

    async def told_late(*params: object) -> list[object]:
        await may_tell.wait()
        return [{"debounceMs": 0}]

    first = {"serverUrl": fake.url, "languages": {"*": False}, "token": "t"}
    environ = {"HOMESPUN_SERVER_URL": fake.url}
    async with editor(capabilities=PULL, answers=told_late, environ=environ, untilConfigured=first) as session:
        buffer = session.open("x = |")
        assert await buffer.ghost(trigger=Invoked)
        assert fake.requests[0].headers["authorization"] == "Bearer t"
        buffer.type("y")
        assert not await buffer.ghost()
        may_tell.set()
        while not await buffer.ghost():
            buffer.type("z")
        assert "authorization" not in fake.requests[-1].headers


async def test_the_status_stays_that_of_the_file_in_front_when_options_change(fake: FakeServer) -> None:
    async with fake_server() as other, editor(serverUrl=fake.url, debounceMs=0) as session:
        rules = {"servers": {"/nowhere": {"serverUrl": other.url}}}
        session.configure({"homespun": rules})
        assert await session.open("x = |").ghost()
        session.configure({"homespun": rules | {"debounceMs": 1}})
        status = await session.client.protocol.send_request_async("homespun/status", {})  # type: ignore[no-untyped-call]
        assert status.server == other.url


@pytest.mark.parametrize("name", ["visual-studio-code", "neovim", "emacs"])
async def test_real_editors_get_only_what_they_say_they_understand(fake: FakeServer, name: str) -> None:
    """pytest-lsp compares every message with the capabilities; its warnings are errors here."""
    capabilities = client_capabilities(name)
    async with editor(
        capabilities=capabilities, configuration={"serverUrl": fake.url}, completionDeadlineMs=60_000
    ) as session:
        workspace = capabilities.workspace
        assert workspace
        if workspace.did_change_configuration and workspace.did_change_configuration.dynamic_registration:
            registration = await session.registered.get()
            assert registration.method == types.WORKSPACE_DID_CHANGE_CONFIGURATION
        session.configure({"homespun": {"serverUrl": fake.url}})
        found = await session.open("x = |").menu()
        assert found.items


async def test_options_can_be_pushed(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url) as session:
        buffer = session.open("x = |")
        session.configure({"homespun": {"enable": False}, "python": {"path": "x"}})
        assert await buffer.ghost() is None
        session.configure({"homespun": {"enable": True}})
        assert await buffer.ghost()
        assert session.log == []


async def test_what_is_no_longer_pushed_is_no_longer_set(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url) as session:
        session.configure({"homespun": {"enable": False}})
        buffer = session.open("x = |")
        assert await buffer.ghost() is None
        session.configure({"homespun": {}})
        assert await buffer.ghost()


async def test_a_push_of_nothing_but_a_misspelt_option_warns(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url) as session:
        session.configure({"homespun": {"enabel": True}})
        assert "did you mean 'enable'" in (await session.logged(1))[0]


async def test_a_bad_option_warns_once_by_name_and_the_rest_holds(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs="soon", maxTokns=5) as session:
        assert await session.open("x = |").ghost()
        session.configure({"homespun": {"debounceMs": "later"}})
        session.configure({"homespun": {"debounceMs": -1, "enable": "yes"}})
        log = await session.logged(3)
        assert await session.open("y = |").ghost()
        assert [line.split(":")[1] for line in log] == [
            " option 'debounceMs'",
            " option 'maxTokns'",
            " option 'enable'",
        ]
        assert "did you mean 'maxTokens'" in log[1]


async def test_secrets_and_code_are_never_logged(
    fake: FakeServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With everything that is logged turned on, and with the kinds of failure that log something."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\nurl = https://me:t0ps3cret@example.com/t/p.git\n')
    fake.replies.extend([401, {"odd": "t0ps3cret"}, "t0ps3cret"])
    environ = {"HOMESPUN_LOG_LEVEL": "debug", "HOMESPUN_API_TOKEN": "t0ps3cret"}
    async with editor(environ=environ, serverUrl=fake.url, token="t0ps3cret", debounceMs=0) as session:
        buffer = session.open("password = 't0ps3cret|'", tmp_path / "a.py")
        for letter in "abc":
            buffer.type(letter)
            await buffer.ghost(Invoked)
        session.configure({"homespun": {"token": ["t0ps3cret"], "serverUrl": "http://me:t0ps3cret@host"}})
        log = await session.logged(5)
    assert len(fake.requests) == 3
    captured = capfd.readouterr()
    assert "characters sent" in captured.err
    assert not [line for line in (*log, captured.err, captured.out) if "t0ps3cret" in line]


async def test_a_proxy_never_sees_what_goes_to_this_machine(fake: FakeServer) -> None:
    async with fake_server() as proxy:
        environ = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": proxy.url, "NO_PROXY": ""}
        async with editor(environ=environ, serverUrl=fake.url) as session:
            assert await session.open("x = |").ghost()
        assert proxy.requests == []


def run(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_a_repository_cannot_say_where_code_and_token_are_sent(tmp_path: Path) -> None:
    """Editors start the language server in the repository that is open; its homespun.toml is not the developer's."""
    (tmp_path / "homespun.toml").write_text('server_url = "not even an address"\n')
    assert run(cwd=tmp_path).stderr == ""
    refused = run("--config", "homespun.toml", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "server_url: is not an http:// or https:// address" in refused.stderr


def test_nothing_but_the_protocol_is_written_to_standard_output(tmp_path: Path) -> None:
    code = "import os, subprocess; from homespun_lsp.cli import _claim_stdout as claim; out = claim();"
    code += "print('print'); os.write(1, b'write'); subprocess.run(['echo', 'child']); out.write(b'protocol')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "protocol"


def test_importing_the_verb_imports_neither_pygls_nor_httpx() -> None:
    code = "import sys, homespun_lsp.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"pygls", "lsprotocol", "httpx", "attrs", "cattrs", "asyncio"}


@pytest.mark.parametrize(("rule", "file"), [("link", "real"), ("real", "link")])
async def test_a_folder_is_the_same_over_a_link(fake: FakeServer, tmp_path: Path, rule: str, file: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with editor(serverUrl=fake.url, servers={str(tmp_path / rule): {"enable": False}}) as session:
        assert await session.open("x = |", tmp_path / file / "a.py").ghost() is None
    assert fake.requests == []

"""What editors ask about server and user, over the protocol."""

import asyncio
from collections import deque
from typing import Any

import pytest
from lsprotocol import types

from homespun_lsp.account import is_wanted
from tests.lsp.editor import Editor, Invoked, editor
from tests.lsp.fake_server import FakeServer, fake_server
from tests.lsp.signin.test_device import CODE, TOKEN, error


async def ask(session: Editor, method: str, params: object = None) -> Any:
    return as_dict(await session.client.protocol.send_request_async(method, params))  # type: ignore[no-untyped-call]


async def execute(session: Editor, command: str) -> Any:
    params = types.ExecuteCommandParams(command=command, arguments=[])
    return as_dict(await session.client.workspace_execute_command_async(params))


def as_dict(value: Any) -> Any:
    return {k: as_dict(v) for k, v in value._asdict().items()} if hasattr(value, "_asdict") else value


async def test_signing_in_from_the_editor_and_out_again(fake: FakeServer, tmp_path: Any) -> None:
    models = {"data": [{"id": "m", "owned_by": "homespun"}]}
    fake.pages["/v1/models"] = deque([401, models])
    fake.pages["/oauth/device/code"] = CODE | {"interval": 0.1}
    fake.pages["/oauth/token"] = deque([error("authorization_pending"), TOKEN])
    environ = {"XDG_STATE_HOME": str(tmp_path), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    async with editor(serverUrl=fake.url, environ=environ, sendStatus="on", debounceMs=0) as session:
        buffer = session.open("x = |")
        assert await buffer.ghost() is None
        assert (await ask(session, "homespun/status"))["state"] == "signed out"
        assert await ask(session, "checkStatus", {}) == {"status": "NotSignedIn"}

        invited = await ask(session, "signIn", {})
        assert (invited["userCode"], invited["status"]) == ("WDJB-MJHT", "PromptUserDeviceFlow")
        assert invited["verificationUri"] == CODE["verification_uri"]
        assert await execute(session, invited["command"]["command"]) == {"status": "OK"}
        assert await buffer.ghost()
        assert fake.requests[-1].headers["authorization"] == "Bearer t0ken"
        await session.is_told("ready")
        assert [told.state for told in session.statuses] == ["connecting", "signed out", "ready"]
        assert (await execute(session, "homespun.signIn"))["status"] == "AlreadySignedIn"

        fake.pages |= {"/oauth/revoke": {}, "/v1/models": 401}
        assert (await execute(session, "homespun.signOut"))["status"] == "NotSignedIn"
        (revoked,) = [question for question in fake.questions if question.path == "/oauth/revoke"]
        assert revoked.body["token"] == "t0ken"
        await session.is_told("signed out")
        assert list(tmp_path.rglob("*.json")) == []


async def test_a_denied_sign_in_is_a_line_in_the_log(fake: FakeServer, tmp_path: Any) -> None:
    fake.pages["/v1/models"] = 401
    fake.pages["/oauth/device/code"] = CODE | {"interval": 0.1}
    fake.pages["/oauth/token"] = error("access_denied")
    async with editor(serverUrl=fake.url, environ={"XDG_STATE_HOME": str(tmp_path)}) as session:
        await session.logged(1)
        assert (await execute(session, "homespun.signIn"))["userCode"]
        assert await execute(session, "homespun.finishSignIn") == {"status": "NotSignedIn"}
        assert any("denied" in line for line in session.log)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"token": "t"}, "remove it"), ({"backend": "ollama"}, "option 'token'"), ({"enable": False}, "enable it")],
)
async def test_where_signing_in_would_change_nothing_it_says_why(fake: FakeServer, options: Any, told: str) -> None:
    async with editor(serverUrl=fake.url, **options) as session:
        result = await execute(session, "homespun.signIn")
        assert result["status"] == "Error" and told in result["message"]


async def test_the_status_follows_the_server_and_the_user(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, sendStatus="on", debounceMs=0) as session:
        await session.is_told("ready")
        fake.replies.append(500)
        await session.open("x = |").ghost()
        await session.is_told("failing")
        await session.open("y = |").ghost(Invoked)
        await session.is_told("ready")
        session.configure({"homespun": {"enable": False}})
        await session.is_told("paused")
        session.configure({"homespun": {"enable": True}})
        await session.is_told("ready")
        kinds = {told.state: (told.kind, told.busy) for told in session.statuses}
    assert kinds["ready"] == ("Normal", False)
    assert kinds["failing"] == ("Error", False)
    assert kinds["paused"] == ("Inactive", False)


async def test_a_server_that_is_no_longer_in_the_options_is_left_alone(fake: FakeServer) -> None:
    fake.pages["/v1/models"] = 503
    async with fake_server() as other, editor(serverUrl=fake.url, sendStatus="on", debounceMs=0) as session:
        await session.is_told("starting")
        session.configure({"homespun": {"serverUrl": other.url}})
        await session.is_told("ready")
        asked = len(fake.questions)
        await asyncio.sleep(2.5)  # twice the time after which a server in trouble is asked again
        assert len(fake.questions) == asked
        reply = await ask(session, "homespun/status")
        assert len(reply["servers"]) == 1
        assert len(session.log) == 1, "the other's trouble, once"


async def test_an_editor_that_would_complain_is_not_told_of_its_own_accord(fake: FakeServer) -> None:
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        assert await session.open("x = |").ghost()
        assert (await ask(session, "homespun/status"))["kind"] == "Normal"
        assert session.statuses == []


@pytest.mark.parametrize(
    ("option", "name", "initial", "wanted"),
    [
        ("auto", "Neovim", None, True),
        ("auto", "Visual Studio Code", {}, True),
        ("auto", "emacs", {"serverUrl": "http://x"}, False),
        ("auto", "emacs", {"editorInfo": {"name": "emacs"}}, True),
        ("auto", "", None, False),
        ("off", "Neovim", {"editorInfo": {}}, False),
        ("on", "emacs", None, True),
    ],
)
def test_who_is_told(option: str, name: str, initial: object, wanted: bool) -> None:
    assert is_wanted(option, name, initial) is wanted


async def test_each_file_asks_its_own_server_and_what_becomes_of_it_is_told_there(
    fake: FakeServer, tmp_path: Any
) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name / ".git").mkdir(parents=True)
        config = f'[remote "origin"]\nurl = git@git.example.com:{name}/code.git\n'
        (tmp_path / name / ".git" / "config").write_text(config)
    async with fake_server() as other:
        body = {"choices": [{"text": "completed"}]}
        fake.default, other.default = body | {"id": "cmpl-ours"}, body | {"id": "cmpl-theirs"}
        servers = {"git.example.com/theirs": {"serverUrl": other.url}}
        async with editor(serverUrl=fake.url, token="ours", servers=servers, debounceMs=0) as session:
            for name in ("ours", "theirs"):
                buffer = session.open("x = |", tmp_path / name / "a.py")
                item = await buffer.ghost()
                assert item
                buffer.insert(item)
            assert (await ask(session, "homespun/status"))["server"] == other.url
            focus = {"textDocument": {"uri": (tmp_path / "ours" / "a.py").as_uri()}}
            session.client.protocol.notify("textDocument/didFocus", focus)
            assert (await ask(session, "homespun/status"))["server"] == fake.url
        events = [
            {event["completion"] for event in request.body["events"]}
            for server in (fake, other)
            for request in server.requests
            if request.path == "/v1/homespun/events"
        ]
        assert events == [{"cmpl-ours"}, {"cmpl-theirs"}]
        assert other.requests[0].headers.get("authorization") is None
        assert [request.body["homespun"]["repo"] for request in other.requests if "prompt" in request.body] == [
            "git@git.example.com:theirs/code.git"
        ]

"""`homespun login`, `logout` and `whoami`, as a person runs them."""

import asyncio
import os
import sys
from collections import deque
from pathlib import Path

import pytest

from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer
from tests.lsp.signin.test_device import CODE, TOKEN, error


class Terminal:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("HOMESPUN_")} | {
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        }

    async def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "homespun_core.cli", *words,
            env=self.environ, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


async def test_sign_in_edit_and_sign_out(fake: FakeServer, terminal: Terminal) -> None:
    fake.pages["/oauth/device/code"] = CODE | {"interval": 0.1}
    fake.pages["/oauth/token"] = deque([error("authorization_pending"), TOKEN])
    status, out, err = await terminal.run("login", fake.url)
    assert (status, err) == (0, "")
    assert "WDJB-MJHT" in out and "https://code.example.com/oauth/device" in out and "Signed in" in out
    assert "t0ken" not in out
    async with editor(serverUrl=fake.url, environ=terminal.environ) as session:
        assert await session.open("x = |").ghost()
    assert fake.requests[0].headers["authorization"] == "Bearer t0ken"

    assert (await terminal.run("whoami", fake.url))[0] == 0
    assert fake.questions[-1].headers["authorization"] == "Bearer t0ken"

    fake.pages["/oauth/revoke"] = {}
    assert await terminal.run("logout", fake.url) == (0, f"Signed out of {fake.url}.\n", "")
    assert fake.questions[-1].body["token"] == "t0ken"
    assert list((terminal.home / "state").rglob("*.json")) == []
    assert (await terminal.run("logout", fake.url))[1] == f"Not signed in to {fake.url}.\n"


async def test_a_refused_sign_in_is_one_line_and_keeps_nothing(fake: FakeServer, terminal: Terminal) -> None:
    fake.pages["/oauth/device/code"] = CODE | {"interval": 0.1}
    fake.pages["/oauth/token"] = error("access_denied")
    status, _, err = await terminal.run("login", fake.url)
    assert status == 1 and "denied" in err and err.count("\n") == 1
    assert list((terminal.home / "state").rglob("*.json")) == []


async def test_a_token_of_an_administrator_is_read_from_standard_input_and_tried(
    fake: FakeServer, terminal: Terminal
) -> None:
    status, out, _ = await terminal.run("login", fake.url, "--token", stdin="adm1n\n")
    assert status == 0 and "adm1n" not in out
    assert fake.questions[-1].headers["authorization"] == "Bearer adm1n"
    fake.pages["/v1/models"] = 401
    status, _, err = await terminal.run("login", fake.url, "--token", stdin="wr0ng\n")
    assert status == 1 and "refuses this token" in err and "wr0ng" not in err
    status, _, err = await terminal.run("whoami", fake.url)
    assert status == 1 and "doesn't let you in" in err
    assert (await terminal.run("login", fake.url, "--token", stdin=""))[0] == 1


async def test_people_are_told_where_a_server_keeps_their_completions(fake: FakeServer, terminal: Terminal) -> None:
    keeps = {"keeps_completions": ["shop", "web"]}
    fake.pages["/v1/models"] = {"data": [{"id": "m", "owned_by": "homespun"}]} | keeps
    fake.pages["/v1/homespun/me"] = {"name": "ada", "role": "developer"} | keeps
    said = f"{fake.url} keeps completions that were shown in shop, web, with their prompts."
    assert said in (await terminal.run("whoami", fake.url))[1]
    async with editor(serverUrl=fake.url, environ=terminal.environ) as session:
        assert await session.open("x = |").ghost()
        assert await session.open("y = |").ghost()
        assert session.log.count(f"Homespun: {said}") == 1


async def test_people_are_told_why_an_adapter_of_their_own_is_not_served(fake: FakeServer, terminal: Terminal) -> None:
    """It was called live."""
    answer = {"wanted": True, "adapters": {"shop": "v1", "web": "v2", "api": None}}
    fake.pages["/v1/homespun/me/adapter"] = answer | {"not_served": {"web": "was trained on what you may not read"}}
    status, out, _ = await terminal.run("personal", "show", fake.url)
    assert status == 0 and out.splitlines()[1:] == [
        "  shop: v1 is live",
        "  web: you are not served with v2: it was trained on what you may not read",
        "  api: none is live",
    ]
    fake.pages["/v1/homespun/me/adapter"] = answer  # of a server that doesn't say
    assert "  web: v2 is live" in (await terminal.run("personal", "show", fake.url))[1]


async def test_the_server_may_stand_in_the_users_own_file(fake: FakeServer, terminal: Terminal) -> None:
    own = terminal.home / "config" / "homespun" / "editor.toml"
    own.parent.mkdir(parents=True)
    own.write_text(f'serverUrl = "{fake.url}"\ndebounceMs = 0\n')
    status, out, _ = await terminal.run("whoami")
    assert status == 0 and fake.url in out and "without a token" in out
    terminal.environ["HOMESPUN_API_TOKEN"] = "fr0m-env"
    async with editor(environ=terminal.environ) as session:
        assert await session.open("x = |").ghost()
    assert fake.requests[0].headers["authorization"] == "Bearer fr0m-env"
    assert "HOMESPUN_API_TOKEN" in (await terminal.run("whoami"))[1]
    terminal.environ["HOMESPUN_SERVER_URL"] = "http://127.0.0.1:9"
    assert "http://127.0.0.1:9" in (await terminal.run("whoami"))[2]


@pytest.mark.parametrize(
    "content", ["serverUrl =", 'serverUrl = "code"', 'serverUlr = "https://x"', "[servers]\nx = 1", 'token = "t"']
)
async def test_an_own_file_that_makes_no_sense_stops_before_anything_is_sent(terminal: Terminal, content: str) -> None:
    own = terminal.home / "config" / "homespun" / "editor.toml"
    own.parent.mkdir(parents=True)
    own.write_text(content)
    status, _, err = await terminal.run("whoami")
    assert status == 1 and "editor.toml" in err and err.count("\n") == 1


async def test_an_unreachable_server_and_a_bad_address_are_one_line(terminal: Terminal) -> None:
    for words in (("login", "http://127.0.0.1:9"), ("whoami", "http://127.0.0.1:9"), ("login", "code.example.com")):
        status, out, err = await terminal.run(*words)
        assert (status, out) == (1, "") and err.count("\n") == 1


async def test_signing_out_works_without_the_server(terminal: Terminal, fake: FakeServer) -> None:
    await terminal.run("login", fake.url, "--token", stdin="t\n")
    status, out, err = await terminal.run("logout", fake.url)
    assert status == 0 and "Signed out" in out and "revoked" in err


async def test_a_token_goes_to_the_server_it_was_set_with_and_to_no_other(fake: FakeServer, terminal: Terminal) -> None:
    terminal.environ |= {"HOMESPUN_SERVER_URL": "http://127.0.0.1:9", "HOMESPUN_API_TOKEN": "of-another"}
    await terminal.run("whoami", fake.url)
    assert fake.questions and not [asked for asked in fake.questions if "authorization" in asked.headers]
    del terminal.environ["HOMESPUN_SERVER_URL"]
    assert (await terminal.run("whoami", fake.url))[0] == 0
    assert fake.questions[-1].headers["authorization"] == "Bearer of-another", "one set alone is for whichever is named"

"""From `homespun login` to a suggestion and back, against the real server: code, page, token, revocation."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import Running, homespun, running
from tests.lsp.editor import editor

pytestmark = pytest.mark.e2e


class Browser:
    """Fills in forms; `http` keeps the cookies."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._origin = {"Origin": str(http.base_url).rstrip("/")}

    def submit(self, path: str, action: str, **values: str) -> str:
        page = self._http.get(path).text
        form = next(found for found in re.findall(r"<form.*?</form>", page, re.DOTALL) if f'action="{action}"' in found)
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
        response = self._http.post(action, data=hidden | values, headers=self._origin)
        assert response.is_success, response.text
        return response.text


def token_of_ada(root: Path) -> str:
    assert homespun("user", "add", "ada", "--role", "admin", "--data-dir=data", cwd=root).returncode == 0
    scopes = ("--scope", "admin", "--scope", "complete")
    made = homespun("token", "create", "ada", *scopes, "--data-dir=data", cwd=root)
    found = re.search(r"homespun_\S+", made.stdout)
    assert found, made.stdout + made.stderr
    return found.group()


async def test_sign_in_complete_and_sign_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    for name, value in state.items():
        monkeypatch.setenv(name, value)
    admin = token_of_ada(tmp_path)
    with running("serve", "--port=0", "--data-dir=data", cwd=tmp_path) as server:
        url = address_of(server)
        assert homespun("whoami", url, cwd=tmp_path).returncode == 1
        with (
            running("login", url, cwd=tmp_path) as login,
            httpx.Client(base_url=url, timeout=60, follow_redirects=True, trust_env=False) as http,
        ):
            page = login.wait_for("or open ").split()[2]
            browser = Browser(http)
            browser.submit("/signin", "/signin/token", token=admin)
            assert "Signed in" in browser.submit(page, "/oauth/device", decision="approve")
            login.wait_for(f"Signed in to {url}")
            assert login.process.wait(60) == 0
        who = homespun("whoami", url, cwd=tmp_path)
        assert who.returncode == 0 and "ada" in who.stdout
        async with editor(serverUrl=url, environ=state, debounceMs=0, timeoutMs=60_000) as session:
            assert await session.open("def add(a, b):\n    return |\n", "/sample.py").ghost()
            assert homespun("logout", url, cwd=tmp_path).returncode == 0
            while not session.log:  # tokens end within seconds
                await session.open("def sub(a, b):\n    return |\n").ghost()
            assert "refuses the token" in session.log[0]
    assert list((tmp_path / "state" / "homespun" / "tokens").iterdir()) == []


def address_of(server: Running) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", server.wait_for("homespun is ready"))
    assert found
    return found.group()

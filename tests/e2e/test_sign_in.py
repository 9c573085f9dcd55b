"""From an empty terminal to completions: a real server, a certified identity provider, `homespun login`, a browser."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import Running, homespun, running
from tests.server.signin.certified import CLIENT_ID, CLIENT_SECRET, Browser, CertifiedProvider, certified_provider
from tests.server.signin.people import within_5_s

pytestmark = pytest.mark.e2e


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a server that nobody is let in to unasked."""
    with certified_provider() as provider:
        address = f"http://127.0.0.1:{_free_port()}"
        provider.restart(address)
        provider.add("ada-1", preferred_username="ada")
        for name, value in _settings(provider, address, tmp_path).items():
            monkeypatch.setenv(name, value)
        with running("serve", f"--port={address.rpartition(':')[2]}", cwd=tmp_path) as server:
            server.wait_for("homespun is ready")
            yield address


async def test_an_editor_is_signed_in_until_its_owner_is_deactivated(url: str, tmp_path: Path) -> None:
    with running("login", url, cwd=tmp_path) as login:
        address = await asyncio.to_thread(_asked_to_open, login)
        browser = Browser(None, url)
        await browser.sign_in("ada-1")
        page = await browser.get(address)
        assert "Is this your editor?" in page.text and socket.gethostname() in page.text
        assert "goes on by itself" in (await browser.submit(page, decision="approve")).text
        await asyncio.to_thread(login.wait_for, "Signed in to")
        assert await asyncio.to_thread(login.process.wait, 20) == 0
    (kept,) = [json.loads(file.read_text()) for file in (tmp_path / "state").rglob("*.json")]
    assert not any(kept["token"] in line for line in login.lines)
    editor = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {kept['token']}"}, timeout=60)
    body = {"prompt": "def add(a, b):\n    return", "max_tokens": 4}
    assert (await editor.post("/v1/completions", json=body)).status_code == 200

    done = await asyncio.to_thread(homespun, "user", "deactivate", "ada", cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    async def is_out() -> bool:
        return (await editor.post("/v1/completions", json=body)).status_code == 401

    assert await within_5_s(is_out)
    for client in (editor, browser.http):
        await client.aclose()


def _settings(provider: CertifiedProvider, address: str, folder: Path) -> dict[str, str]:
    return {
        "HOMESPUN_DATA_DIR": str(folder / "data"),
        "HOMESPUN_PUBLIC_URL": address,
        "HOMESPUN_OIDC_ISSUER": provider.issuer,
        "HOMESPUN_OIDC_CLIENT_ID": CLIENT_ID,
        "HOMESPUN_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }


def _asked_to_open(login: Running) -> str:
    found = re.search(r"http://\S+user_code=\S+", login.wait_for("user_code="))
    assert found
    return found.group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

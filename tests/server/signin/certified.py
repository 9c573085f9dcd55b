"""A certified OpenID provider (npm's oidc-provider) in a process of its own, and a browser that signs in there."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from fastapi import FastAPI

from homespun_core import storage
from tests.e2e.clients.node import NODE, installed

CLIENT_ID, CLIENT_SECRET = "homespun", "a-secret-of-the-tests"
OURS = "http://127.0.0.1:8080"


class CertifiedProvider:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.issuer = f"http://localhost:{self._answer()['port']}"
        self.restart()

    def restart(self, ours: str = OURS) -> None:
        """With new keys, and nobody signed in; for a server of ours at that address."""
        client = {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [f"{ours}/signin/callback"],
        }
        self._tell(command="start", client=client)

    def add(self, id: str, **claims: object) -> None:
        """Somebody, or what is true of them from now on."""
        self._tell(command="person", id=id, claims=claims)

    def _tell(self, **command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        assert self._answer() == {"done": command["command"]}

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # it also warns of what is for development only
                return json.loads(line)
        raise AssertionError("the provider has ended")


@contextmanager
def certified_provider() -> Iterator[CertifiedProvider]:
    process = subprocess.Popen(
        [NODE, _script()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield CertifiedProvider(process)
        finally:
            process.terminate()


def _script() -> Path:
    """Beside what it imports; written once, since other test processes may be reading it."""
    project = Path(__file__).with_name("provider")
    content = (project / "provider.js").read_bytes()
    script = installed(project) / f"provider-{hashlib.sha256(content).hexdigest()[:12]}.js"
    if not script.exists():
        storage.write_atomic(script, content.decode())
    return script


class Browser:
    """Follows redirects between us and the provider, keeps cookies, fills in forms."""

    def __init__(self, app: FastAPI | None, ours: str = OURS) -> None:
        """Without an application it goes to a server that listens there."""
        self._ours = ours
        self.http = httpx.AsyncClient(
            mounts={} if app is None else {f"{OURS}/": httpx.ASGITransport(app, raise_app_exceptions=False)},
            trust_env=False,
            follow_redirects=True,
            timeout=20,
        )

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(urljoin(self._ours, path))

    async def submit(self, page: httpx.Response, **values: str) -> httpx.Response:
        """The page's form, with what it has hidden in it."""
        forms = re.findall(r"<form.*?</form>", page.text, re.DOTALL)
        form = next(form for form in forms if 'action="/signout"' not in form)
        return await self._send(page, form, values)

    async def sign_out(self, page: httpx.Response) -> httpx.Response:
        form = next(f for f in re.findall(r"<form.*?</form>", page.text, re.DOTALL) if 'action="/signout"' in f)
        return await self._send(page, form, {})

    async def sign_in(self, person: str, next: str = "/signin") -> httpx.Response:
        """At the provider, to the end, which is the page that was wanted."""
        page = await self.get(f"/signin/start?next={next}")
        while urlsplit(str(page.url)).path.startswith("/interaction/"):
            page = await self.submit(page, login=person, password="any")
        return page

    async def _send(self, page: httpx.Response, form: str, values: dict[str, str]) -> httpx.Response:
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
        match = re.search(r'action="([^"]*)"', form)
        assert match is not None
        origin = f"{page.url.scheme}://{page.url.netloc.decode()}"
        address = urljoin(str(page.url), match[1])
        return await self.http.post(address, data=hidden | values, headers={"Origin": origin})

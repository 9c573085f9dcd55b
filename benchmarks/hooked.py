"""From a forge's hook to the server that serves what was pushed, for benchmarks/indexing.py: a git host over HTTP,
`homespun serve` and `homespun index --watch`, as processes of their own."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.paths import DataDir, repo_id

sys.path.append(str(Path(__file__).parents[1]))  # of the repository, for its tests
from tests.e2e.command import running
from tests.faults.git_host import hosting

_SECRET = "a-webhook-secret-of-the-benchmark"
_SETTINGS = f'data_dir = "data"\nwebhook_secret = "{_SECRET}"\nfetch_minutes = 600\n'
"""So that only a hook leads to a fetch."""
_LOOK_S = 0.005
_WAIT_S = 600
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Site:
    """An installation that follows a repository at its host, and the clone that is pushed from."""

    def __init__(self, clone: Path, bare: Path, url: str, server: str, data: DataDir) -> None:
        self._clone, self._bare, self._url, self._server, self._data = clone, bare, url, server, data

    @property
    def index(self) -> Path:
        found = storage.current(self._data.index(repo_id(self._url)))
        assert found is not None
        return found

    def push(self) -> float:
        """Push the clone's head; seconds from the hook, which the host would call then, until it is served."""
        head = _git(self._clone, "rev-parse", "HEAD").strip()
        _git(self._clone, "push", "--quiet", "--force", str(self._bare), "HEAD:main")
        started = time.perf_counter()
        self._call_hook()
        self.wait_for(head)
        return time.perf_counter() - started

    def wait_for(self, head: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while not any(repository.get("commit") == head for repository in self._served()):
            assert time.monotonic() < deadline, f"{head} isn't served"
            time.sleep(_LOOK_S)

    def _served(self) -> list[dict[str, Any]]:
        with _DIRECT.open(f"{self._server}/readyz", timeout=10) as answer:
            return list(json.load(answer).get("repositories", ()))

    def _call_hook(self) -> None:
        body = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": self._url}}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Gitea-Event": "push",
            "X-Gitea-Delivery": str(time.time()),
            "X-Gitea-Signature": hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest(),
        }
        _DIRECT.open(urllib.request.Request(f"{self._server}/hooks", body, headers), timeout=10).close()


@contextmanager
def following(clone: Path, folder: Path) -> Iterator[Site]:
    """Its first index is served in the block."""
    bare = folder / "host" / "pushed.git"
    bare.parent.mkdir(parents=True)
    _git(folder, "clone", "--quiet", "--bare", str(clone), str(bare))
    _git(bare, "branch", "--force", "main", "HEAD")
    _git(bare, "symbolic-ref", "HEAD", "refs/heads/main")
    (folder / "homespun.toml").write_text(_SETTINGS)
    with hosting(bare.parent) as host, running("serve", "--port=0", cwd=folder) as serve:
        server, url = serve.wait_for("is ready:").split()[-1], host.url("pushed.git")
        with running("index", "--watch", url, cwd=folder):
            site = Site(clone, bare, url, server, DataDir(folder / "data"))
            site.wait_for(_git(bare, "rev-parse", "HEAD").strip())
            yield site


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout

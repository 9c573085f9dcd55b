"""From a push to completions that know it: a forge's hook, the fetch it leads to, and a training that becomes due."""

from __future__ import annotations

import functools
import hashlib
import hmac
import http.server
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homespun_core import storage
from homespun_core.paths import DataDir, repo_id
from homespun_core.retraining import read_ledger
from homespun_core.types import SearchQuery
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.tokenizer import load_tokenizer
from tests.e2e.command import homespun, running
from tests.e2e.company import make_company
from tests.repos import commit, git
from tests.tiny_base import make_base

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SECRET = "0p3n-sesame"
SETTINGS = (
    "--data-dir=data",
    "--fetch-minutes=60",  # so that only a hook can make it fetch
    "--train-minutes=0.05",
    "--eval-tasks=20",
    "--max-prompt-tokens=200",
    "--retrain-changed-kb=1",
    "--retrain-changed-percent=0",
    "--retrain-gap-hours=0",
    "--retrain-quiet-s=1",
)
NEW = "def mordant_for_indigo(vat: str) -> str:\n    return boil_with_alum_and_tartar(vat)\n" * 20


class Forge:
    """Serves bare repositories over git's plain HTTP protocol, and tells who asks for it about pushes."""

    def __init__(self, root: Path, url: str) -> None:
        self.work_tree, self._bare = make_company(root / "loomworks"), root / "forge" / "loomworks.git"
        self.url = f"{url}/loomworks.git"
        git(root, "clone", "--quiet", "--bare", str(self.work_tree), str(self._bare))
        git(self._bare, "update-server-info")

    def push(self, files: dict[str, str]) -> str:
        head = commit(self.work_tree, dict(files), "Add dyes", day=1_100)
        git(self.work_tree, "push", "--quiet", str(self._bare), "main")
        git(self._bare, "update-server-info")
        return head

    def call_hook(self, server: str, secret: str = SECRET) -> int:
        body = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": self.url}}).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-Gitea-Event": "push",
            "X-Gitea-Delivery": f"{time.time()}",
            "X-Gitea-Signature": signature,
        }
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{server}/hooks", body, headers), timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    handler = functools.partial(_Quiet, directory=str(tmp_path / "forge"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Forge(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


def indexed_commit(data: DataDir, repo: str) -> str:
    current = storage.current(data.index(repo))
    assert current is not None
    return str(json.loads((current / storage.MANIFEST).read_text())["sources"]["commit"])


def found(data: DataDir, repo: str, prefix: str) -> str:
    """What a search in the live index finds."""
    tokenizer = load_tokenizer(resolve_base_model("builtin", "auto"))
    current = storage.current(data.index(repo))
    assert current is not None
    with IndexReader.open(current, tokenizer) as index:
        query = SearchQuery(prefix=prefix, suffix="", path="loomworks/vats.py", language="python")
        return "\n".join(snippet.text for snippet in index.search(query, 3))


def wait_until(happened: Callable[[], bool], seconds: float, what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


@contextmanager
def up(forge: Forge, cwd: Path, settings: Sequence[str]) -> Iterator[str]:
    with running("up", forge.url, *settings, "--port=0", cwd=cwd) as process:
        yield str(re.search(r"ready on (\S+?);", process.wait_for("ready on"))[1])  # type: ignore[index]
        assert process.interrupt() == 0
    assert "Traceback" not in "\n".join(process.lines)


def test_a_push_is_found_and_then_learned(forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMESPUN_WEBHOOK_SECRET", SECRET)
    data, repo = DataDir(tmp_path / "data"), repo_id(forge.url)
    log, settings = data.log("retrain"), (*SETTINGS, f"--base-model={make_base(tmp_path / 'tiny')}")
    with up(forge, tmp_path, settings) as server:
        first = indexed_commit(data, repo)
        ledger = read_ledger(data.retraining(repo))
        assert ledger.last is not None and ledger.last.commit == first  # the first adapter was trained at once

        index_log = data.log("index")
        wait_until(lambda: index_log.is_file() and "chunks in" in index_log.read_text(), 60, index_log.read_text)
        pushed = forge.push({"loomworks/dyehouse.py": NEW})  # after the watcher's own first look, which fetches, too
        assert forge.call_hook(server, secret="wrong") == 401
        time.sleep(2)
        assert indexed_commit(data, repo) == first
        assert forge.call_hook(server) == 202
        wait_until(lambda: indexed_commit(data, repo) == pushed, 30, index_log.read_text)
        assert "boil_with_alum_and_tartar" in found(data, repo, "mordant_for_indigo(")

        def is_learned() -> bool:
            last = read_ledger(data.retraining(repo)).last
            return last is not None and last.commit == pushed

        wait_until(is_learned, 240, log.read_text)
    said = log.read_text()
    assert "kB have changed" in said and "Traceback" not in said
    reports = [json.loads(p.read_text()) for p in data.adapters(repo).glob("*/report.json")]
    assert sorted(report["corpus"]["head"] for report in reports) == sorted([first, pushed])
    dry = homespun("retrain", forge.url, *settings, "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0 and "nothing to train" in dry.stdout

"""Who can reach a server, and that what isn't committed yet stays on the machine where it was saved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles, SearchQuery, Tokenizer
from homespun_server.app import build_app
from homespun_server.exposure import is_private
from homespun_server.runtime import Runtime
from homespun_server.snapshots import SnapshotWatcher
from tests.server.access.gossip import GossipEngine
from tests.server.conftest import Indexed

TOKEN = "secret-canary-of-16"
PUBLIC = "https://homespun.example.com"
Serve = Callable[[Settings], SnapshotWatcher]


@pytest.fixture
def work(tmp_path: Path, builtin: ModelFiles, tokenizer: Tokenizer) -> Indexed:
    """An index that holds something saved and not committed."""
    made = Indexed(tmp_path, builtin, tokenizer)
    (made.work_tree / "secret.py").write_text("def canary_unsaid(order):\n    return order.canary_total\n")
    made.build()
    return made


@pytest.fixture
def serve(work: Indexed, builtin: ModelFiles, tokenizer: Tokenizer) -> Iterator[Serve]:
    """What a server of these settings serves of it."""
    made: list[Runtime] = []

    def serve(settings: Settings) -> SnapshotWatcher:
        app = build_app(settings, builtin, lambda model, settings: GossipEngine(tokenizer, str))
        made.append(app.state.runtime)
        loaded = threading.Event()
        made[-1].start(lambda _: loaded.set())
        assert loaded.wait(60) and made[-1].loaded is not None
        return made[-1].loaded.watcher

    yield serve
    for runtime in made:
        runtime.close()


def of(data: DataDir, host: str = "127.0.0.1", public_url: str = "") -> Settings:
    return Settings(data_dir=str(data.root), host=host, public_url=public_url, api_token=TOKEN)


def finds_it(watcher: SnapshotWatcher) -> bool:
    query = SearchQuery(prefix="canary_unsaid(order", suffix="", path=None, language=None)
    readers = [live.reader for live in watcher.repositories if live.reader is not None]
    return any("canary_total" in snippet.text for reader in readers for snippet in reader.search(query, 3))


@pytest.mark.parametrize(
    ("host", "public_url", "private"),
    [
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("::1", "http://localhost:8080", True),
        ("127.0.0.1", "http://127.0.0.1:8080", True),
        ("127.0.0.1", PUBLIC, False),  # a proxy in front
        ("0.0.0.0", "", False),
        ("10.1.2.3", "http://localhost:8080", False),
    ],
)
def test_a_server_is_private_where_neither_host_nor_public_url_leads_elsewhere(
    host: str, public_url: str, private: bool
) -> None:
    assert is_private(Settings(host=host, public_url=public_url)) is private


@pytest.mark.parametrize(("host", "public_url"), [("0.0.0.0", ""), ("127.0.0.1", PUBLIC)])
def test_a_server_that_others_reach_refuses_uncommitted_code_until_it_is_committed(
    work: Indexed, serve: Serve, host: str, public_url: str
) -> None:
    """Behind a proxy it was served."""
    watcher = serve(of(work.data, host, public_url))
    assert watcher.repositories == () and not finds_it(watcher)
    (why,) = watcher.problems
    assert "not committed" in why and "--no-uncommitted" in why and "public_url" in why
    work.commit("second")
    work.build()
    watcher.scan()
    assert finds_it(watcher) and watcher.problems == []


def test_a_server_on_loopback_serves_uncommitted_code(work: Indexed, serve: Serve) -> None:
    assert finds_it(serve(of(work.data)))


def test_what_was_served_before_stays_when_something_is_saved(work: Indexed, serve: Serve) -> None:
    work.commit("second")
    work.build()
    watcher = serve(of(work.data, "0.0.0.0"))
    before = watcher.repositories
    (work.work_tree / "later.py").write_text("def canary_later(order):\n    return order.canary_total\n")
    work.build()
    watcher.scan()
    assert watcher.repositories == before and "not committed" in watcher.problems[0]

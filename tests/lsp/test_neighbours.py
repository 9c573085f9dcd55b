"""Pieces of other open files that are sent along, with a real process."""

from pathlib import Path

import pytest

from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer

ORDER = "def place_order(basket, customer):\n    total = basket.total(customer.discount)\n    return Order(total)\n"
HERE = "def cancel_order(basket, customer):\n    total = basket.total(|\n"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / ".gitignore").write_text("scratch/\n")
    return tmp_path / "repo"


def sent(fake: FakeServer) -> list[str]:
    return [snippet["path"] for snippet in fake.requests[-1].body["homespun"].get("snippets", [])]


async def test_what_looks_like_it_in_another_open_file_is_sent_along(fake: FakeServer, repo: Path) -> None:
    async with editor(serverUrl=fake.url) as session:
        other = session.open("|" + ORDER, repo / "src" / "orders.py")
        await session.open(HERE, repo / "src" / "cancel.py").ghost()
        assert fake.requests[0].body["homespun"]["snippets"] == [{"path": "src/orders.py", "text": ORDER.strip()}]
        other.close()
        await session.open(HERE, repo / "src" / "later.py").ghost()
        assert sent(fake) == ["src/cancel.py"]


@pytest.mark.parametrize("path", ["repo/scratch/orders.py", "repo/.env", "elsewhere/orders.py"])
async def test_never_of_files_that_may_not_be_sent(fake: FakeServer, repo: Path, path: str) -> None:
    async with editor(serverUrl=fake.url) as session:
        session.open("|" + ORDER, repo.parent / path)
        await session.open(HERE, repo / "cancel.py").ghost()
    assert sent(fake) == []


async def test_it_can_be_turned_off(fake: FakeServer, repo: Path) -> None:
    async with editor(serverUrl=fake.url, editorContext=False) as session:
        session.open("|" + ORDER, repo / "orders.py")
        await session.open(HERE, repo / "cancel.py").ghost()
    assert sent(fake) == []


async def test_never_of_a_folder_that_is_switched_off(fake: FakeServer, repo: Path) -> None:
    async with editor(serverUrl=fake.url, servers={str(repo / "kept"): {"enable": False}}) as session:
        session.open("|" + ORDER, repo / "kept" / "orders.py")
        await session.open(HERE, repo / "cancel.py").ghost()
    assert sent(fake) == []


async def test_never_of_a_folder_that_was_switched_off_since(fake: FakeServer, repo: Path) -> None:
    async with editor(serverUrl=fake.url) as session:
        session.open("|" + ORDER, repo / "kept" / "orders.py")
        buffer = session.open(HERE, repo / "cancel.py")
        await buffer.ghost()
        assert sent(fake) == ["kept/orders.py"]
        session.configure({"homespun": {"servers": {str(repo / "kept"): {"enable": False}}}})
        buffer.type("x, \n")
        await buffer.ghost()
    assert len(fake.requests) == 2 and sent(fake) == []


async def test_they_stay_while_the_cursor_is_near(fake: FakeServer, repo: Path) -> None:
    """They stand at the start of the prompt: others would void what the server has computed of it."""
    async with editor(serverUrl=fake.url, debounceMs=0) as session:
        other = session.open("|" + ORDER, repo / "orders.py")
        buffer = session.open(HERE, repo / "cancel.py")
        await buffer.ghost()
        other.type("# something else\n")
        buffer.type("x, \n")
        await buffer.ghost()
    first, second = (request.body["homespun"]["snippets"] for request in fake.requests)
    assert first == second and "something else" not in second[0]["text"]


async def test_the_commit_is_told(fake: FakeServer, repo: Path) -> None:
    (repo / ".git" / "HEAD").write_text("a" * 40 + "\n")
    async with editor(serverUrl=fake.url) as session:
        await session.open(HERE, repo / "cancel.py").ghost()
    assert fake.requests[0].body["homespun"]["commit"] == "a" * 40

"""The id that suggestions are asked for with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_lsp.user import user_id
from tests.lsp.editor import editor
from tests.lsp.fake_server import FakeServer


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    user_id.cache_clear()
    yield tmp_path / "homespun" / "user"
    user_id.cache_clear()


def test_it_is_made_once_and_kept(state: Path) -> None:
    made = user_id()
    user_id.cache_clear()
    assert made and user_id() == made and state.read_text() == made + "\n"
    assert [path.name for path in state.parent.iterdir()] == ["user"]


@pytest.mark.parametrize("found", [b"", b"ann@example.com\n", b"\xff\xfe"])
def test_a_file_that_is_not_ours_is_replaced_and_never_sent(state: Path, found: bytes) -> None:
    state.parent.mkdir()
    state.write_bytes(found)
    made = user_id()
    assert made and state.read_text() == made + "\n"


def test_where_nothing_can_be_written_there_is_none(state: Path) -> None:
    state.parent.write_text("a file in the directory's place: as read-only, and so for root too")
    assert user_id() is None


def test_without_a_home_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setattr(Path, "home", homeless)
    assert user_id() is None


async def test_it_is_the_same_in_the_next_session(fake: FakeServer, tmp_path: Path) -> None:
    for _ in range(2):
        async with editor(serverUrl=fake.url, environ={"XDG_STATE_HOME": str(tmp_path)}) as session:
            assert await session.open("x = |").ghost()
    first, second = [r.body["homespun"] for r in fake.requests if r.path == "/v1/completions"]
    assert first["user"] == second["user"] and first["client"] != second["client"]


@pytest.fixture
def untouched(state: Path) -> Iterator[None]:
    yield
    assert not state.exists()


@pytest.mark.usefixtures("untouched")
async def test_with_events_off_it_is_neither_made_nor_sent(fake: FakeServer, tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    async with editor(serverUrl=fake.url, environ=environ, sendEvents=False) as session:
        assert await session.open("x = |").ghost()
    assert "user" not in fake.requests[0].body["homespun"]


async def test_a_state_directory_that_cannot_be_written_breaks_nothing(fake: FakeServer, state: Path) -> None:
    state.parent.write_text("")
    environ = {"XDG_STATE_HOME": str(state.parent.parent)}
    async with editor(serverUrl=fake.url, environ=environ) as session:
        assert await session.open("x = |").ghost()
    assert "user" not in fake.requests[0].body["homespun"]

"""`homespun index` as a person runs it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from homespun_core.config import Settings
from homespun_core.errors import HomespunError, RepositoryError, StorageError
from homespun_core.paths import DataDir, repo_id
from homespun_core.progress import PlainProgress
from homespun_core.storage import current, locked
from homespun_core.types import SilentProgress
from homespun_indexer import cli
from homespun_indexer.cli import add_arguments, run
from homespun_indexer.progress import RichProgress, progress_for_terminal
from homespun_indexer.repository import open_repository
from tests.repos import SHOP, make_repo


def index(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(argv))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", SHOP)


def test_indexing_says_what_went_in(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index(str(shop), "--data-dir", str(tmp_path / "data")) == 0
    said = capsys.readouterr().out
    assert "shop: 4 files, " in said
    assert "languages: python 3, typescript 1" in said
    assert "left out:  unknown language 1" in said
    (folder,) = (tmp_path / "data" / "index").iterdir()
    assert current(folder) is not None


def test_several_repositories_are_indexed_in_turn(
    tmp_path: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_repo(tmp_path / "other", {"a.go": "package a\n"})
    assert index(str(shop), str(other), "--data-dir", str(tmp_path / "data")) == 0
    assert "other: 1 files" in capsys.readouterr().out


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError) as caught:
        index(str(tmp_path), "--data-dir", str(tmp_path / "data"))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, HomespunError)


def test_two_at_once_on_one_repository_are_refused(shop: Path, tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    held = locked(data.locks / f"index-{repo_id(str(shop))}.lock", "a test")
    with held, pytest.raises(StorageError, match="indexing of shop is already running"):
        index(str(shop), "--data-dir", str(data.root))


def test_pipes_get_lines_and_terminals_get_bars() -> None:
    assert isinstance(progress_for_terminal(), PlainProgress)  # under pytest, stderr is no terminal
    screen = io.StringIO()
    bars = RichProgress(Console(file=screen, force_terminal=True, width=80))
    bars.start("Reading", total=3, unit="files")
    for done in range(4):
        bars.advance(done)
    bars.finish("3 files")
    bars.start("Thinking")
    bars.finish()
    assert "Reading: 3 files, " in screen.getvalue()
    assert "Thinking: " in screen.getvalue()


@pytest.mark.parametrize("error", [RepositoryError("gone"), RuntimeError("a bug")])
def test_no_error_ends_the_watch(
    shop: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class StoppedError(BaseException):
        pass

    def fail(*_: object) -> None:
        raise error

    def twice(_repo: object, refresh: Callable[[], None], _stop: object) -> None:
        refresh()
        refresh()
        raise StoppedError

    monkeypatch.setattr(cli, "index_once", fail)
    monkeypatch.setattr(cli, "watch", twice)
    repo = open_repository(str(shop), DataDir(shop), timeout_s=20, progress=SilentProgress())
    with pytest.raises(StoppedError):
        cli._follow(str(shop), repo, Settings())
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(str(error) in line for line in said)

"""`homespun index` as a person runs it."""

from __future__ import annotations

import argparse
import errno
import io
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console
from watchdog.observers import Observer

from homespun_core import nudges
from homespun_core.cli import BUSY, INTERRUPTED
from homespun_core.config import Settings
from homespun_core.errors import ConfigError, RepositoryError
from homespun_core.paths import DataDir, repo_id
from homespun_core.progress import PlainProgress
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import current, locked
from homespun_core.types import SilentProgress
from homespun_indexer import cli
from homespun_indexer.cli import Followed, _pauses, add_arguments, index_all, run
from homespun_indexer.progress import RichProgress, progress_for_terminal
from homespun_indexer.repository import Repository
from tests.faults.git_host import hosting, processes_that_name
from tests.repos import SHOP, commit, git, make_repo, write


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


def test_several_repositories_are_indexed_side_by_side(
    tmp_path: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the first one's host is silent the others are done; they were in turn."""
    (tmp_path / "host").mkdir()
    git(shop, "clone", "--quiet", "--bare", str(shop), str(tmp_path / "host" / "slow.git"))
    other = make_repo(tmp_path / "other", {"a.go": "package a\n"})
    data = DataDir(tmp_path / "data")
    others = [data.index(repo_id(str(source))) for source in (shop, other)]
    are_done: list[bool] = []
    with hosting(tmp_path / "host") as host:
        host.stalls_after = 100  # what comes after the silence is the end

        def release() -> None:
            are_done.append(comes_true(lambda: all(current(index) is not None for index in others)))
            host.released.set()

        releasing = threading.Thread(target=release)
        releasing.start()
        assert index(host.url("slow.git"), str(shop), str(other), "--data-dir", str(data.root)) == 1
        releasing.join()
    assert are_done == [True]
    said = capsys.readouterr()
    assert "shop: 4 files" in said.out and "other: 1 files" in said.out and "slow.git: can't be read" in said.err


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert index(str(tmp_path), "--data-dir", str(tmp_path / "data")) == 1
    (line,) = errors(capsys)
    assert "not a git repository" in line


def test_a_repository_that_fails_leaves_the_others_alone(
    tmp_path: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "https://127.0.0.1:1/team/app.git"
    assert index(str(tmp_path / "gone"), url, str(shop), "--data-dir", str(tmp_path / "data")) == 1
    captured = capsys.readouterr()
    assert "shop: 4 files, " in captured.out
    said = [line for line in captured.err.splitlines() if line.startswith("homespun: ")]
    assert len(said) == 2 and "gone" in "".join(said) and "team/app" in "".join(said)


def test_two_at_once_on_one_repository_are_refused(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDir(tmp_path / "data")
    with locked(data.locks / f"index-{repo_id(str(shop))}.lock", "a test"):
        assert index(str(shop), "--data-dir", str(data.root)) == BUSY
    assert "indexing of shop is already running" in errors(capsys)[0]


def test_without_a_name_the_configured_ones_are_indexed(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_repo(tmp_path / "other", {"a.go": "package a\n"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homespun.toml").write_text(CONFIGURED)
    assert index("--data-dir", str(tmp_path / "data")) == 0
    said = capsys.readouterr().out
    assert "till: 2 files, " in said and "excluded 1" in said and "other language 1" in said
    assert "other: 1 files" in said
    assert index("till", "--data-dir", str(tmp_path / "data")) == 0
    said = capsys.readouterr().out
    assert "till: 2 files, " in said and "other: " not in said


CONFIGURED = """
[[repository]]
source = "shop"
name = "till"
languages = ["python"]
exclude = ["*/report.py"]
[[repository]]
source = "other"
"""


def test_without_any_repository_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no repository given: .* \[\[repository\]\] tables"):
        index("--data-dir", str(tmp_path / "data"))


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("homespun: ")]


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


@contextmanager
def kept_fresh(settings: Settings, *sources: str) -> Iterator[None]:
    followed = [Followed(RepositoryConfig(source=source), settings) for source in sources]
    stop = threading.Event()
    arguments = (followed, DataDir(settings.data_root), SilentProgress(), stop)
    thread = threading.Thread(target=index_all, args=arguments, kwargs={"are_watched": True})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_a_slow_repository_does_not_delay_the_others(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one's host falls silent in the middle of a clone. It was waited for, for up to half an hour."""
    monkeypatch.setattr(cli, "_SIDE_BY_SIDE", 2)
    (tmp_path / "host").mkdir()
    git(shop, "clone", "--quiet", "--bare", str(shop), str(tmp_path / "host" / "slow.git"))
    other = make_repo(tmp_path / "other", {"a.go": "package a\n"})
    data = DataDir(tmp_path / "data")

    def is_indexed(source: str) -> bool:
        return current(data.index(repo_id(source))) is not None

    with hosting(tmp_path / "host") as host:
        host.stalls_after, slow = 100, host.url("slow.git")
        with kept_fresh(Settings(data_dir=str(data.root)), slow, str(shop), str(other)):
            assert comes_true(lambda: is_indexed(str(shop)) and is_indexed(str(other)))
            write(shop, {"saved.py": "x = 1\n"})
            before = current(data.index(repo_id(str(shop))))
            assert comes_true(lambda: current(data.index(repo_id(str(shop)))) != before)
            assert processes_that_name(host.port) and not is_indexed(slow)
            host.stalls_after = None
            host.released.set()
            assert comes_true(lambda: is_indexed(slow))


@pytest.mark.parametrize("is_told", [True, False])
def test_a_hook_is_seen_at_once_and_without_watches_soon(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """Where the operating system tells, nobody has to look; where it is out of watches, looking is enough."""
    monkeypatch.setattr(cli, "_NUDGE_S", 1_000.0 if is_told else 0.01)
    if not is_told:
        monkeypatch.setattr(Observer, "start", _out_of_watches)
    (tmp_path / "host").mkdir()
    bare = tmp_path / "host" / "shop.git"
    git(shop, "clone", "--quiet", "--bare", str(shop), str(bare))
    data = DataDir(tmp_path / "data")
    with hosting(tmp_path / "host") as host:
        url = host.url("shop.git")
        with kept_fresh(Settings(data_dir=str(data.root)), url):
            assert comes_true(
                lambda: current(data.index(repo_id(url))) is not None and nudges.is_read(data, repo_id(url))
            )
            before = current(data.index(repo_id(url)))
            commit(shop, {"pushed.py": "x = 1\n"})
            git(shop, "push", "--quiet", str(bare), "main")
            nudges.nudge(data, repo_id(url))
            assert comes_true(lambda: current(data.index(repo_id(url))) != before)


def _out_of_watches(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


STOPPED = """
import os, signal, sys
from multiprocessing import active_children
from homespun_core.cli import main
from homespun_core.types import SilentProgress
from homespun_indexer import cli, indexing, layout

class Stopping(SilentProgress):
    def advance(self, done, note=""):
        for child in active_children():
            os.kill(child.pid, signal.SIGSTOP)
        print(*(child.pid for child in active_children()), flush=True)

if __name__ == "__main__":
    layout._MIN_SEGMENT_BYTES, indexing.num_processes = 600, lambda: 2
    cli.progress_for_terminal = lambda kind: Stopping()
    sys.exit(main(["index", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("flags", [[], ["--watch"]], ids=["once", "watching"])
def test_ctrl_c_ends_an_indexer_and_the_processes_that_it_began_with(
    shop: Path, tmp_path: Path, flags: Sequence[str]
) -> None:
    """However long they would take: these never end."""
    script = tmp_path / "script.py"
    script.write_text(STOPPED)
    command = [sys.executable, str(script), *flags, str(shop), "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        workers = process.stdout.readline().split()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == INTERRUPTED
        *_, last = process.stderr.read().splitlines()
        assert last == "homespun: interrupted; finished work is kept"
    assert len(workers) == 2 and not any(Path(f"/proc/{pid}/exe").exists() for pid in workers)
    (folder,) = (tmp_path / "data" / "index").iterdir()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [RepositoryError("gone"), RuntimeError("a bug")])
def test_no_error_ends_the_watch(
    shop: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    followed = Followed(RepositoryConfig(source=str(shop)), Settings(data_dir=str(shop.parent / "data")))
    assert followed.refresh(SilentProgress())
    capsys.readouterr()

    def fail(*_: object) -> None:
        raise error

    def twice(_repo: object, refresh: Callable[[], None], stop: threading.Event) -> None:
        refresh()
        refresh()
        stop.set()

    monkeypatch.setattr(cli, "index_once", fail)
    monkeypatch.setattr(cli, "watch", twice)
    followed.follow(threading.Event())
    said = errors(capsys)
    assert len(said) == 2 and all(str(error) in line for line in said)


def test_a_repository_that_was_not_there_is_found_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=str(tmp_path / "data"), fetch_minutes=0.001)
    followed = Followed(RepositoryConfig(source=str(tmp_path / "late")), settings)
    assert not followed.refresh(SilentProgress())
    make_repo(tmp_path / "late", SHOP)
    watched = []

    def once(repo: Repository, _refresh: object, stop: threading.Event) -> None:
        watched.append(repo.name)
        stop.set()

    monkeypatch.setattr(cli, "watch", once)
    followed.follow(threading.Event())
    assert watched == ["late"]


@contextmanager
def following(followed: Followed) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=followed.follow, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)
        assert not thread.is_alive()


def comes_true(claim: Callable[[], bool], within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.02)
    return claim()


def generation(data: Path) -> Path | None:
    (folder,) = (data / "index").iterdir()
    return current(folder)


@pytest.fixture
def followed(shop: Path, tmp_path: Path) -> Followed:
    found = Followed(RepositoryConfig(source=str(shop)), Settings(data_dir=str(tmp_path / "data")))
    assert found.refresh(SilentProgress())
    return found


def test_a_save_between_the_index_and_the_watch_is_indexed(followed: Followed, shop: Path, tmp_path: Path) -> None:
    before = generation(tmp_path / "data")
    write(shop, {"early.py": "x = 1\n"})
    with following(followed):
        assert comes_true(lambda: generation(tmp_path / "data") != before)


def test_a_save_while_another_process_indexes_is_indexed_after_it(
    followed: Followed, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was lost until the next save."""
    before = generation(tmp_path / "data")
    write(shop, {"early.py": "x = 1\n"})
    said: list[str] = []

    def is_refused() -> bool:
        said.extend(errors(capsys))
        return bool(said)

    other = ExitStack()
    other.enter_context(locked(DataDir(tmp_path / "data").locks / f"index-{repo_id(str(shop))}.lock", "a test"))
    with other, following(followed):
        assert comes_true(is_refused)
        other.close()
        assert comes_true(lambda: generation(tmp_path / "data") != before)
    assert "already running" in said[0]


def test_a_repository_that_is_cloned_again_is_followed(followed: Followed, shop: Path, tmp_path: Path) -> None:
    with following(followed):
        time.sleep(0.5)
        shutil.rmtree(shop)
        time.sleep(0.7)
        before = generation(tmp_path / "data")
        make_repo(shop, {"new.py": "x = 1\n"})
        assert comes_true(lambda: generation(tmp_path / "data") != before)
        time.sleep(2)
        before = generation(tmp_path / "data")
        write(shop, {"new.py": "x = 2\n"})
        assert comes_true(lambda: generation(tmp_path / "data") != before)


def test_a_branch_that_is_checked_out_later_is_watched(shop: Path, tmp_path: Path) -> None:
    """Its work tree was indexed and never watched."""
    git(shop, "switch", "--quiet", "--create", "dev")
    config = RepositoryConfig(source=str(shop), branch="main")
    followed = Followed(config, Settings(data_dir=str(tmp_path / "data")))
    assert followed.refresh(SilentProgress())
    with following(followed):
        time.sleep(0.5)
        git(shop, "switch", "--quiet", "main")
        time.sleep(1.5)
        before = generation(tmp_path / "data")
        write(shop, {"new.py": "x = 1\n"})
        assert comes_true(lambda: generation(tmp_path / "data") != before)


def test_the_base_model_is_loaded_once(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing it took longer than indexing a saved file."""

    def loaded(*_: object) -> None:
        raise AssertionError("again")

    monkeypatch.setattr(cli, "resolve_base_model", loaded)
    monkeypatch.setattr(cli, "load_tokenizer", loaded)
    assert followed.refresh(SilentProgress())


def test_what_did_not_change_is_said_once(followed: Followed, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert followed.refresh(SilentProgress())
    assert capsys.readouterr().out == ""


def test_pauses_double_up_to_a_minute() -> None:
    assert list(islice(_pauses(), 8)) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_url_with_a_raw_password_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be percent-encoded") as caught:
        index("https://user:s3/cret@host/x", "--data-dir", str(tmp_path / "data"))
    assert not any(word in str(caught.value) for word in ("s3", "cret", "host"))

"""The command as people type it, on a data directory with adapters in it. Nothing is trained here: `tests/e2e` does."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from homespun_core import registry, storage
from homespun_core.cli import main
from homespun_core.errors import TooLittleCode
from homespun_core.loading import load_settings
from homespun_core.paths import DataDir, repo_id
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.storage import Manifest
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.people import author_hash
from homespun_server.database.opening import open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_trainer import trained_on
from homespun_trainer.cli.preparing import learnt_from
from homespun_trainer.forget import cli
from homespun_trainer.forget.effects import effects, known_repositories, take_rest_away
from homespun_trainer.trained_on import Source
from tests.indexer.faults import CALLS, DELETING
from tests.repos import make_repo
from tests.server.feedback.test_keeping import row
from tests.server.feedback.test_store import fact


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_repo(tmp_path / "shop", {"pay.py": "x = 1\n", "basket.py": "y = 1\n"})


@pytest.fixture
def data(tmp_path: Path, shop: Path) -> DataDir:
    """With one live adapter that saw both files."""
    data = DataDir(tmp_path / "data")
    authors = (author_hash(data)("ada@example.com"),)
    adapters = data.adapters(repo_id(str(shop)))
    with registry.publish_adapter(adapters / "v1", fingerprint="f", sources={"base_model": "b"}, report={}) as folder:
        files = ("pay.py", "basket.py")
        id = repo_id(str(shop))
        trained_on.write(folder, [Source(repository=id, path=p, blob="0", authors=authors) for p in files])
    storage.set_current(adapters, "v1")
    return data


def run(data: DataDir, *words: str) -> int:
    return main(["forget", *words, "--data-dir", str(data.root)])


@pytest.mark.parametrize("wish", [["--path", "pay.py"], ["--author", "Ada@Example.com"], []])
def test_what_knew_it_is_deleted_and_the_request_remembered(data: DataDir, shop: Path, wish: list[str]) -> None:
    assert run(data, str(shop), *wish, "--yes", "--no-train") == 0
    assert registry.live(data.adapters(repo_id(str(shop)))) is None
    (request,) = forgotten.load(data)
    assert request.repository == repo_id(str(shop))
    assert "ada@" not in data.forgotten.read_text().lower()


def test_completions_that_the_server_kept_of_it_go_with_it(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FeedbackStore(open_database("", data.database))
    facts, rows = [fact("a"), fact("b")], [row("a", paths=("pay.py",)), row("b", paths=("basket.py",))]
    store.write(facts, [replace(kept, repository=repo_id(str(shop))) for kept in rows])
    assert run(data, str(shop), "--path", "pay.py", "--yes", "--no-train") == 0
    assert "1 kept completions are deleted" in capsys.readouterr().out
    assert store.num_kept() == {repo_id(str(shop)): 1}
    store.close()


def test_what_is_trained_while_it_asks_goes_too(data: DataDir, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = data.adapters(repo_id(str(shop)))

    def confirmed_after_a_training() -> bool:
        with registry.publish_adapter(adapters / "v2", fingerprint="g", sources={"base_model": "b"}, report={}) as new:
            trained_on.write(new, [Source(repository=adapters.name, path="pay.py", blob="0", authors=())])
        storage.set_current(adapters, "v2")
        return True

    monkeypatch.setattr(cli, "_is_confirmed", confirmed_after_a_training)
    assert run(data, str(shop), "--path", "pay.py", "--no-train") == 0
    assert registry.live(adapters) is None and registry.versions(adapters) == []


def test_a_repository_in_training_does_not_keep_others_from_it(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which one isn't done yet is said, with the remedy; the request is remembered."""
    busy = "a-is-first"
    shutil.copytree(data.adapters(repo_id(str(shop))), data.adapters(busy), symlinks=True)
    with storage.locked(data.locks / f"train-{busy}.lock", f"training on {busy}"):
        assert run(data, "--path", "pay.py", "--yes", "--no-train") == 1
    said = capsys.readouterr().err
    assert f"training on {busy} is already running" in said and "run the same command again" in said
    assert registry.live(data.adapters(repo_id(str(shop)))) is None
    assert registry.live(data.adapters(busy)) is None
    assert run(data, "--path", "pay.py", "--yes", "--no-train") == 0
    assert len(forgotten.load(data)) == 1


class Killed(BaseException):
    """What no `except` is for."""


class Dying:
    """From call `at` on nothing reaches the disk any more, as when a process is killed there."""

    def __init__(self, at: int) -> None:
        self._at, self.count = at, 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in (*CALLS, *DELETING):
            patch.setattr(os, name, partial(self._called, getattr(os, name)))

    def _called(self, call: Callable[..., object], *args: object, **kwargs: object) -> object:
        self.count += 1
        if self.count >= self._at:
            raise Killed
        return call(*args, **kwargs)


def remains(data: DataDir, repository: str, wanted: Forgotten) -> list[object]:
    """What is there of it, or was being deleted."""
    litter = [*data.adapters(repository).glob(".tmp-*"), *data.corpus(repository).glob(".tmp-*")]
    return [*effects(data, known_repositories(data), wanted), *litter]


def test_killed_at_any_call_it_has_not_begun_or_others_go_on_with_it(data: DataDir, shop: Path, tmp_path: Path) -> None:
    """It was on the list, and the adapter that knew it was served until somebody gave the same command again."""
    id, wanted, killed = repo_id(str(shop)), Forgotten(path="pay.py"), 0
    for folder in (data.training_run(id), data.evaluations(id)):
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    corpus = Manifest(kind="corpus", format_version=5, fingerprint="c", sources={"repository": str(shop)})
    with storage.publish_dir(data.corpus(id) / "c", corpus) as folder:
        (folder / "files.jsonl").write_text('{"path": "pay.py", "names": [], "is_shown": true, "authors": []}\n')
    storage.set_current(data.corpus(id), "c")
    for at in itertools.count(1):
        copy, dying = DataDir(tmp_path / str(at)), Dying(at)
        shutil.copytree(data.root, copy.root, symlinks=True)
        with pytest.MonkeyPatch.context() as patch:
            dying.install(patch)
            try:
                assert run(copy, "--path", "pay.py", "--yes", "--no-train") == 0
                break
            except Killed:
                killed += 1
        assert forgotten.finish_all(copy, partial(take_rest_away, copy)) == []
        if forgotten.load(copy):
            assert registry.live(copy.adapters(id)) is None and remains(copy, id, wanted) == []
        else:
            assert registry.live(copy.adapters(id)) is not None
        assert run(copy, "--path", "pay.py", "--yes", "--no-train") == 0 and remains(copy, id, wanted) == []
    assert killed > 15 and remains(copy, id, wanted) == []


def test_what_a_training_was_in_the_way_of_is_gone_on_with(data: DataDir, shop: Path) -> None:
    id = repo_id(str(shop))
    data.training_run(id).mkdir(parents=True)
    with storage.locked(data.locks / f"train-{id}.lock", "training on shop"):
        assert run(data, "--path", "pay.py", "--yes", "--no-train") == 1
        (problem,) = forgotten.finish_all(data, partial(take_rest_away, data))
    assert "training on" in problem and data.training_run(id).is_dir()
    assert forgotten.finish_all(data, partial(take_rest_away, data)) == []
    assert not data.training_run(id).exists()


def test_what_was_forgotten_takes_nothing_away_that_came_later(data: DataDir, shop: Path) -> None:
    """An adapter on top of one from elsewhere may have seen anything. It was made on purpose."""
    assert run(data, "--path", "pay.py", "--yes", "--no-train") == 0
    later = data.adapters(repo_id(str(shop))) / "v2"
    with registry.publish_adapter(later, fingerprint="f", sources={"base_model": "b"}, report={}):
        pass
    assert forgotten.finish_all(data, partial(take_rest_away, data)) == []
    assert later.is_dir()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained anew, by name or source."""
    asked: list[str] = []

    def train(source: RepositoryConfig | ScopeConfig | str, settings: object, progress: object) -> None:
        asked.append(source if isinstance(source, str) else source.name or "")
        raise TooLittleCode("it is about what is asked for here")

    monkeypatch.setattr(cli, "train", train)
    return asked


def share(data: DataDir, shop: Path) -> Path:
    """The settings of a shared adapter that saw the shop; it is there."""
    web = make_repo(shop.parent / "web", {"page.py": "z = 1\n"})
    shutil.copytree(data.adapters(repo_id(str(shop))), data.adapters("@team"), symlinks=True)
    config = shop.parent / "homespun.toml"
    tables = [f'[[repository]]\nname = "{path.name}"\nsource = "{path}"' for path in (shop, web)]
    config.write_text("\n".join([*tables, '[[adapter]]\nname = "team"\nrepositories = "all"']))
    return config


def test_a_shared_adapter_is_trained_anew_without_a_repository_that_is_forgotten(
    data: DataDir, shop: Path, trained: list[str]
) -> None:
    """The repository itself isn't: nothing of it is left to learn."""
    config = share(data, shop)
    assert run(data, "shop", "--yes", "--config", str(config)) == 0
    assert trained == ["team"]
    assert registry.live(data.adapters("@team")) is None
    loaded = load_settings({}, {}, config)
    scope = loaded.scope("team")
    assert scope is not None and [each.name for each in learnt_from(scope, data)] == ["web"]


def test_what_stood_on_a_forgotten_file_of_another_repository_is_trained_anew_itself(
    data: DataDir, shop: Path, trained: list[str]
) -> None:
    """The one that was named was trained a second time in its place."""
    share(data, shop)
    config, web = shop.parent / "homespun.toml", repo_id(str(shop.parent / "web"))
    data.adapters("@team").rename(data.adapters(web))
    assert run(data, "shop", "--path", "pay.py", "--yes", "--config", str(config)) == 0
    assert sorted(trained) == ["shop", "web"]


def test_without_a_terminal_it_says_what_would_go_and_does_nothing(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, str(shop), "--path", "pay.py") == 1
    said = capsys.readouterr()
    assert "1 adapters (one is live)" in said.out and "--yes" in said.err
    assert registry.live(data.adapters(repo_id(str(shop)))) is not None
    assert forgotten.load(data) == ()


def test_files_nothing_was_trained_on_are_remembered_for_later(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "--path", "secret/**", "--yes") == 0
    assert "nothing here was trained on it" in capsys.readouterr().out
    assert registry.live(data.adapters(repo_id(str(shop)))) is not None


def test_the_list_shows_requests_and_undo_takes_one_back(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, str(shop), "--path", "pay.py", "--yes", "--no-train")
    capsys.readouterr()
    assert run(data, "--list") == 0
    assert "files pay.py in " in capsys.readouterr().out
    assert run(data, "--undo", "1") == 0 and forgotten.load(data) == ()
    assert run(data, "--undo", "1") == 1


def test_a_misspelt_repository_is_not_said_to_be_forgotten(
    data: DataDir, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, f"{shop}p", "--yes", "--no-train") == 1
    assert "not a git repository, and nothing was ever made of it here" in capsys.readouterr().err
    assert forgotten.load(data) == ()
    shutil.rmtree(shop)  # what is gone is known by its adapters
    assert run(data, str(shop), "--yes", "--no-train") == 0
    assert registry.versions(data.adapters(repo_id(str(shop)))) == []


def test_a_path_counts_from_the_root_however_it_is_begun(data: DataDir, shop: Path) -> None:
    """`./pay.py` was said to be forgotten, and matched nothing."""
    assert run(data, str(shop), "--path", "./pay.py ", "--yes", "--no-train") == 0
    (request,) = forgotten.load(data)
    assert request.path == "pay.py" and registry.live(data.adapters(repo_id(str(shop)))) is None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--author", "ada"],
        *(
            ["--path", path]
            for path in ("/", "", "./", "src//", "!pay.py", "../pay.py", "src//pay.py", "src/./pay.py", "/etc/passwd")
        ),
    ],
)
def test_a_wish_that_names_nothing_is_one_line(
    data: DataDir, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(data, *words, "--yes") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert forgotten.load(data) == ()

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.storage import Manifest, locked
from homespun_indexer.forgotten import Forgotten
from homespun_trainer import trained_on
from homespun_trainer.forget.effects import Effect, effects, known_repositories, source_of, take_away
from homespun_trainer.trained_on import Source

REPO = "shop-1"


def source(path: str, *authors: str, names: tuple[str, ...] = ()) -> Source:
    return Source(repository=REPO, path=path, blob="0", authors=authors, names=names)


def publish(data: DataDir, version: str, *sources: Source, live: bool = False, below: Path | None = None) -> Path:
    path = data.adapters(REPO) / version
    report = {"corpus": {"repository": "/code/shop"}}
    with registry.publish_adapter(path, fingerprint=version, sources={"base_model": "b"}, report=report) as folder:
        under = trained_on.read(below) if below else ()
        if under is not None:
            trained_on.write(folder, [*sources, *under])
    if live:
        storage.set_current(path.parent, version)
    return path


def corpus(
    data: DataDir, name: str, path_in_it: str, *former: str, is_shown: bool = True, asked: str = "a.py", by: str = "eve"
) -> Path:
    path = data.corpus(REPO) / name
    manifest = Manifest(kind="corpus", format_version=5, fingerprint=name, sources={"repository": "/code/shop"})
    with storage.publish_dir(path, manifest) as folder:
        row = {"path": path_in_it, "names": former, "is_shown": is_shown, "authors": []}
        (folder / "files.jsonl").write_text(json.dumps(row) + "\n")
        (folder / "asked.jsonl").write_text(json.dumps({"path": asked, "names": [], "authors": [by]}) + "\n")
    storage.set_current(path.parent, name)
    return path


def found(data: DataDir, wanted: str = "pay.py") -> list[Effect]:
    request = Forgotten(author=wanted) if "." not in wanted else Forgotten(path=wanted)
    return effects(data, known_repositories(data), request)


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path / "data")


def test_adapters_that_saw_the_file_go_and_others_stay(data: DataDir) -> None:
    old = publish(data, "1", source("a.py"))
    new = publish(data, "2", source("a.py"), source("pay.py", "ada"), live=True)
    (effect,) = found(data)
    assert effect.adapters == (new,) and effect.is_live and source_of(effect) == "/code/shop"
    take_away(data, effect)
    assert old.is_dir() and not new.exists()
    assert registry.live(data.adapters(REPO)) is None
    assert found(data) == []


def test_the_author_of_any_file_counts(data: DataDir) -> None:
    path = publish(data, "1", source("a.py", "bob", "ada"), live=True)
    assert [e.adapters for e in found(data, "ada")] == [(path,)]
    assert found(data, "eve") == []


def test_an_adapter_in_service_that_saw_nothing_of_it_stays_in_service(data: DataDir) -> None:
    publish(data, "1", source("pay.py"))
    publish(data, "2", source("a.py"), live=True)
    (effect,) = found(data)
    assert not effect.is_live
    take_away(data, effect)
    live = registry.live(data.adapters(REPO))
    assert live is not None and live.version == "2"


@pytest.mark.parametrize("text", [None, "not JSON\n", '{"path": 1}\n'])
def test_an_adapter_that_does_not_say_what_it_saw_goes(data: DataDir, text: str | None) -> None:
    path = publish(data, "1", source("a.py"))
    (path / trained_on.NAME).unlink()
    if text is not None:
        (path / trained_on.NAME).write_text(text)
    assert [e.adapters for e in found(data)] == [(path,)]


@pytest.mark.parametrize("says", [True, False])
def test_an_adapter_on_top_of_one_that_saw_it_goes_with_it(data: DataDir, says: bool) -> None:
    """The weights of both are in it, whatever its own corpus was: by then the file may have left the repository."""
    below = publish(data, "1", source("pay.py"))
    if not says:
        (below / trained_on.NAME).unlink()
    above = publish(data, "2", source("a.py"), live=True, below=below)
    assert [e.adapters for e in found(data)] == [(below, above)]


def test_corpora_and_the_unfinished_run_go_too(data: DataDir) -> None:
    kept = corpus(data, "a", "a.py")
    gone = corpus(data, "b", "pay.py")
    run = data.training_run(REPO)
    run.mkdir(parents=True)
    (effect,) = found(data)
    assert (effect.corpora, effect.run) == ((gone,), run)
    take_away(data, effect)
    assert kept.is_dir() and not gone.exists() and not run.exists()


def test_a_run_whose_corpus_saw_nothing_of_it_goes_on(data: DataDir) -> None:
    corpus(data, "a", "a.py")
    data.training_run(REPO).mkdir(parents=True)
    assert found(data) == []
    shutil.rmtree(data.corpus(REPO))
    assert [e.run for e in found(data)] == [data.training_run(REPO)]


def test_a_run_that_holds_an_adapter_of_elsewhere_goes_whatever_is_forgotten(data: DataDir) -> None:
    """Its own corpus doesn't say what that one saw."""
    corpus(data, "a", "a.py")
    composed = data.training_run(REPO) / "deep" / trained_on.COMPOSED
    composed.mkdir(parents=True)
    elsewhere = Forgotten(repository="another-1")
    (effect,) = effects(data, known_repositories(data), elsewhere)
    assert (effect.run, effect.adapters, effect.corpora) == (data.training_run(REPO), (), ())


def test_what_no_prompt_could_show_is_not_in_a_corpus(data: DataDir) -> None:
    corpus(data, "a", "pay.py", is_shown=False)
    assert found(data) == []


def test_a_corpus_that_asks_for_lines_of_the_file_goes(data: DataDir) -> None:
    """One that came after the cut is in its tasks alone."""
    gone = corpus(data, "a", "a.py", asked="pay.py", by="zoe")
    assert [e.corpora for e in found(data)] == [e.corpora for e in found(data, "zoe")] == [(gone,)]
    assert found(data, "ada") == []
    take_away(data, found(data)[0])
    assert not gone.exists()


def test_what_had_the_name_once_goes_too(data: DataDir) -> None:
    adapter, gone = publish(data, "1", source("new.py", names=("pay.py",))), corpus(data, "a", "new.py", "pay.py")
    assert [(e.adapters, e.corpora) for e in found(data)] == [((adapter,), (gone,))]
    assert [(e.adapters, e.corpora) for e in found(data, "new.py")] == [((adapter,), (gone,))]
    assert found(data, "old.py") == []


def test_a_corpus_of_before_they_said_so_may_show_anything(data: DataDir) -> None:
    path = corpus(data, "a", "a.py")
    (path / "files.jsonl").write_text('{"path": "a.py", "authors": []}\n')
    assert [e.corpora for e in found(data)] == [(path,)]


def test_a_running_training_keeps_what_it_works_with_and_no_adapter_in_service(data: DataDir) -> None:
    """It may go on for hours. The adapter was served until it ended."""
    path = publish(data, "1", source("pay.py"), live=True)
    seen, run = corpus(data, "a", "pay.py"), data.training_run(REPO)
    run.mkdir(parents=True)
    (effect,) = found(data)
    with (
        locked(data.locks / f"train-{REPO}.lock", "training on shop"),
        pytest.raises(StorageError, match="already running"),
    ):
        take_away(data, effect)
    assert registry.live(data.adapters(REPO)) is None and not path.exists()
    assert seen.is_dir() and run.is_dir()
    take_away(data, effect)
    assert found(data) == []


@pytest.mark.parametrize(("is_own", "goes"), [(False, True), (True, False)])
def test_one_on_top_of_an_old_adapter_from_elsewhere_may_have_seen_anything(
    data: DataDir, is_own: bool, goes: bool
) -> None:
    """It was given as a folder, such as another repository's version of before adapters said what they saw."""
    path = data.adapters(REPO) / "2"
    if is_own:
        publish(data, "1", source("a.py"))
    report = {"training": {"parents": [{"name": "1", "digest": "d"}]}}
    with registry.publish_adapter(path, fingerprint="2", sources={"base_model": "b"}, report=report):
        pass
    held = [e.adapters for e in effects(data, known_repositories(data), Forgotten(repository="other-9"))]
    assert held == ([(path,)] if goes else [])


def test_scores_and_pages_of_evaluations_go_too(data: DataDir) -> None:
    """They hold what models wrote, and are all that there is of a repository that was never trained on."""
    place = data.evaluations(REPO)
    place.mkdir(parents=True)
    (place / "ab.jsonl").write_text("{}\n")
    assert effects(data, known_repositories(data), Forgotten(repository="other-9")) == []
    (effect,) = found(data)
    assert effect.evaluations == place
    take_away(data, effect)
    assert not place.exists()

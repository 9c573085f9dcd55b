"""What becomes of a version that the gate let pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry, storage
from homespun_core.config import Settings
from homespun_core.errors import ModelError
from homespun_core.paths import DataDir
from homespun_core.scopes import UNKNOWN
from homespun_core.storage import Manifest
from homespun_core.types import ModelFiles
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten
from homespun_trainer import cli, trained_on
from homespun_trainer.cli import preparing
from homespun_trainer.job import Corpus, Job, Part
from homespun_trainer.pipeline import parent_of
from homespun_trainer.publishing import ForgottenError, Outcome, _seen, offered, publish, same_as_last
from homespun_trainer.train import TrainingInterruptedError
from homespun_trainer.trained_on import Source
from tests.core.adapters import make_version
from tests.trainer.tiny import CONFIG, TOKENIZER, nearest


def make_job(root: Path, **settings: Any) -> Job:
    files = ModelFiles(name="tiny", path=str(root), family=None, digest="d1gest", config=CONFIG)
    corpus = Corpus(fingerprint="c", sources={}, documents=[], tasks=[], retrieve=nearest, report={})
    return Job(
        id="shop-1",
        name="shop",
        parts=(Part(id="shop-1", name="shop", corpus=corpus),),
        files=files,
        tokenizer=TOKENIZER,
        settings=Settings(**settings),
        data=DataDir(root),
        find_secrets=lambda text: (),
    )


def test_by_itself_it_goes_live(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    version = make_version(job.adapters, "1")
    assert offered(job, version) is None
    assert registry.aliases(job.adapters).champion == version


def test_with_manual_approval_it_waits_and_the_remedy_is_said(tmp_path: Path) -> None:
    job = make_job(tmp_path, approval="manual")
    version = make_version(job.adapters, "1")
    waits = offered(job, version)
    assert waits is not None and "homespun adapters approve shop-1" in waits
    assert registry.aliases(job.adapters).candidate == version and registry.live(job.adapters) is None
    registry.approve(job.adapters, by="ann")
    assert offered(job, version) is None


def test_with_a_canary_share_some_users_try_it_first(tmp_path: Path) -> None:
    job = make_job(tmp_path, canary_percent=10.0)
    version = make_version(job.adapters, "1")
    waits = offered(job, version)
    assert waits == "10 % of the users try it first; homespun adapters rollout shop-1"
    assert registry.aliases(job.adapters).candidate == version and registry.live(job.adapters) is None


def test_it_waits_behind_a_pin(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    offered(job, make_version(job.adapters, "1"))
    registry.pin(job.adapters, by="ann")
    waits = offered(job, make_version(job.adapters, "2"))
    assert waits is not None and "1 is pinned; homespun adapters unpin shop-1" in waits


def test_training_the_same_again_does_not_undo_a_rollback(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    offered(job, make_version(job.adapters, "1"))
    registry.rollback(job.adapters, by="ann")
    waits = offered(job, "1")
    assert waits is not None and "homespun adapters promote shop-1 1" in waits
    assert registry.live(job.adapters) is None


@pytest.mark.parametrize("is_new", [True, False])
def test_what_training_says_of_one_that_waits_does_not_call_it_live(is_new: bool, tmp_path: Path) -> None:
    report = {"promote": True, "reasons": ["better"], "arms": {}, "differences": {}}
    said = cli.summary(Outcome(version="1", path=tmp_path, is_new=is_new, report=report, waits_for="approve it"))
    assert "not live yet: approve it" in said and "(live)" not in said


def test_what_was_tuned_by_preference_hides_no_training_and_no_training_hides_what_was_tuned(tmp_path: Path) -> None:
    """The newest version alone was looked at: after `train --preferences` an unchanged `train` began from nothing."""

    def made(version: str, fingerprint: str, **report: Any) -> None:
        sources = {"base_model": "d1gest"}
        with registry.publish_adapter(tmp_path / version, fingerprint=fingerprint, sources=sources, report=report):
            pass

    made("1", "trained")
    made("2", "tuned", preferences={"below": ["shop-1", "1"]})
    same = same_as_last(tmp_path, "trained")
    assert same is not None and same.version == "1"
    made("3", "trained on more")
    same = same_as_last(tmp_path, "tuned", by_preference=True)
    assert same is not None and same.version == "2"
    assert same_as_last(tmp_path, "trained") is None, "something else was trained since"
    assert same_as_last(tmp_path, "tuned") is None


def test_one_on_top_of_another_has_seen_what_that_one_saw(tmp_path: Path) -> None:
    job, parent = make_job(tmp_path), tmp_path / "adapters" / "secret-9" / "v1"
    parent.mkdir(parents=True)
    assert _seen(job, None) == []
    assert _seen(job, parent) is None  # it doesn't say
    trained_on.write(parent, [Source(repository=None, path="a.py", blob="0", authors=())])
    assert [s.repository for s in _seen(job, parent) or []] == ["secret-9"]


def test_a_copy_of_an_adapter_that_names_no_repository_has_seen_nobody_knows_what(tmp_path: Path) -> None:
    job, copy = make_job(tmp_path / "data"), tmp_path / "copied" / "v1"
    copy.mkdir(parents=True)
    trained_on.write(copy, [Source(repository=None, path="a.py", blob="0", authors=())])
    assert _seen(job, copy) is None


def trained(job: Job, parent: Path | None = None) -> str:
    """What training publishes that saw `pay.py`."""
    weights = job.data.root / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "adapter_model.safetensors").write_bytes(b"")
    return publish(job, "f" * 8, weights, {"promote": True}, parent, job.run).version


def paid(job: Job) -> Job:
    file = Source(repository=None, path="pay.py", blob="0", authors=())
    part = job.parts[0]
    return replace(job, parts=(replace(part, corpus=replace(part.corpus, touched=[file])),))


@pytest.mark.parametrize(
    ("request_", "is_refused"),
    [
        (Forgotten(repository="shop-1", path="pay.py"), True),
        (Forgotten(repository="shop-1"), True),
        (Forgotten(repository="web-2"), False),
        (Forgotten(path="basket.py"), False),
    ],
)
def test_what_is_forgotten_while_it_is_trained_on_is_not_published(
    tmp_path: Path, request_: Forgotten, is_refused: bool
) -> None:
    """Of a first training nothing is on the disk when somebody forgets, so nothing could be found and deleted."""
    job = paid(make_job(tmp_path))
    job = replace(job, unforgotten=preparing._unforgotten(job.data))
    forgotten.add(job.data, request_)
    if is_refused:
        with pytest.raises(ForgottenError, match="train it again"):
            trained(job)
        assert registry.versions(job.adapters) == []
    else:
        version = trained(job)
        assert registry.versions(job.adapters) == [version]


def test_on_top_of_what_does_not_say_what_it_saw_any_forgetting_is_too_much(tmp_path: Path) -> None:
    job = paid(make_job(tmp_path))
    job, parent = replace(job, unforgotten=preparing._unforgotten(job.data)), tmp_path / "elsewhere"
    parent.mkdir()
    forgotten.add(job.data, Forgotten(repository="web-2"))
    with pytest.raises(ForgottenError):
        trained(job, parent)


def test_on_top_of_what_does_not_say_what_it_saw_is_marked_as_such(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job, parent = paid(make_job(tmp_path)), tmp_path / "elsewhere"
    parent.mkdir()
    version = trained(job, parent)
    assert registry.load_adapter(job.adapters / version).repositories == {"shop-1", UNKNOWN}
    assert "doesn't say what it saw" in caplog.text
    plain = paid(make_job(tmp_path / "plain"))
    assert registry.load_adapter(plain.adapters / trained(plain)).repositories == {"shop-1"}


def test_publishing_leaves_what_the_settings_train_on_top_of(tmp_path: Path) -> None:
    job = paid(make_job(tmp_path))
    old = [make_version(job.adapters, f"2020010{n}-000000-aaaaaaaa") for n in range(1, 10)]
    trained(replace(job, settings=Settings(on_top_of=str(job.adapters / old[1]))))
    assert registry.versions(job.adapters)[:2] == [old[1], old[-registry.KEEP]]


def stackable(job: Job, place: str, version: str, base: str = "d1gest") -> Path:
    path = job.data.adapters(place) / version
    with registry.publish_adapter(path, fingerprint="f", sources={"base_model": base}, report={}):
        pass
    return path


def test_on_top_of_a_shared_adapter_is_on_top_of_what_is_live_of_it(tmp_path: Path) -> None:
    """A version by name is gone some day."""
    job = make_job(tmp_path, on_top_of="@org")
    with pytest.raises(ModelError, match="no shared adapter with one live"):
        parent_of(job)
    first, second = (stackable(job, "@org", version) for version in ("v1", "v2"))
    storage.set_current(first.parent, "v1")
    assert parent_of(job) == first
    storage.set_current(first.parent, "v2")
    assert parent_of(job) == second
    assert parent_of(replace(job, id="@org")) is None, "itself"
    named = replace(job, settings=Settings(on_top_of="@org/v1"))
    assert parent_of(named) == first
    for wrong in ("@org/v9", "@org/../shop-1/v1", "@nobody"):
        with pytest.raises(ModelError, match="on_top_of"):
            parent_of(replace(job, settings=Settings(on_top_of=wrong)))
    storage.set_current(stackable(job, "@org", "v3", base="other").parent, "v3")
    with pytest.raises(ModelError, match="@org was trained on another base model than tiny"):
        parent_of(job)


def test_what_was_forgotten_before_keeps_no_training_from_publishing(tmp_path: Path) -> None:
    job = paid(make_job(tmp_path))
    forgotten.add(job.data, Forgotten(path="pay.py"))
    version = trained(replace(job, unforgotten=preparing._unforgotten(job.data)))
    assert registry.versions(job.adapters) == [version]


def test_a_corpus_of_what_was_forgotten_meanwhile_goes_when_the_training_ends(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    manifest = Manifest(kind="corpus", format_version=5, fingerprint="c", sources={})
    with pytest.raises(TrainingInterruptedError), cli._taken_away(data, ["@team", "shop-1"]):
        forgotten.add(data, Forgotten(path="pay.py"))
        with storage.publish_dir(data.corpus("shop-1") / "c", manifest) as folder:
            (folder / "files.jsonl").write_text('{"path": "pay.py", "names": [], "is_shown": true, "authors": []}\n')
        raise TrainingInterruptedError
    assert not (data.corpus("shop-1") / "c").exists()

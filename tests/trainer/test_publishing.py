"""What becomes of a version that the gate let pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_trainer import cli, trained_on
from homespun_trainer.job import Corpus, Job, Part
from homespun_trainer.publishing import Outcome, _seen, offered
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
        count_secrets=lambda text: 0,
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


def test_one_on_top_of_another_has_seen_what_that_one_saw(tmp_path: Path) -> None:
    job, parent = make_job(tmp_path), tmp_path / "adapters" / "secret-9" / "v1"
    parent.mkdir(parents=True)
    assert _seen(job, None) == []
    assert _seen(job, parent) is None  # it doesn't say
    trained_on.write(parent, [Source(repository=None, path="a.py", blob="0", authors=())])
    assert [s.repository for s in _seen(job, parent) or []] == ["secret-9"]

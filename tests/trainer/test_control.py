"""What a candidate has to beat, with real adapters on disk: what its people have now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.personal import personal_id
from homespun_trainer import own
from homespun_trainer.control import live_adapter
from homespun_trainer.job import Job
from tests.trainer.test_publishing import make_job

HERS = personal_id("u1", "shop-1")


def publish(data: DataDir, place: str, version: str, *, report: dict[str, Any] | None = None, **sources: str) -> Path:
    """A version that is live."""
    path = data.adapters(place) / version
    sources = {"base_model": "d1gest", "repositories": "shop-1", **sources}
    with registry.publish_adapter(path, fingerprint="f", sources=sources, report=report or {}) as folder:
        (folder / "adapter_model.safetensors").write_bytes(b"w")
    storage.set_current(path.parent, version)
    return path


def hers(job: Job) -> Job:
    return replace(job, id=HERS, beneath=own.beneath(job.data, "shop-1", job.files.digest))


def control(job: Job) -> str:
    found = live_adapter(job)
    return own.served_as(found.path if found else None)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def test_without_any_adapter_it_is_the_base_model(job: Job) -> None:
    assert live_adapter(job) is None and live_adapter(hers(job)) is None


def test_of_ones_own_it_is_the_last_one_as_long_as_that_is_served(job: Job) -> None:
    publish(job.data, "shop-1", "o1")
    publish(job.data, HERS, "p1", on_top_of="shop-1/o1")
    assert control(hers(job)) == f"{HERS}/p1"


def test_of_ones_own_it_is_everybodys_once_that_is_another_one(job: Job) -> None:
    """The old one is out of service then: one that made the new one below worse went live, being better than that."""
    publish(job.data, "shop-1", "o1")
    publish(job.data, HERS, "p1", on_top_of="shop-1/o1")
    publish(job.data, "shop-1", "o2")
    assert control(hers(job)) == "shop-1/o2"


def test_of_ones_own_on_the_base_model_it_is_that_as_long_as_nobody_has_more(job: Job) -> None:
    publish(job.data, HERS, "p1", on_top_of="")
    assert control(hers(job)) == f"{HERS}/p1"
    publish(job.data, "@team", "t1")
    assert control(hers(job)) == "@team/t1"


def test_of_a_first_one_it_is_the_shared_one_that_is_lent(job: Job) -> None:
    """Once live it takes that one's place; it had to beat the base model alone."""
    publish(job.data, "@team", "t1", repositories="shop-1 web-2")
    assert control(job) == "@team/t1"
    publish(job.data, "shop-1", "o1")
    assert control(job) == "shop-1/o1"
    assert control(replace(job, id="@team")) == "@team/t1"


def test_one_of_another_base_model_or_damaged_is_none(job: Job) -> None:
    publish(job.data, "shop-1", "o1", base_model="other")
    assert control(job) == ""
    path = publish(job.data, "shop-1", "o2")
    (path / "adapter_model.safetensors").write_bytes(b"x")
    assert control(job) == ""


def test_what_it_stands_on_is_not_judged_against_when_it_is_damaged(job: Job) -> None:
    """It would be held against the base model instead, which nobody has."""
    path = publish(job.data, "shop-1", "o1")
    made = hers(job)
    (path / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(StorageError, match="damaged"):
        live_adapter(made)

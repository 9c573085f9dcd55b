"""One adapter of two repositories, with a tiny model: trained, judged in each, published, and found again by forget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry
from homespun_core.errors import TooLittleCode
from homespun_core.types import ModelFiles
from homespun_indexer.forgotten import Forgotten
from homespun_trainer import canaries, general, memory, report, trained_on
from homespun_trainer.forget.effects import effects, known_repositories, take_away
from homespun_trainer.job import Job, Part
from homespun_trainer.publishing import Outcome
from homespun_trainer.trained_on import Source
from tests.trainer.test_pipeline import corpus, make_job, run
from tests.trainer.tiny import make_model


def shared(job: Job, *parts: Part) -> Job:
    return dataclasses.replace(job, id="@team", name="team", parts=parts)


def part(name: str, num_documents: int = 12) -> Part:
    whole = corpus(num_documents=num_documents)
    documents = [dataclasses.replace(d, path=f"{name}/{d.path}") for d in whole.documents]
    tasks = [dataclasses.replace(t, commit=f"{name} {t.commit}") for t in whole.tasks]
    touched = [Source(repository=None, path=d.path, blob=d.blob, authors=()) for d in documents]
    mine = dataclasses.replace(whole, documents=documents, tasks=tasks, touched=touched)
    return Part(id=f"{name}-1", name=name, corpus=mine)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def trained(files: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Outcome]:
    job = shared(make_job(files, tmp_path_factory.mktemp("data"), corpus()), part("shop"), part("web"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "ALTERNATIVES", 15)
        patch.setattr(canaries, "EVERY", 4)
        patch.setattr(general, "general_tasks", lambda library, places: [])
        return job, run(job)


def test_it_is_judged_on_the_places_of_all_and_of_each(trained: tuple[Job, Outcome]) -> None:
    facts = trained[1].report
    assert facts["arms"]["adapter+retrieval"]["all"]["tasks"] == 120
    assert {name: summary["tasks"] for name, summary in facts["repositories"].items()} == {"shop-1": 60, "web-1": 60}
    assert "in each repository" in report.render(facts) and "web-1" in report.render(facts)


def test_the_registry_knows_what_it_saw(trained: tuple[Job, Outcome]) -> None:
    job, outcome = trained
    adapter = registry.load_adapter(outcome.path)
    assert adapter.path.parent == job.data.adapters("@team") and adapter.repositories == {"shop-1", "web-1"}
    sources = trained_on.read(outcome.path)
    assert sources is not None and {s.repository for s in sources} == {"shop-1", "web-1"} and len(sources) == 24


def test_parts_in_another_order_are_nothing_new(trained: tuple[Job, Outcome]) -> None:
    job, outcome = trained
    again = run(shared(job, *reversed(job.parts)))
    assert not again.is_new and again.version == outcome.version


def test_the_page_names_the_repositories(trained: tuple[Job, Outcome]) -> None:
    page = (trained[1].path / "report.html").read_text(encoding="utf-8")
    assert "By repository" in page and "shop-1" in page


@pytest.mark.parametrize(
    ("request_", "goes"),
    [
        ({"repository": "web-1"}, True),
        ({"repository": "web-1", "path": "web/m1.py"}, True),
        ({"repository": "web-1", "path": "shop/m1.py"}, False),
        ({"repository": "api-1"}, False),
        ({"path": "shop/m1.py"}, True),
    ],
)
def test_forgetting_finds_it_by_any_repository_it_saw(
    trained: tuple[Job, Outcome], request_: dict[str, Any], goes: bool
) -> None:
    job, outcome = trained
    found = effects(job.data, known_repositories(job.data), Forgotten(**request_))
    assert [e.adapters for e in found] == ([(outcome.path,)] if goes else [])


def test_all_too_small_to_learn_from_is_said_of_the_shared_adapter(files: ModelFiles, tmp_path: Path) -> None:
    job = make_job(files, tmp_path, corpus())
    with pytest.raises(TooLittleCode, match="team"):
        run(shared(job, part("shop", num_documents=1), part("web", num_documents=1)))


def test_what_is_forgotten_in_one_takes_it_out_of_service(trained: tuple[Job, Outcome]) -> None:
    """Last: it deletes the adapter."""
    job, outcome = trained
    registry.promote(job.adapters, outcome.version)
    (effect,) = effects(job.data, known_repositories(job.data), Forgotten(repository="web-1"))
    assert effect.is_live
    take_away(job.data, effect)
    assert registry.live(job.adapters) is None and not outcome.path.exists()

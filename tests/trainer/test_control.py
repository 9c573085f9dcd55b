"""What a candidate has to beat, with real adapters on disk: what its people have now, where that learned nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry, storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.personal import personal_id
from homespun_core.types import EvalTask
from homespun_trainer import own
from homespun_trainer.control import control_of, live_adapter
from homespun_trainer.job import Job
from homespun_trainer.stacking import PEFT_FILES, digest_of
from tests.repos import commit, make_repo
from tests.trainer.test_cli import prepared
from tests.trainer.test_pipeline import corpus
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


COMMITS = [f"c{n}" for n in range(20)]
"""Newest first."""


def after(commit: str) -> frozenset[str] | None:
    return frozenset(COMMITS[: COMMITS.index(commit)]) if commit in COMMITS else None


def places(commits: list[str], each: int = 5) -> list[EvalTask]:
    task = corpus(num_tasks=1).tasks[0]
    return [replace(task, commit=c, path=f"{c}_{n}.py") for c in commits for n in range(each)]


def asked(job: Job, tasks: list[EvalTask]) -> Job:
    part = job.parts[0]
    return replace(job, parts=(replace(part, corpus=replace(part.corpus, tasks=tasks, commits_after=after)),))


def cut_at(commit: str, *held_out: str) -> dict[str, Any]:
    return {"corpus": {"commit": commit}, "corpus_report": {"held_out": list(held_out)}}


def test_a_champion_is_compared_where_it_has_learned_nothing(job: Job) -> None:
    """`eval_tasks` was raised, the cut moved back, and every candidate was turned down: the champion knew the lines."""
    publish(job.data, "shop-1", "o1", report=cut_at("c12"))
    tasks = places(COMMITS[:15])
    found = control_of(asked(job, tasks), None)
    assert found.name == "shop-1/o1" and found.passed_over is None
    known = {t.commit for t, fair in zip(tasks, found.is_fair, strict=True) if not fair}
    assert known == {"c12", "c13", "c14"}
    assert "at the 60 of 75 places that neither of the two has learned from" in found.in_words


@pytest.mark.parametrize(("cut", "each"), [("c9", 6), ("c12", 4)])
def test_where_too_few_places_are_left_it_is_the_base_model_and_that_is_said(job: Job, cut: str, each: int) -> None:
    """54 of 9 commits, 48 of 12."""
    publish(job.data, "shop-1", "o1", report=cut_at(cut))
    found = control_of(asked(job, places(COMMITS[:15], each)), None)
    assert found.adapter is None and all(found.is_fair)
    left, number = COMMITS.index(cut) * each, 15 * each
    assert found.passed_over == f"shop-1/o1, which people have, has learned from all but {left} of the {number} places"


def test_a_champion_that_has_learned_nothing_of_them_is_compared_however_few_there_are(job: Job) -> None:
    publish(job.data, "shop-1", "o1", report=cut_at("c12"))
    assert control_of(asked(job, places(COMMITS[:2])), None).name == "shop-1/o1"


def test_files_that_were_held_out_from_the_champion_are_new_to_it(job: Job) -> None:
    """As a young repository is split by files first, then by time."""
    publish(job.data, "shop-1", "o1", report=cut_at("c11", "c14_0.py", "head_1.py"))
    tasks = places(COMMITS[:15])
    found = control_of(asked(job, tasks), None)
    assert {t.path for t, fair in zip(tasks, found.is_fair, strict=True) if fair and t.commit in COMMITS[11:]} == {
        "c14_0.py"
    }
    by_files = [replace(t, commit=f"c0:{t.path}") for t in places(["head"], 60)]
    assert control_of(asked(job, by_files), None).passed_over is not None


def test_each_part_of_a_shared_adapter_has_its_own_cut(job: Job) -> None:
    corpora = {id: {"sources": {"commit": cut}} for id, cut in (("shop-1", "c14"), ("web-2", "c12"))}
    publish(job.data, "@team", "t1", report={"corpora": corpora})
    made = asked(job, places(COMMITS[:14]))
    team = replace(made, id="@team", parts=(*made.parts, replace(made.parts[0], id="web-2", name="web")))
    assert [sum(control_of(team, None).is_fair[n : n + 70]) for n in (0, 70)] == [70, 60]
    assert all(control_of(made, None).is_fair), "to whom it is lent"


def test_what_the_candidate_stands_on_itself_is_compared_everywhere(job: Job) -> None:
    """A person's commits go back further than everybody's cut; both know what is below."""
    below = publish(job.data, "shop-1", "o1", report=cut_at("c1"))
    found = control_of(hers(asked(job, places(COMMITS[:15]))), below)
    assert found.name == "shop-1/o1" and all(found.is_fair) and found.passed_over is None


def test_ones_own_that_has_learned_them_gives_way_to_what_is_below_it(job: Job) -> None:
    """Not to the base model: the candidate has learned all that the one below has."""
    below = publish(job.data, "shop-1", "o1", report=cut_at("c1"))
    publish(job.data, HERS, "p1", on_top_of="shop-1/o1", report=cut_at("c3"))
    found = control_of(hers(asked(job, places(COMMITS[:15]))), below)
    assert found.name == "shop-1/o1" and all(found.is_fair)
    assert found.passed_over is not None and f"{HERS}/p1" in found.passed_over


def test_after_history_was_rewritten_the_champion_is_compared_as_before(job: Job) -> None:
    publish(job.data, "shop-1", "o1", report=cut_at("of another history"))
    assert all(control_of(asked(job, places(COMMITS)), None).is_fair)


def on(*parents: str) -> dict[str, Any]:
    return {"training": {"parents": [{"name": name, "digest": f"digest of {name}"} for name in parents]}}


def test_a_parent_that_has_seen_later_code_is_no_gain(job: Job) -> None:
    """Against the base model every line that `on_top_of` had learned was the candidate's merit."""
    below = publish(job.data, "@org", "t1", repositories="shop-1 web-2", report=cut_at("c12"))
    (below.parent / storage.CURRENT).unlink()
    made = asked(job, tasks := places(COMMITS[:15]))
    found = control_of(made, below)
    assert found.adapter is None
    assert {t.commit for t, fair in zip(tasks, found.is_fair, strict=True) if not fair} == {"c12", "c13", "c14"}
    assert found.in_words.startswith("the base model with the same snippets at the 60 of 75 places")
    assert (
        found.passed_over == "what the new one stands on has learned from all but 60 of the 75 places, or doesn't say"
    )
    assert all(control_of(made, None).is_fair)


def test_what_the_parent_stands_on_counts_as_well(job: Job) -> None:
    publish(job.data, "@org", "t1", report=cut_at("c3"))
    publish(job.data, "@org", "t2", report=cut_at("c14") | on("t1"))
    above = publish(job.data, "shop-1", "o1", report=cut_at("c14") | on("t2"))
    assert sum(control_of(replace(asked(job, places(COMMITS[:15])), id="web-2"), above).is_fair) == 3 * 5


@pytest.mark.parametrize(
    ("repositories", "report", "num_fair"),
    [
        ("", {}, 0),
        ("shop-1", {}, 0),
        ("shop-1", cut_at("of another history"), 0),
        ("web-2 ?", cut_at("c14"), 70),
        ("shop-1", cut_at("c14") | on("gone"), 0),
        ("web-2", {}, 75),
        ("web-2", cut_at("of another history"), 75),
        ("shop-1 web-2", {"corpora": {"web-2": {"sources": {"commit": "w3"}}}}, 75),
    ],
)
def test_a_parent_that_does_not_say_what_it_saw_has_seen_everything(
    job: Job, repositories: str, report: dict[str, Any], num_fair: int
) -> None:
    below = publish(job.data, "other", "x1", repositories=repositories, report=report)
    assert sum(control_of(asked(job, places(COMMITS[:15])), below).is_fair) == num_fair


def test_a_folder_from_elsewhere_has_seen_everything_and_is_fair_where_both_stand_on_it(
    job: Job, tmp_path: Path
) -> None:
    """Its place isn't in reports, the digest of its weights is."""
    below = tmp_path / "elsewhere" / "lora"
    below.mkdir(parents=True)
    for name in PEFT_FILES:
        (below / name).write_text("{}")
    made = asked(job, places(COMMITS[:15]))
    assert not any(control_of(made, below).is_fair)
    stacked = {"training": {"parents": [{"name": "lora", "digest": digest_of(below)}]}}
    publish(job.data, "shop-1", "o1", report=cut_at("c14") | stacked)
    found = control_of(made, below)
    assert (found.name, sum(found.is_fair)) == ("shop-1/o1", 70)


def test_what_both_stand_on_is_no_advantage_of_either(job: Job) -> None:
    """Somebody's last one and their new one are both on top of everybody's, which is newer than their cut."""
    below = publish(job.data, "shop-1", "o1", report=cut_at("c1"))
    publish(job.data, HERS, "p1", on_top_of="shop-1/o1", report=cut_at("c14") | on("o1"))
    found = control_of(hers(asked(job, places(COMMITS[:15]))), below)
    assert (found.name, sum(found.is_fair)) == (f"{HERS}/p1", 70)


def test_a_champion_on_top_of_what_has_learned_them_has_learned_them(job: Job) -> None:
    publish(job.data, "@org", "t1", repositories="shop-1 web-2", report=cut_at("c12"))
    publish(job.data, "shop-1", "o1", report=cut_at("c14") | on("t1"))
    assert sum(control_of(asked(job, places(COMMITS[:15])), None).is_fair) == 60


def test_of_a_real_repository_whose_cut_moves_back(tmp_path: Path) -> None:
    shop, commits = make_repo(tmp_path / "shop", {"shop.py": "START = 1\n"}), []
    for n in range(60):
        lines = "".join(f"    total_{i} = basket.price_{n}_{i}(currency, option={n + i})\n" for i in range(5))
        text = f"def function_{n}(basket):\n{lines}    return total_0\n"
        commits.append(commit(shop, {f"module_{n}.py": text}, f"Add {n}", day=n))
    with prepared(tmp_path, shop, eval_tasks=20) as job:
        sources = {part.id: {"sources": dict(part.corpus.sources), "report": {}} for part in job.parts}
        publish(job.data, "@team", "t1", base_model=job.files.digest, report={"corpora": sources})
        assert job.tasks and all(control_of(job, None).is_fair)
        (cut,) = (part.corpus.sources["commit"] for part in job.parts)
    with prepared(tmp_path, shop, eval_tasks=110) as job:
        found = control_of(job, None)
        is_later = [commits.index(task.commit) > commits.index(cut) for task in job.tasks]
        assert not all(is_later), "the cut has moved"
        assert found.name == "@team/t1" and list(found.is_fair) == is_later

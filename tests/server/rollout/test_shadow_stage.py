"""Where candidates complete in the shadow first: nobody gets them until nothing was found against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.cli import main
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout import state as states
from homespun_server.rollout.follower import RolloutFollower
from homespun_server.rollout.stages import State, shadow_use, share_percent
from homespun_server.shadow import facts
from tests.core.adapters import make_version
from tests.server.rollout.test_follower import REPO, data, lend, place, store  # noqa: F401
from tests.server.shadow.test_shadow import lived

GOOD, BAD = lived(0.0), lived(+0.3)


def look(root: DataDir, feedback: FeedbackStore, canary_percent: float = 10.0) -> None:
    RolloutFollower(root, feedback, canary_percent=canary_percent, watch_days=7.0, shadow="first").look()


def seen(adapters: Path, made: list[facts.ShadowFact]) -> None:
    names = registry.aliases(adapters)
    assert names.candidate is not None
    for fact in made:
        facts.append(adapters, replace(fact, candidate=names.candidate, champion=names.champion))


@pytest.fixture
def parts(data: DataDir, place: Path, store: FeedbackStore) -> tuple[DataDir, Path, FeedbackStore]:  # noqa: F811
    return data, place, store


Parts = tuple[DataDir, Path, FeedbackStore]


def test_it_begins_in_the_shadow_and_users_get_it_once_nothing_was_found(parts: Parts) -> None:
    root, adapters, feedback = parts
    candidate = registry.aliases(adapters).candidate
    assert candidate is not None and share_percent(None, candidate, 10.0, "first") == 0.0
    look(root, feedback)
    state = states.read(adapters)
    assert state is not None and state.stage == "shadow" and share_percent(state, candidate, 10.0, "first") == 0.0
    seen(adapters, GOOD)
    look(root, feedback)
    state = states.read(adapters)
    assert state is not None and state.stage == "canary" and share_percent(state, candidate, 10.0, "first") == 10.0


def test_one_that_is_broken_is_rejected_before_anybody_gets_it(parts: Parts) -> None:
    root, adapters, feedback = parts
    seen(adapters, BAD)
    look(root, feedback)
    now = registry.aliases(adapters)
    assert now.candidate is None and now.champion is not None
    assert "bits per byte" in registry.history(adapters)[-1].why and registry.history(adapters)[-1].by == "rollout"
    look(root, feedback)
    assert not (adapters / facts.FILE).exists() and not (adapters / states.FILE).exists()


def test_without_a_canary_it_is_everybodys_after_the_shadow(parts: Parts) -> None:
    root, adapters, feedback = parts
    candidate = registry.aliases(adapters).candidate
    seen(adapters, GOOD)
    look(root, feedback, canary_percent=0.0)
    assert registry.aliases(adapters).champion == candidate


def test_what_another_candidate_did_says_nothing(parts: Parts) -> None:
    root, adapters, feedback = parts
    for fact in GOOD:
        facts.append(adapters, replace(fact, candidate="v9"))
    look(root, feedback)
    state = states.read(adapters)
    assert state is not None and state.stage == "shadow" and "0 of 100 places" in state.reason


def test_when_the_champion_changes_the_shadow_begins_anew(parts: Parts) -> None:
    """A candidate that was worse than the champion of before was rejected when that had been rolled back already."""
    root, adapters, feedback = parts
    seen(adapters, BAD[:99])
    look(root, feedback)
    registry.rollback(adapters, by="ann")
    with (adapters / facts.FILE).open("a") as file:  # what was begun before
        file.write((adapters / facts.FILE).read_text().splitlines()[0] + "\n")
    look(root, feedback)
    state = states.read(adapters)
    assert state is not None and (state.stage, state.champion) == ("shadow", None)
    assert registry.aliases(adapters).candidate == state.candidate and "0 of 100 places" in state.reason
    seen(adapters, GOOD)
    look(root, feedback)
    state = states.read(adapters)
    assert state is not None and state.stage == "canary"


def test_a_first_candidate_is_held_against_what_is_lent_there(data: DataDir, store: FeedbackStore) -> None:  # noqa: F811
    lend(data, "t1")
    adapters = data.adapters(REPO)
    registry.offer(adapters, make_version(adapters, "v2"), MANUAL)
    look(data, store)
    for fact in BAD:
        facts.append(adapters, replace(fact, candidate="v2", champion=None))
    look(data, store)
    assert registry.aliases(adapters).candidate == "v2", "that was of somebody who may not have what is lent"
    for fact in BAD:
        facts.append(adapters, replace(fact, candidate="v2", champion="t1"))
    look(data, store)
    assert "v2" in registry.aliases(adapters).rejected


def test_a_person_sees_it_in_numbers(parts: Parts, capsys: pytest.CaptureFixture[str]) -> None:
    root, adapters, _ = parts
    seen(adapters, GOOD)
    words = ["adapters", "rollout", REPO, f"--data-dir={root.root}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "in the shadow: 300 places, failed at 0; the same first line at 100%" in said
    assert "of 300 lines that people wrote there" in said and "bits per byte" in said


def test_beside_a_canary_by_hand_users_get_it_at_once() -> None:
    state = State(candidate="v2", champion="v1", since=0.0)
    assert share_percent(state, "v2", 10.0, "beside") == share_percent(None, "v2", 10.0, "beside") == 10.0
    uses = [shadow_use(Settings(shadow_percent=p, rollout=r)) for p, r in ((0, "automatic"), (5, "manual"))]
    assert [*uses, shadow_use(Settings(shadow_percent=5, rollout="automatic"))] == ["none", "beside", "first"]

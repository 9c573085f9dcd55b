"""Retraining beside an automatic rollout: both look at the same registry, by the same clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.config import Settings
from homespun_core.personal import Wish
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout.follower import RolloutFollower
from homespun_server.rollout.stages import Limits
from homespun_trainer.retrain import loop
from homespun_trainer.retrain.policy import Action, rules_of
from homespun_trainer.retrain.subject import Subject
from tests.trainer.retrain.test_subject import NOW, RULES, Scene

DAY = 86_400.0
ROLLING_OUT = replace(RULES, rolls_out=True)
_IDS = itertools.count()


class Clock:
    """Everybody's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, by_the_machine = NOW, time.gmtime
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(time, "gmtime", lambda at=None: by_the_machine(self.now if at is None else at))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.rules = ROLLING_OUT
    made.restart()
    return made


@pytest.fixture
def store(scene: Scene) -> Iterator[FeedbackStore]:
    made = FeedbackStore(open_database("", scene.data.database))
    yield made
    made.close()


def offer(scene: Scene, commit: str) -> str:
    """What the gate's yes leaves where users try an adapter first."""
    version = scene.publish(commit, is_live=False)
    registry.offer(scene.data.adapters("shop-1"), version, MANUAL)
    return version


def push_and_wait_out(scene: Scene, clock: Clock) -> None:
    scene.repository.head += "'"
    scene.decide(clock.now)
    clock.now += DAY


def test_rollouts_end_where_the_code_changes_every_day(scene: Scene, store: FeedbackStore, clock: Clock) -> None:
    """A new candidate each week restarted them, and none came to its end: they take eight days where nothing is
    proven."""
    place, settled = scene.data.adapters("shop-1"), Limits().settled_s
    scene.publish("a")
    follower = RolloutFollower(scene.data, store, canary_percent=10.0, watch_days=0.0, limits=Limits(min_outcomes=20))
    champions: list[str | None] = []
    for _ in range(40):
        push_and_wait_out(scene, clock)
        if (decision := scene.decide(clock.now)).action is Action.TRAIN:
            scene.subject.begin(decision, clock.now)
            offer(scene, decision.commit)
            scene.subject.end(0, clock.now)
        names = registry.aliases(place)
        for arm in filter(None, (names.champion, names.candidate)):
            store.write([completion(arm, user, clock.now - settled - 1) for user in range(12) for _ in range(2)])
        follower.look(clock.now)
        champions.append(registry.aliases(place).champion)
    assert len(set(champions)) >= 4


def completion(adapter: str, user: int, at: float) -> CompletionFact:
    return CompletionFact(
        id=f"c{next(_IDS)}",
        time=at,
        user=f"{adapter} {user}",
        repository="shop-1",
        language="python",
        adapter=adapter,
        characters=20,
        first_line=20,
        latency_ms=20.0,
    )


def test_while_a_candidate_is_tried_retrain_says_so_and_how_to_end_it(
    scene: Scene, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.publish("a")
    candidate = offer(scene, "b")
    push_and_wait_out(scene, clock)
    assert loop.once([scene.subject], scene.rules, scene.train, measures=False, is_dry=False) == 0
    said = capsys.readouterr().out
    assert said.startswith("homespun: shop: not now: 200 kB of 1,000 kB have changed since")
    assert f"; {candidate} is being tried, and a newer one would start that anew (to end it: homespun adapters" in said
    assert ", until 2030-04-1" in said and scene.trained == []
    registry.reject(scene.data.adapters("shop-1"), by="ann")
    assert scene.decide(clock.now).action is Action.TRAIN


def test_a_candidate_that_nobody_uses_is_replaced_after_a_month(scene: Scene, clock: Clock) -> None:
    scene.publish("a")
    offer(scene, "b")
    push_and_wait_out(scene, clock)
    assert scene.decide(NOW + 29.9 * DAY).until == NOW + 30 * DAY
    assert scene.decide(NOW + 30 * DAY).action is Action.TRAIN


@pytest.mark.usefixtures("clock")
def test_what_no_rollout_can_end_holds_nothing_up(scene: Scene) -> None:
    scene.publish("a")
    offer(scene, "b")
    later = NOW + DAY
    scene.repository.head = "c"
    scene.rules = RULES  # a person ends it
    scene.restart()
    assert scene.decide(later).action is Action.TRAIN
    scene.rules = ROLLING_OUT
    wish = Wish(user="ann", name="Ann", authors=(), since=NOW)
    own = Subject("shop", scene.repository, scene.data, scene.rules, "r", "base", wish)
    assert (decision := own.decision(later)) is not None and decision.action is Action.TRAIN
    scene.restart(base="other")
    assert scene.decide(later).action is Action.TRAIN
    registry.pin(scene.data.adapters("shop-1"), by="ann")
    scene.restart()
    assert scene.decide(later).action is Action.TRAIN


def test_only_a_share_of_users_with_an_automatic_rollout_is_a_trial() -> None:
    assert not rules_of(Settings(rollout="automatic")).rolls_out
    assert not rules_of(Settings(canary_percent=10.0)).rolls_out
    assert rules_of(Settings(rollout="automatic", canary_percent=10.0)).rolls_out
    assert rules_of(Settings(rollout="automatic", shadow_percent=10.0)).rolls_out

"""Shared adapters and people's own are trained again like repositories: real registry and wishes, git is ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import acceptance, personal, registry
from homespun_core.children import StopRequest
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.registry import Adapter
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_trainer import heads
from homespun_trainer.retrain import loop
from homespun_trainer.retrain.drift import FreshPlace
from homespun_trainer.retrain.policy import Action, Rules
from homespun_trainer.retrain.roll import Roll, Watched
from homespun_trainer.retrain.subject import Sight, Subject
from tests.trainer.retrain.test_subject import JUDGED, NOW, Repository

TEAM = ScopeConfig(name="team", repositories=(RepositoryConfig(source="/shop"), RepositoryConfig(source="/web")))


class Named(Repository):
    def __init__(self, id: str, head: str) -> None:
        super().__init__(head)
        self.id = id
        self.own = 0

    def look(self) -> Sight:
        return Sight(repo=self.id, name=self.id[:-2], head=self.head, is_forgotten=self.is_forgotten)

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        """Twelve places in all, the shop's at one bit for a byte, others at two."""
        bits = 10.0 if self.id == "shop-1" else 20.0
        return [FreshPlace(repository=self.id, commit=f"c{n}", bits=bits, bytes=10) for n in range(12 // shared_by)]

    def own_changes(self, since: str | None, authors: Sequence[str]) -> int:
        return 0 if since == self.head else self.own


class Company:
    def __init__(self, root: Path) -> None:
        self.data = DataDir(root)
        self.shop, self.web = Named("shop-1", "a"), Named("web-2", "b")
        watched = [Watched(word=r.id[:-2], id=r.id, view=r, own_changes=r.own_changes) for r in (self.shop, self.web)]
        members = lambda scope: [self.shop, self.web]  # noqa: E731
        rules = Rules(changed=100_000, gap=0, quiet=0)
        self.roll = Roll(watched, [TEAM], members, data=self.data, rules=rules, recipe="r", base_digest="base")

    def subject(self, name: str) -> Subject:
        return next(s for s in self.roll if s.source == name)

    def action(self, name: str) -> tuple[Action, str]:
        decision = self.subject(name).decision(NOW)
        assert decision is not None
        return decision.action, decision.reason

    def trained(self, name: str) -> str:
        """As a run that ended well."""
        subject = self.subject(name)
        decision = subject.decision(NOW)
        assert decision is not None
        subject.begin(decision, NOW)
        subject.end(0, NOW)
        return decision.commit

    def publish(self, id: str, report: dict[str, object], saw: str = "shop-1") -> str:
        version = registry.new_version(f"{len(list(self.data.adapters(id).glob('*'))):08d}")
        place = self.data.adapters(id)
        sources = {"base_model": "base", "repositories": saw}
        with registry.publish_adapter(place / version, fingerprint="0" * 8, sources=sources, report=report) as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"")
        registry.promote(place, version)
        return version


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def test_commits_of_several_repositories_are_one_word() -> None:
    assert heads.joined({"web-2": "b", "shop-1": "a"}) == "shop-1=a,web-2=b"
    assert heads.parted("shop-1=a,web-2=b") == {"shop-1": "a", "web-2": "b"}
    with pytest.raises(ConfigError, match="write ID=COMMIT"):
        heads.parted("abcdef")


def test_a_shared_adapter_is_due_when_enough_has_changed_in_all_of_its_repositories_together(company: Company) -> None:
    assert company.action("team") == (Action.TRAIN, "there is no adapter yet")
    assert company.trained("team") == "shop-1=a,web-2=b"
    corpora = {id: {"sources": {"head": head}} for id, head in (("shop-1", "a"), ("web-2", "b"))}
    company.publish("@team", {"corpora": corpora})
    assert company.action("team")[0] is Action.WAIT
    company.shop.head, company.shop.size = "a2", 60_000
    assert company.action("team")[0] is Action.WAIT
    company.web.head, company.web.size = "b2", 60_000
    action, reason = company.action("team")
    assert action is Action.TRAIN and "120 kB" in reason


def test_a_shared_adapter_goes_on_without_what_is_to_be_forgotten(company: Company) -> None:
    """And learns it again once that is taken back."""
    company.shop.is_forgotten = True
    assert company.trained("team") == "web-2=b"
    company.publish("@team", {"corpora": {"web-2": {"sources": {"head": "b"}}}})
    company.shop.head = "a2"
    assert company.action("team")[0] is Action.WAIT
    company.shop.is_forgotten = False
    assert company.action("team")[0] is Action.TRAIN
    company.shop.is_forgotten = company.web.is_forgotten = True
    assert "all of it is to be forgotten" in company.action("team")[1]


def test_drift_of_a_shared_adapter_is_that_of_its_repositories_together(company: Company) -> None:
    corpora = {id: {"sources": {"head": head}} for id, head in (("shop-1", "a"), ("web-2", "b"))}
    version = company.publish("@team", {"corpora": corpora, **JUDGED, "bits_per_byte": {"shop-1": 1.0, "web-2": 1.8}})
    company.shop.head = "a2"
    company.action("team")
    score = company.subject("team").measure(NOW)
    assert score is not None and (score.adapter, score.head) == (version, "shop-1=a2,web-2=b")
    assert (score.places, score.bits_per_byte, score.baseline, score.is_alarm) == (12, 1.5, 1.4, False)
    assert company.subject("team").scores() == [score]


def test_what_is_accepted_of_a_shared_adapter_is_counted_where_it_serves(company: Company) -> None:
    """Where a repository has an adapter of its own, that is what people see."""
    now, before = acceptance.week_of(NOW), acceptance.week_of(NOW - 21 * 86_400)
    fallen = {now: (300, 60), before: (400, 160)}
    acceptance.write(company.data, {"shop-1": fallen, "web-2": fallen, "api-3": {now: (9, 9)}})
    company.publish("@team", {"corpora": {"shop-1": {"sources": {"head": "a"}}, "web-2": {"sources": {"head": "b"}}}})
    company.action("team")
    assert company.subject("team").acceptance() == {now: (600, 120), before: (800, 320)}
    score, reception = company.subject("team").measure(NOW), company.subject("team").receive(NOW)
    assert score is not None and (score.accepted, score.accepted_before) == (0.2, 0.4)
    assert reception is not None and reception.is_fall
    company.publish("shop-1", {"corpus": {"head": "a"}})
    assert company.subject("team").acceptance() == fallen


def test_people_come_onto_the_roll_and_go(company: Company) -> None:
    assert [s.source for s in company.roll] == ["shop", "web", "team"]
    personal.want(company.data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    assert [s.source for s in company.roll][3:] == ["+u1+shop-1", "+u1+web-2"]
    assert company.subject("+u1+shop-1") is company.subject("+u1+shop-1")
    personal.take_back(company.data, "u1")
    assert [s.source for s in company.roll] == ["shop", "web", "team"]


def test_somebodys_own_counts_what_they_wrote_alone(company: Company) -> None:
    personal.want(company.data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    word = "+u1+shop-1"
    assert company.trained(word) == "a"
    company.publish(word, {"corpus": {"head": "a"}})
    company.shop.head, company.shop.size, company.shop.own = "a2", 900_000, 0
    assert "nothing has changed since that counts" in company.action(word)[1]
    company.shop.head, company.shop.own = "a3", 150_000
    assert company.action(word)[0] is Action.TRAIN


@pytest.mark.parametrize("is_wanted_again", [False, True])
def test_of_a_run_whose_owner_took_it_back_nothing_is_noted(company: Company, is_wanted_again: bool) -> None:
    """The ledger was there again behind whoever had deleted everything."""
    ada, word = Wish(user="u1", name="ada", authors=("00",), since=1.0), "+u1+shop-1"
    personal.want(company.data, ada)
    subject = company.subject(word)
    decision = subject.decision(NOW)
    assert decision is not None
    subject.begin(decision, NOW)
    personal.take_back(company.data, "u1")
    if is_wanted_again:
        personal.want(company.data, replace(ada, since=2.0, authors=("11",)))
    subject.end(0, NOW)
    assert not company.data.retraining(word).exists()
    if is_wanted_again:
        assert company.subject(word) is not subject
        assert company.action(word) == (Action.TRAIN, "there is no adapter yet")


def test_another_adapter_below_makes_somebodys_own_due(company: Company) -> None:
    """It is served on top of the one that it was trained on alone."""
    personal.want(company.data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    word = "+u1+shop-1"
    company.trained(word)
    company.publish(word, {"corpus": {"head": "a"}})
    assert company.action(word)[0] is Action.WAIT
    company.publish("shop-1", {"corpus": {"head": "a"}})
    action, reason = company.action(word)
    assert action is Action.TRAIN and "settings of training have changed" in reason


def test_nothing_is_trained_of_a_repository_that_its_owner_may_not_read(company: Company) -> None:
    personal.want(company.data, Wish(user="u1", name="ada", authors=("00",), since=1.0))

    def owned() -> set[str]:
        return {str(s.source) for s in company.roll if personal.owner_of(str(s.source)) is not None}

    shop, web = personal.personal_id("u1", "shop-1"), personal.personal_id("u1", "web-2")
    assert owned() == {shop, web}, "as long as no server has said what they may read"
    personal.note_rights(company.data, "u1", ("shop-1",))
    assert owned() == {shop}
    personal.note_rights(company.data, "u1", ("shop-1", "web-2"))
    assert owned() == {shop, web}


def test_another_right_of_its_owner_makes_somebodys_own_due(company: Company) -> None:
    """It stands on what they are served, and the shared adapter saw what they may not read."""
    personal.want(company.data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    company.publish("@team", {}, saw="shop-1 web-2")
    word = "+u1+shop-1"
    company.trained(word)
    company.publish(word, {"corpus": {"head": "a"}})
    personal.note_rights(company.data, "u1", ("@team", "shop-1"))
    assert company.action(word)[0] is Action.WAIT, "still without the team's"
    personal.note_rights(company.data, "u1", ("@team", "shop-1", "web-2"))
    action, reason = company.action(word)
    assert action is Action.TRAIN and "settings of training have changed" in reason


def test_a_child_is_told_whose_adapter_it_is() -> None:
    asked: list[tuple[object, ...]] = []

    class Children:
        def run_until(self, is_enough: object, *words: object) -> int:
            asked.append(words)
            return 0

    train = loop.train_in_child(Children(), {"shop-1": "/srv/shop"})  # type: ignore[arg-type]
    train("+u1+shop-1", "abc", lambda: False)
    train("team", "shop-1=a,web-2=b", lambda: False)
    assert asked == [
        ("train", ["/srv/shop"], ["--commit", "abc", "--for", "u1"]),
        ("train", ["team"], ["--commit", "shop-1=a,web-2=b"]),
    ]


class Ending(StopRequest):
    """Asks to stop once `is_over`, or after 20 s."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self._is_over, self._until = is_over, time.monotonic() + 20

    @property
    def is_made(self) -> bool:  # type: ignore[override]
        return self._is_over() or time.monotonic() > self._until

    def wait(self, *processes: object, timeout_s: float = 0, until: Callable[[], bool] = lambda: False) -> None:
        time.sleep(0.01)


def test_independent_trainings_run_side_by_side_up_to_the_limit(company: Company) -> None:
    """Two workers were there, and one of them had nothing to do while the other trained for hours."""
    two, lock = threading.Barrier(2, timeout=20), threading.Lock()
    running: set[str] = set()
    peaks: list[int] = []
    ended: list[str] = []

    def train(source: str, commit: str, is_enough: Callable[[], bool]) -> int:
        with lock:
            assert source not in running
            running.add(source)
            peaks.append(len(running))
        if source != "team":
            two.wait()  # ends only beside the other
        with lock:
            running.remove(source)
            ended.append(source)
        return 0

    rules = Rules(changed=100_000, gap=0, quiet=0)
    loop.watch(company.roll, rules, train, Ending(lambda: len(ended) == 3), most=2, measures=False)
    assert sorted(ended) == ["shop", "team", "web"] and max(peaks) == 2

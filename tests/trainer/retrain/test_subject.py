"""What became of runs, and what the policy makes of it: real ledger, registry and locks; git and training are ours."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from homespun_core import acceptance, registry, storage
from homespun_core.children import StopRequest
from homespun_core.cli import BUSY
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.registry import Adapter
from homespun_core.retraining import Ledger, read_ledger, write_ledger
from homespun_trainer.retrain import loop
from homespun_trainer.retrain.drift import FreshPlace
from homespun_trainer.retrain.policy import Action, Decision, Rules, rules_of
from homespun_trainer.retrain.subject import Sight, Subject, recipe_digest

NOW = 1_900_000_000.0
"""Years after the adapters that these tests publish."""
RULES = Rules(quiet=60.0)


JUDGED = {"arms": {"adapter+retrieval": {"all": {"bits_per_byte": {"value": 1.0, "low": 0.9, "high": 1.1}}}}}


class Repository:
    """A View that is pushed to by assignment."""

    def __init__(self, head: str = "a", changed: int = 200_000) -> None:
        self.head, self.size = head, changed
        self.problem: Exception | None = None
        self.measured: list[str] = []
        self.is_alarm = True
        self.is_forgotten = False

    def look(self) -> Sight:
        if self.problem is not None:
            raise self.problem
        return Sight(repo="shop-1", name="shop", head=self.head, is_forgotten=self.is_forgotten)

    def changed(self, since: str | None) -> tuple[int, int]:
        return (0 if since == self.head else self.size), 1_000_000

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        """Against JUDGED."""
        self.measured.append(adapter.version)
        bits = 11.0 if self.is_alarm else 10.0
        return [FreshPlace(repository="shop-1", commit=f"c{n}", bits=bits, bytes=10) for n in range(12)]


class Scene:
    def __init__(self, root: Path) -> None:
        self.data = DataDir(root)
        self.repository = Repository()
        self.rules = RULES
        self.trained: list[str] = []
        self.status: int | None = 0
        self.restart()

    def restart(self, *, recipe: str = "r", base: str = "base") -> None:
        """As a new process would find it."""
        self.subject = Subject("shop", self.repository, self.data, self.rules, recipe, base)

    def decide(self, now: float = NOW) -> Decision:
        decision = self.subject.decision(now)
        assert decision is not None
        return decision

    def publish(self, commit: str, *, base: str = "base", is_live: bool = True, **facts: object) -> str:
        """What `homespun train` leaves in the registry."""
        version = registry.new_version(f"{len(list(self.data.adapters('shop-1').glob('*'))):08d}")
        path = self.data.adapters("shop-1") / version
        report = {"corpus": {"head": commit, "commit": commit}, **JUDGED, **facts}
        with registry.publish_adapter(path, fingerprint="f", sources={"base_model": base}, report=report) as tmp:
            (tmp / "adapter_model.safetensors").write_bytes(b"w")
        if is_live:
            registry.promote(self.data.adapters("shop-1"), version)
        return version

    def train(self, source: str, commit: str, is_enough: Callable[[], bool]) -> int | None:
        self.trained.append(commit)
        return self.status

    def run(self, decision: Decision) -> int | None:
        return loop.run(self.subject, decision, self.rules, self.train)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_run_that_ended_well_is_not_done_again_after_a_restart(scene: Scene) -> None:
    assert scene.decide().action is Action.TRAIN
    scene.run(scene.decide())
    scene.restart()
    assert scene.decide().action is Action.WAIT


def test_a_process_killed_between_the_adapter_and_the_ledger_trains_that_commit_in_no_time(scene: Scene) -> None:
    """The run in the ledger is gone on with; `homespun train` finds its adapter there, and says so."""
    scene.subject.decision(NOW)
    scene.subject.begin(scene.decide(), NOW)
    scene.publish("a")
    scene.restart()
    assert scene.decide().commit == "a"
    scene.run(scene.decide())
    assert scene.decide().action is Action.WAIT


def test_a_process_killed_in_a_run_goes_on_with_the_commit_it_had(scene: Scene) -> None:
    scene.subject.begin(scene.decide(), NOW)
    scene.repository.head = "b"
    scene.restart()
    decision = scene.decide()
    assert (decision.action, decision.commit) == (Action.TRAIN, "a")
    assert "goes on" in decision.reason


def test_a_lost_ledger_is_made_up_for_by_the_registry(scene: Scene) -> None:
    scene.publish("a", is_live=False)
    assert scene.decide().action is Action.WAIT
    scene.repository.head = "b"
    assert "200 kB of 1,000 kB" in scene.decide(NOW + 100).reason


def test_what_is_to_be_forgotten_as_a_whole_is_not_trained(scene: Scene) -> None:
    """It was due for ever, having no adapter, and each run failed."""
    scene.repository.is_forgotten = True
    decision = scene.decide()
    assert decision.action is Action.WAIT and "all of it is to be forgotten" in decision.reason
    scene.repository.is_forgotten = False
    assert scene.decide().action is Action.TRAIN


def test_a_run_that_a_clock_put_into_next_year_is_not_the_newest_for_a_year(scene: Scene) -> None:
    later = NOW + 365 * 86_400
    scene.subject.begin(scene.decide(), later)
    scene.subject.end(0, later)
    scene.publish("a")
    scene.repository.head = "b"
    scene.decide()
    assert scene.decide(NOW + 100).action is Action.TRAIN
    scene.publish("b", is_live=False)  # by hand
    decision = scene.decide(NOW + 100)
    assert decision.action is Action.WAIT and "nothing has changed since 20" in decision.reason


def test_what_was_turned_down_against_an_adapter_that_is_gone_is_judged_again(scene: Scene) -> None:
    champion = scene.publish("a", promote=True)
    scene.publish("b", is_live=False, promote=False, control_adapter=f"shop-1/{champion}")
    scene.repository.head = "b"
    assert "nothing has changed" in scene.decide(NOW + 100).reason
    registry.rollback(scene.data.adapters("shop-1"), by="ann")
    decision = scene.decide(NOW + 100)
    assert (decision.action, decision.commit) == (Action.TRAIN, "b") and "to be judged again" in decision.reason
    scene.run(decision)
    assert scene.decide(NOW + 200).action is Action.WAIT, "a run that made none, of too little code, is not repeated"


def test_what_was_turned_down_against_the_base_model_stays_that(scene: Scene) -> None:
    scene.publish("a", is_live=False, promote=False, control_adapter="")
    assert scene.decide(NOW + 100).action is Action.WAIT


def test_tuning_by_preference_learns_no_new_code(scene: Scene) -> None:
    scene.publish("a", is_live=False)
    scene.repository.head = "b"
    scene.publish("b", is_live=False, preferences={"taken": 200})
    assert "200 kB of 1,000 kB" in scene.decide(NOW + 100).reason


def test_an_adapter_of_another_base_model_is_none(scene: Scene) -> None:
    scene.publish("a", base="other")
    assert "no adapter yet" in scene.decide().reason


def test_other_settings_of_training_are_a_reason(scene: Scene) -> None:
    scene.run(scene.decide())
    scene.publish("a")
    scene.restart(recipe="s")
    assert "settings" in scene.decide().reason


def test_an_interrupted_run_goes_on_after_a_while_and_a_failed_one_starts_anew(scene: Scene) -> None:
    for status, goes_on in ((130, True), (-9, True), (1, False)):
        scene.status = status
        scene.subject.begin(scene.decide(NOW + 9_000), NOW)
        scene.subject.end(status, NOW)
        assert scene.decide(NOW + 1).action is Action.WAIT
        assert (read_ledger(scene.data.retraining("shop-1")).running is not None) == goes_on


def test_a_paused_run_is_no_failure(scene: Scene) -> None:
    scene.status = None
    scene.run(scene.decide())
    ledger = read_ledger(scene.data.retraining("shop-1"))
    assert ledger.running is not None and ledger.failures == 0


def test_while_somebody_else_trains_it_waits(scene: Scene) -> None:
    with storage.locked(scene.data.locks / "train-shop-1.lock", "training"):
        assert scene.subject.decision(NOW) is None
    assert scene.decide().action is Action.TRAIN


def test_a_push_is_waited_out(scene: Scene) -> None:
    scene.publish("a")
    assert scene.decide(NOW).action is Action.WAIT
    scene.repository.head = "b"
    assert scene.decide(NOW + 10).until == NOW + 70
    scene.repository.head = "c"
    assert scene.decide(NOW + 60).until == NOW + 120
    decision = scene.decide(NOW + 120)
    assert (decision.action, decision.commit) == (Action.TRAIN, "c")


def test_drift_is_kept_and_a_reason_where_that_is_wanted(scene: Scene) -> None:
    version = scene.publish("a")
    scene.rules = replace(RULES, age=1e12)
    scene.restart()
    scene.repository.head, scene.repository.size = "b", 10
    scene.decide()
    assert scene.subject.measure(NOW) is not None and scene.repository.measured == [version]
    assert scene.subject.measure(NOW) is None  # today's is there
    assert scene.decide().action is Action.WAIT
    scene.rules = replace(scene.rules, trains_on_drift=True)
    scene.restart()
    assert "less likely" in scene.decide(NOW).reason
    assert [score.head for score in scene.subject.scores()] == ["b"]


def test_less_that_is_accepted_is_an_alarm_and_a_reason_where_that_is_wanted(scene: Scene) -> None:
    scene.publish("a")
    scene.rules = replace(RULES, age=1e12)
    scene.restart()
    scene.repository.head, scene.repository.size, scene.repository.is_alarm = "b", 10, False
    weeks = {acceptance.week_of(NOW): (1_000, 200), acceptance.week_of(NOW - 21 * 86_400): (2_000, 600)}
    acceptance.write(scene.data, {"shop-1": weeks})
    assert scene.decide().action is Action.WAIT
    scene.rules = replace(scene.rules, trains_on_drift=True)
    scene.restart()
    assert "less is accepted of what is shown" in scene.decide(NOW).reason
    score, reception = scene.subject.measure(NOW), scene.subject.receive(NOW)
    assert score is not None and not score.is_alarm and scene.subject.scores() == [score]
    assert loop.score_in_words(score).endswith("of what is shown 20% is accepted, 30% before")
    assert reception is not None and reception.is_fall and scene.subject.receptions() == [reception]


def test_less_that_is_accepted_is_said_once_without_any_fresh_code_and_when_it_is_over(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody pushed, and nothing was measured: the alarm hung on that. What is neither raises none and ends none."""
    scene.publish("a")
    scene.restart()
    monkeypatch.setattr(time, "time", lambda: NOW)
    before = {acceptance.week_of(NOW - 21 * 86_400): (2_000, 600)}
    for accepted in (200, 200, 250, 300, 250, 200):
        acceptance.write(scene.data, {"shop-1": before | {acceptance.week_of(NOW): (1_000, accepted)}})
        assert loop.once([scene.subject], RULES, scene.train, measures=False, is_dry=False) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "accepted" in line]
    fallen, over = ("homespun: shop: of what is shown {} is accepted, 30% before{}".format(*words) for words in WORDS)
    assert told == [fallen, over, fallen] and scene.repository.measured == [] and scene.trained == []


def test_what_fell_under_another_adapter_is_no_alarm_of_the_one_that_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made weeks ago, live since a minute: the last weeks were those of the one that was rolled back."""
    scene.publish("a")
    scene.restart()
    weeks = {acceptance.week_of(NOW): (1_000, 200), acceptance.week_of(NOW - 21 * 86_400): (2_000, 600)}
    acceptance.write(scene.data, {"shop-1": weeks})
    scene.decide()
    monkeypatch.setattr(registry, "champion_since", lambda events, version: NOW - 60)
    assert scene.subject.receive(NOW) is None
    monkeypatch.undo()
    assert scene.subject.receive(NOW) is not None


WORDS = (("20%", " (alarm)"), ("30%", ": the alarm is over"))


def test_what_was_accepted_of_another_adapter_is_no_reason(scene: Scene) -> None:
    scene.publish("a")
    scene.rules = replace(RULES, age=1e12, trains_on_drift=True)
    scene.restart()
    scene.repository.head, scene.repository.size = "b", 10
    for age, is_reason in ((86_400, False), (15 * 86_400, True)):
        now = time.time() + age
        weeks = {acceptance.week_of(now): (1_000, 200), acceptance.week_of(now - 21 * 86_400): (2_000, 600)}
        acceptance.write(scene.data, {"shop-1": weeks})
        assert ("less is accepted" in scene.decide(now).reason) is is_reason


def test_too_little_fresh_code_is_looked_for_once_a_push(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs seconds, and a watch looks every few."""
    heads: list[str] = []

    def too_little(adapter: Adapter) -> Sequence[FreshPlace]:
        heads.append(scene.repository.head)
        return ()

    monkeypatch.setattr(scene.repository, "measure", too_little)
    scene.publish("a")
    for head in ("b", "b", "c", "c"):
        scene.repository.head = head
        scene.decide()
        assert scene.subject.measure(NOW) is None
    assert heads == ["b", "c"]


def test_one_look_trains_each_repository_once_and_says_why(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert loop.once([scene.subject], RULES, scene.train, measures=True, is_dry=True) == 0
    assert scene.trained == []
    assert loop.once([scene.subject], RULES, scene.train, measures=True, is_dry=False) == 0
    assert scene.trained == ["a"]
    assert capsys.readouterr().out.splitlines() == ["homespun: shop: due: there is no adapter yet"] * 2


def test_what_cannot_be_read_is_one_line_and_the_others_are_trained(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Repository()
    broken.problem = RepositoryError("https://git.example.com/x: can't be read")
    first = Subject("x", broken, scene.data, RULES, "r", "base")
    assert loop.once([first, scene.subject], RULES, scene.train, measures=True, is_dry=False) == 1
    assert scene.trained == ["a"]
    assert capsys.readouterr().err == "homespun: https://git.example.com/x: can't be read\n"


def test_what_another_process_was_faster_to_train_is_no_failure(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two that watch the same repository looked at the same time: one of them noted a failure, and that nothing was
    under way, so that the other's run would not have gone on after a kill -9."""
    scene.status = BUSY
    assert loop.once([scene.subject], RULES, scene.train, measures=True, is_dry=False) == 0
    assert "another process is at it" in capsys.readouterr().out
    ledger = read_ledger(scene.data.retraining("shop-1"))
    assert ledger.failures == 0 and ledger.running is not None and ledger.running.commit == "a"


def test_a_run_that_cannot_be_noted_ends_no_watch(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full for a minute, and nothing was trained any more."""
    full = OSError(errno.ENOSPC, "No space left on device", "ledger.json")
    at = "homespun_trainer.retrain.subject.write_ledger"

    def cannot(*_: object) -> None:
        raise full

    def write_nothing_that_runs(folder: Path, ledger: Ledger) -> None:
        (write_ledger if ledger.running is None else cannot)(folder, ledger)

    monkeypatch.setattr(at, write_nothing_that_runs)
    loop.watch([scene.subject], RULES, scene.train, Waits(lambda: monkeypatch.setattr(at, write_ledger)))
    assert scene.trained == ["a"]
    assert "ledger.json: the disk is full" in capsys.readouterr().err


class Waits(StopRequest):
    """Instead of waiting, something happens: what is in the list, one after the other; then it is a request to stop."""

    def __init__(self, *happenings: Callable[[], None]) -> None:
        self.is_made, self._happenings = False, list(happenings)

    def wait(self, *processes: object, timeout_s: float = 0, until: Callable[[], bool] = lambda: False) -> None:
        if self._happenings:
            self._happenings.pop(0)()
        else:
            self.is_made = True


def test_a_watch_trains_at_once_then_when_enough_was_pushed(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Here without a gap and a quiet time; two pushes within one look are one run, a small one is none."""
    rules = replace(RULES, gap=0.0, quiet=0.0, age=1e12)
    scene.rules = rules
    scene.restart()

    def push(head: str, size: int) -> Callable[[], None]:
        def happen() -> None:
            scene.repository.head, scene.repository.size = head, size

        return happen

    def push_twice() -> None:
        push("c", 200_000)()
        push("d", 200_000)()

    def nothing() -> None:
        pass

    def train(source: str, commit: str, is_enough: Callable[[], bool]) -> int | None:
        scene.publish(commit)
        return scene.train(source, commit, is_enough)

    loop.watch([scene.subject], rules, train, Waits(nothing, push("b", 10), nothing, push_twice, nothing))
    assert scene.trained == ["a", "d"]
    decisions = [line for line in capsys.readouterr().out.splitlines() if "bits per byte" not in line]
    assert all(a != b for a, b in pairwise(decisions))  # what doesn't change isn't said again


def test_the_recipe_is_what_shapes_an_adapter() -> None:
    same = recipe_digest(Settings(), "base")
    assert recipe_digest(Settings(data_dir="/elsewhere", num_threads=3, log_level="debug", port=1), "base") == same
    assert recipe_digest(Settings(approval="manual", processes=2), "base") == same
    assert recipe_digest(Settings(canary_percent=10.0, shadow_percent=20.0, progress="json"), "base") == same
    assert recipe_digest(Settings(train_minutes=20), "base") != same
    assert recipe_digest(Settings(), "other") != same


def test_settings_become_rules() -> None:
    rules = rules_of(Settings(retrain_changed_kb=2, retrain_changed_percent=5, retrain_days=1, retrain_gap_hours=0.5))
    assert (rules.changed, rules.changed_share, rules.age, rules.gap) == (2_000, 0.05, 86_400, 1_800)

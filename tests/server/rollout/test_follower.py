"""From outcomes in a database to changes of the registry."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.cli import main
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_server.database.opening import open_database
from homespun_server.feedback.facts import CompletionFact, Event
from homespun_server.feedback.store import FeedbackStore
from homespun_server.rollout import state as states
from homespun_server.rollout.follower import RolloutFollower, watched_since
from homespun_server.rollout.stages import Limits
from tests.core.adapters import make_version

REPO = "shop-1a2b3c4d"
DAY = 86_400.0
_IDS = itertools.count()


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


@pytest.fixture
def place(data: DataDir) -> Path:
    """A champion and a candidate."""
    place = data.adapters(REPO)
    registry.promote(place, make_version(place, "v1"))
    registry.offer(place, make_version(place, "v2"), MANUAL)
    return place


@pytest.fixture
def store(data: DataDir) -> Iterator[FeedbackStore]:
    made = FeedbackStore(open_database("", data.database))
    yield made
    made.close()


def follower(
    data: DataDir, store: FeedbackStore, watch_days: float = 7.0, approval: str = "automatic"
) -> RolloutFollower:
    limits = Limits(min_days=0.0, min_outcomes=20, settled_s=0.0)
    return RolloutFollower(data, store, canary_percent=10.0, watch_days=watch_days, approval=approval, limits=limits)


def use(store: FeedbackStore, adapter: str, accepted: int, at: float, arm: str = "") -> None:
    """Four completions for each of 30 users; `accepted` of them, one less for every third user."""
    for number in range(30):
        for turn in range(4):
            id = f"c{next(_IDS)}"
            made = CompletionFact(
                id=id,
                time=at,
                user=f"{arm}{number}",
                repository=REPO,
                language="python",
                adapter=adapter,
                characters=20,
                first_line=20,
                latency_ms=20.0,
            )
            is_accepted = turn < accepted - (number % 3 == 0)
            store.write([made, *([Event(completion=id, kind="accepted", time=at)] if is_accepted else [])])


def test_a_better_candidate_goes_from_a_share_to_half_to_all_across_restarts(
    data: DataDir, place: Path, store: FeedbackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    follower(data, store).look(now=100.0)
    use(store, "v1", 2, 110.0, "a")
    use(store, "v2", 2, 110.0, "b")
    follower(data, store).look(now=200.0)
    state = states.read(place)
    assert state is not None and (state.stage, state.since) == ("half", 200.0)
    assert main(["status", "--data-dir", str(data.root)]) == 0
    assert "v2 is tried by half of the users" in capsys.readouterr().out
    follower(data, store).look(now=300.0)
    assert registry.aliases(place).candidate == "v2"
    use(store, "v1", 1, 310.0, "a")
    use(store, "v2", 3, 310.0, "b")
    follower(data, store).look(now=400.0)
    assert registry.aliases(place).champion == "v2" and states.read(place) is None
    last = registry.history(place)[-1]
    assert (last.by, last.what) == ("rollout", "approve") and "kept characters" in last.why


def test_where_a_person_approves_users_alone_make_nothing_everybodys(
    data: DataDir,
    place: Path,
    store: FeedbackStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    careful = follower(data, store, approval="manual")
    careful.look(now=100.0)
    use(store, "v1", 2, 110.0, "a")
    use(store, "v2", 2, 110.0, "b")
    careful.look(now=200.0)
    use(store, "v1", 1, 210.0, "a")
    use(store, "v2", 3, 210.0, "b")
    careful.look(now=300.0)
    assert registry.aliases(place).candidate == "v2"
    monkeypatch.setenv("HOMESPUN_ROLLOUT", "automatic")
    monkeypatch.setenv("HOMESPUN_APPROVAL", "manual")
    assert main(["adapters", "rollout", REPO, "--data-dir", str(data.root)]) == 0
    assert "a person approves it (homespun adapters approve); what users did says approve" in capsys.readouterr().out
    use(store, "v2", 0, 310.0, "b")
    use(store, "v2", 0, 320.0, "b")
    use(store, "v1", 4, 320.0, "a")
    careful.look(now=400.0)
    names = registry.aliases(place)
    assert names.candidate is None and "v2" in names.rejected


def test_a_pinned_champion_stays_and_the_candidate_waits(data: DataDir, place: Path, store: FeedbackStore) -> None:
    registry.pin(place, by="ann")
    follower(data, store).look(now=100.0)
    use(store, "v1", 2, 110.0, "a")
    use(store, "v2", 2, 110.0, "b")
    follower(data, store).look(now=200.0)
    use(store, "v1", 1, 210.0, "a")
    use(store, "v2", 3, 210.0, "b")
    follower(data, store).look(now=300.0)
    names = registry.aliases(place)
    assert (names.champion, names.candidate) == ("v1", "v2")


def test_a_champion_that_users_lose_by_is_rolled_back_once(data: DataDir, place: Path, store: FeedbackStore) -> None:
    since = time.time()
    use(store, "v1", 3, since - 100)
    registry.approve(place, by="ann")
    use(store, "v2", 1, since + 100)
    follower(data, store, watch_days=0.0).look(now=since + 200)
    assert registry.aliases(place).champion == "v2"
    follower(data, store).look(now=since + 200)
    names, last = registry.aliases(place), registry.history(place)[-1]
    assert names.champion == "v1" and "v2" in names.rejected and "not side by side" in last.why
    assert watched_since(registry.history(place), "v1") is None


def test_a_shared_adapter_is_judged_by_the_repositories_it_is_lent_to(data: DataDir, store: FeedbackStore) -> None:
    place, sources = data.adapters("@team"), {"base_model": "d1gest", "repositories": f"{REPO} other-1"}
    for version in ("v1", "v2"):
        with registry.publish_adapter(place / version, fingerprint="f", sources=sources, report={}) as folder:
            (folder / "adapter_model.safetensors").write_bytes(version.encode())
    registry.promote(place, "v1")
    registry.offer(place, "v2", MANUAL)
    follower(data, store).look(now=100.0)
    use(store, "v1", 3, 110.0, "a")
    use(store, "v2", 1, 110.0, "b")
    follower(data, store).look(now=200.0)
    assert "v2" in registry.aliases(place).rejected


def test_a_verdict_about_one_candidate_does_not_hit_the_next(place: Path) -> None:
    registry.offer(place, make_version(place, "v3"), MANUAL)
    for change in (registry.approve, registry.reject):
        with pytest.raises(StorageError, match="v2 was meant, it is v3"):
            change(place, by="rollout", only="v2")
    assert registry.aliases(place).candidate == "v3"


def test_an_unreadable_state_begins_again_with_the_smaller_share(
    data: DataDir, place: Path, store: FeedbackStore
) -> None:
    for damage in ("{", "[]", '{"format": 1}', '{"format": 2, "stage": "half"}'):
        (place / states.FILE).write_text(damage)
        assert states.read(place) is None
    follower(data, store).look(now=100.0)
    state = states.read(place)
    assert state is not None and state.stage == "canary"


def test_the_command_shows_both_arms_and_what_is_missing_and_aborts(
    data: DataDir,
    place: Path,
    store: FeedbackStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOMESPUN_CANARY_PERCENT", "10")
    monkeypatch.setenv("HOMESPUN_ROLLOUT", "automatic")
    words = ["adapters", "rollout", "--data-dir", str(data.root)]
    at = time.time() - 1_000
    follower(data, store).look(now=at)
    use(store, "v2", 2, at + 10)
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "v2 is tried by 10 % of the users" in shown and "another 23.7 hours and 80 completions" in shown
    assert main([*words, "--json"]) == 0
    arm = json.loads(capsys.readouterr().out)[REPO]["arms"]["candidate"]
    assert (arm["users"], arm["opportunities"], arm["accepted"], arm["p95_ms"]) == (30, 120, 50, 20.0)
    assert main([*words, "--abort"]) == 1
    assert "say whose rollout" in capsys.readouterr().err
    assert main([*words, "shop", "--abort"]) == 0
    assert "v2" in registry.aliases(place).rejected
    assert main(words) == 0
    assert "v1 is everybody's" in capsys.readouterr().out


def test_a_clock_that_was_ahead_once_holds_no_rollout_up(
    data: DataDir, place: Path, store: FeedbackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time() - 1_000
    follower(data, store).look(now=now + 365 * DAY)
    assert main(["adapters", "rollout", "--data-dir", str(data.root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[REPO]["since"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    follower(data, store).look(now=now)
    use(store, "v1", 3, now + 10, "a")
    use(store, "v2", 1, now + 10, "b")
    follower(data, store).look(now=now + 20)
    assert "v2" in registry.aliases(place).rejected


@pytest.mark.parametrize(("fell_after", "champion"), [(100.0, "v1"), (8 * DAY, "v2")])
def test_a_champion_of_next_year_is_watched_from_now_on_and_not_until_then(
    data: DataDir, place: Path, store: FeedbackStore, monkeypatch: pytest.MonkeyPatch, fell_after: float, champion: str
) -> None:
    now = time.time()
    monkeypatch.setattr(registry, "_now", lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 365 * DAY)))
    registry.approve(place, by="ann")
    watching = follower(data, store)
    use(store, "v1", 3, now - 100)
    watching.look(now=now)
    use(store, "v2", 1, now + fell_after)
    watching.look(now=now + fell_after + 100)
    assert registry.aliases(place).champion == champion


def lend(data: DataDir, version: str, base: str = "d1gest") -> None:
    """A shared adapter that has seen the repository, live."""
    shared, sources = data.adapters("@team"), {"base_model": base, "repositories": f"{REPO} other-1"}
    with registry.publish_adapter(
        shared / version, fingerprint="f", sources=sources, report={"promote": True, "reasons": []}
    ) as folder:
        (folder / "adapter_model.safetensors").write_bytes(version.encode())
    registry.promote(shared, version)


def test_a_first_candidate_is_held_against_the_shared_adapter_that_is_lent_there(
    data: DataDir, store: FeedbackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it was held against had no users, so that it could be neither everybody's nor rejected."""
    lend(data, "t1")
    place = data.adapters(REPO)
    registry.offer(place, make_version(place, "v1"), MANUAL)
    follower(data, store).look(now=100.0)
    use(store, "t1", 3, 110.0, "a")
    use(store, "v1", 1, 110.0, "b")
    assert main(["adapters", "rollout", REPO, "--data-dir", str(data.root)]) == 0
    assert "champion   30" in capsys.readouterr().out
    follower(data, store).look(now=200.0)
    names = registry.aliases(place)
    assert names.candidate is None and "v1" in names.rejected


def test_a_first_champion_that_users_lose_by_beside_what_was_lent_before_is_rolled_back(
    data: DataDir, store: FeedbackStore
) -> None:
    since, place = time.time(), data.adapters(REPO)
    lend(data, "t1")
    use(store, "t1", 3, since - 100)
    registry.promote(place, make_version(place, "v1"))
    use(store, "v1", 1, since + 100)
    follower(data, store).look(now=since + 200)
    assert registry.aliases(place).champion is None
    assert "compared with t1 before" in registry.history(place)[-1].why


def test_a_shared_adapter_for_another_base_model_is_lent_to_nobody(data: DataDir, store: FeedbackStore) -> None:
    lend(data, "t1", base="another")
    place = data.adapters(REPO)
    registry.offer(place, make_version(place, "v1"), MANUAL)
    follower(data, store).look(now=100.0)
    state = states.read(place)
    assert state is not None and state.champion is None

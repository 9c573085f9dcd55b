"""The registry on disk: after any sequence of changes, and after death at any call, what is live is there and whole."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homespun_core import registry, storage
from homespun_core.aliases import AUTOMATIC, MANUAL, Aliases, Refused
from homespun_core.errors import StorageError
from tests.core.adapters import make_version

DIED = 9


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """Two versions that were live one after the other, and one that wasn't."""
    place = tmp_path / "adapters" / "shop-1"
    for version in ("1", "2", "3"):
        make_version(place, version)
    registry.promote(place, "1")
    registry.promote(place, "2")
    return place


def test_an_old_data_directory_has_a_champion_and_nothing_else(tmp_path: Path) -> None:
    make_version(tmp_path, "1")
    storage.set_current(tmp_path, "1")
    assert registry.aliases(tmp_path) == Aliases(champion="1")
    assert registry.rollback(tmp_path, by="ann") == Aliases(rejected=frozenset("1"))
    assert registry.live(tmp_path) is None


def test_a_rollback_is_one_call_and_stays_after_the_gate_says_yes_again(adapters: Path) -> None:
    registry.rollback(adapters, by="ann", why="slow")
    registry.offer(adapters, "2", AUTOMATIC)
    live = registry.live(adapters)
    assert live is not None and live.version == "1"


def test_since_when_a_version_is_live_again_counts_from_its_return(adapters: Path) -> None:
    events = [
        replace(event, time=f"2026-11-0{day}T00:00:00+00:00") for day, event in enumerate(registry.history(adapters), 1)
    ]
    back = replace(events[0], time="2026-11-05T00:00:00+00:00", what="rollback", champion="1")
    pinned = replace(back, time="2026-11-06T00:00:00+00:00", what="pin")
    assert registry.champion_since(events, "2") == 1_793_577_600.0  # the second
    assert registry.champion_since([*events, back, pinned], "1") == 1_793_836_800.0  # the fifth
    assert registry.champion_since(events, "1") is None and registry.champion_since([], "1") is None


def test_a_way_back_skips_what_is_damaged(adapters: Path) -> None:
    registry.promote(adapters, "3")
    (adapters / "2" / "adapter_model.safetensors").write_bytes(b"other weights")
    assert registry.rollback(adapters, by="ann").champion == "1"


def test_a_damaged_version_does_not_go_live(adapters: Path) -> None:
    (adapters / "3" / "adapter_model.safetensors").write_bytes(b"other weights")
    with pytest.raises(StorageError, match="damaged"):
        registry.promote(adapters, "3", by="ann")
    assert registry.aliases(adapters).champion == "2"


def test_an_adapter_of_a_newer_homespun_does_not_go_live_and_stays_as_it_is(adapters: Path) -> None:
    manifest = adapters / "3" / storage.MANIFEST
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    newer = manifest.read_text()
    with pytest.raises(StorageError, match="format 2, this Homespun reads 1; use the version that wrote it"):
        registry.promote(adapters, "3", by="ann")
    assert registry.aliases(adapters).champion == "2" and manifest.read_text() == newer


def test_a_retired_version_is_out_of_service_and_deleted(adapters: Path) -> None:
    registry.pin(adapters, by="ann")
    assert registry.retire(adapters, ["2"], by="ann", why="forgotten") == Aliases(champion="1")
    assert registry.versions(adapters) == ["1", "3"]
    registry.retire(adapters, ["2"], by="ann")


def test_of_several_retired_versions_none_serves_for_a_moment(adapters: Path) -> None:
    """One after the other would make the next one live that must go."""
    registry.promote(adapters, "3")
    assert registry.retire(adapters, ["2", "3"], by="ann") == Aliases(champion="1")
    assert {event.champion for event in registry.history(adapters)[3:]} == {"1"}


def test_pruning_leaves_every_version_with_a_name(adapters: Path) -> None:
    for version in ("4", "5", "6"):
        make_version(adapters, version)
    registry.offer(adapters, "3", MANUAL)
    assert registry.prune(adapters, keep=1) == ["4", "5"]
    assert registry.prune(adapters, keep=0) == ["6"]
    assert registry.versions(adapters) == ["1", "2", "3"]


def test_a_version_made_while_the_clock_was_ahead_is_not_the_newest_for_ever(tmp_path: Path) -> None:
    """Every version made after it was older by its name: pruned first, never found again, and not told of."""
    place = tmp_path / "shop-1"
    ahead = make_version(place, "20991231-235959-aaaaaaaa")
    made = [make_version(place, registry.new_version(f"{n}" * 8, place)) for n in range(3)]
    assert registry.versions(place) == [ahead, *made]
    newest = registry.newest(place)
    assert newest is not None and newest.version == made[-1] == "21000101-000002-22222222"
    assert registry.prune(place, keep=2) == [ahead, made[0]]


def test_versions_of_one_second_are_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    made = [make_version(tmp_path, registry.new_version(letter * 8, tmp_path)) for letter in "dcba"]
    assert registry.versions(tmp_path) == made


def test_pruning_leaves_what_another_adapter_stands_on(adapters: Path) -> None:
    """After some seven trainings of the organisation's the one below the team's was gone, and so was every retraining
    of the team's."""
    team = adapters.with_name("@team")
    make_version(team, "t1", training={"parents": [{"name": "3", "digest": "abc"}]})
    make_version(team, "t2", preferences={"below": ["shop-1", "5"]})
    make_version(adapters.with_name("+u1+shop-1"), "p1", training={"parents": [{"name": "6", "digest": "abc"}]})
    (team / "t0").mkdir()
    (team / "t0" / registry.REPORT).write_text("[")
    for version in ("4", "5", "6", "7"):
        make_version(adapters, version)
    on_top_of = str(adapters / "7")
    assert registry.prune(adapters, keep=0, on_top_of=on_top_of) == ["4", "6"]
    shutil.rmtree(team)
    assert registry.prune(adapters, keep=0, on_top_of="@team") == ["3", "5", "7"]


def test_the_history_says_who_did_what_and_why(adapters: Path) -> None:
    registry.offer(adapters, "3", MANUAL)
    registry.approve(adapters, by="ann", why="looks good\nto me")
    last = registry.history(adapters)[-1]
    assert (last.by, last.what, last.version, last.champion) == ("ann", "approve", "3", "3")
    assert last.why == "looks good\nto me" and [e.what for e in registry.history(adapters)].count("offer") == 1


def test_a_change_that_changes_nothing_leaves_no_trace(adapters: Path) -> None:
    before = registry.history(adapters)
    registry.promote(adapters, "2")
    assert registry.history(adapters) == before


def test_a_line_of_history_cut_off_by_death_spoils_no_other(adapters: Path) -> None:
    with (adapters / registry.HISTORY).open("a") as handle:
        handle.write('{"time": "2026')
    registry.rollback(adapters, by="ann")
    assert [e.what for e in registry.history(adapters)] == ["promote", "promote", "rollback"]


def test_a_damaged_record_is_said_and_never_costs_a_pin_silently(adapters: Path) -> None:
    (adapters / registry.ALIASES).write_text("{}")
    with pytest.raises(StorageError, match=r"ALIASES\.json: unreadable .* delete it"):
        registry.offer(adapters, "3", AUTOMATIC)
    live = registry.live(adapters)
    assert live is not None and live.version == "2"


def test_the_card_names_what_it_was_made_of_and_why_it_passed(adapters: Path) -> None:
    card = (adapters / "1" / registry.CARD).read_text()
    weights = storage.file_digest(adapters / "1" / "adapter_model.safetensors")
    for fact in ("| base model | tiny |", "d1gest", "c0rpus", "c0ffee", weights, "| seed | 7 |", "| torch | 2.13.0 |"):
        assert fact in card
    assert "+3.1% [+1.2%, +5.0%]" in card and "The gate let it pass" in card and "it predicts" in card


def test_the_card_of_an_old_version_is_made_when_it_is_shown(adapters: Path) -> None:
    (adapters / "1" / registry.CARD).unlink()
    assert "# Adapter 1" in registry.model_card_of(adapters / "1")


def test_a_name_can_not_make_a_table_of_its_own_in_the_card(tmp_path: Path) -> None:
    make_version(tmp_path, "1", reasons=["a\n| b | <script>"])
    card = (tmp_path / "1" / registry.CARD).read_text()
    assert "- a \\| b \\| &lt;script>" in card


OPERATIONS: dict[str, Callable[[Path, str], object]] = {
    "promote": lambda place, version: registry.promote(place, version, by="ann"),
    "offer": lambda place, version: registry.offer(place, version, AUTOMATIC),
    "suggest": lambda place, version: registry.offer(place, version, MANUAL),
    "approve": lambda place, _: registry.approve(place, by="ann"),
    "reject": lambda place, _: registry.reject(place, by="ann"),
    "rollback": lambda place, _: registry.rollback(place, by="ann"),
    "pin": lambda place, _: registry.pin(place, by="ann"),
    "unpin": lambda place, _: registry.unpin(place, by="ann"),
    "retire": lambda place, version: registry.retire(place, [version], by="ann"),
    "prune": lambda place, _: registry.prune(place, keep=1),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from("123456")), max_size=12))
def test_any_sequence_of_changes_keeps_the_champion_whole_and_the_pin_held(
    steps: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("data") / "adapters" / "shop-1"
    for version in "123456":
        make_version(place, version)
    for what, version in steps:
        before = registry.aliases(place)
        if what in ("promote", "offer", "suggest") and version not in registry.versions(place):
            continue
        try:
            OPERATIONS[what](place, version)
        except Refused:
            assert registry.aliases(place) == before
        check(place, before, what, version)


def check(place: Path, before: Aliases, what: str, version: str) -> None:
    now, live = registry.aliases(place), registry.live(place)
    assert (live.version if live else None) == now.champion
    named = [v for v in (now.champion, now.previous, now.candidate) if v]
    assert set(named) <= set(registry.versions(place))
    assert now.champion not in (now.previous, now.candidate) or now.champion is None
    assert not now.rejected & {now.champion, now.candidate}
    if before.pinned and (what, version) != ("retire", before.champion):
        assert now.champion == before.champion
    if what != "retire":
        assert before.protected <= set(registry.versions(place))


@pytest.mark.parametrize("what", ["promote", "approve", "rollback", "retire", "pin"])
def test_death_at_any_call_leaves_the_old_champion_or_the_new_and_the_change_can_be_made_again(
    what: str, adapters: Path, tmp_path: Path
) -> None:
    registry.offer(adapters, "3", MANUAL)
    about = "2" if what == "retire" else "3"
    undisturbed = Path(shutil.copytree(adapters, tmp_path / "undisturbed"))
    OPERATIONS[what](undisturbed, about)
    allowed = {registry.aliases(adapters).champion, registry.aliases(undisturbed).champion}
    for number in itertools.count(1):
        place = Path(shutil.copytree(adapters, tmp_path / str(number)))
        status = die_in(lambda place=place: OPERATIONS[what](place, about), number)  # type: ignore[misc]
        now, live = registry.aliases(place), registry.live(place)
        assert now.champion in allowed and live is not None and live.version == now.champion
        if (now.champion == registry.aliases(adapters).champion and what != "pin") or what in ("retire", "pin"):
            OPERATIONS[what](place, about)
        assert registry.aliases(place) == registry.aliases(undisturbed)
        assert registry.versions(place) == registry.versions(undisturbed)
        if status != DIED:
            assert status == 0 and number > 4
            return


def die_in(change: Callable[[], object], number: int) -> int:
    """Run it in a process of its own that dies at its `number`th call that reaches the disk."""
    pid = os.fork()
    if pid == 0:
        calls = itertools.count(1)

        def dying(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*args: object, **kwargs: object) -> object:
                if next(calls) == number:
                    os._exit(DIED)
                return call(*args, **kwargs)

            return counted

        for name in ("fsync", "rename", "replace", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        ended = 1
        try:
            change()
            ended = 0
        finally:  # whatever happened, this process must not go on as if it were the other one
            os._exit(ended)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_changes_at_the_same_time_wait_for_one_another(adapters: Path) -> None:
    """A training that ends while somebody pins a version must not fail for that."""
    children = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            ended = 1
            try:
                with contextlib.suppress(Refused):
                    OPERATIONS["pin" if number % 2 else "promote"](adapters, "3")
                ended = 0
            finally:
                os._exit(ended)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 6
    lines = (adapters / registry.HISTORY).read_text().splitlines()
    assert [json.loads(line)["what"] for line in lines].count("pin") == 1


def test_a_report_that_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / registry.REPORT).write_text("[]")
    with pytest.raises(StorageError, match=r"report\.json: not a report"):
        registry.read_report(tmp_path)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from homespun_core.aliases import AUTOMATIC, MANUAL, Aliases, Refused, as_json, from_json

ALL = ("a", "b", "c", "d")
START = Aliases(champion="b", past=("a",))
PINNED = replace(START, pinned=True)
WAITING = replace(START, candidate="c")
Change = Callable[[Aliases], Aliases]


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        pytest.param(Aliases(), lambda now: now.promoted("a"), Aliases(champion="a"), id="the first champion"),
        pytest.param(START, lambda now: now.promoted("b"), START, id="live already"),
        pytest.param(START, lambda now: now.promoted("c"), Aliases(champion="c", past=("b", "a")), id="a new one"),
        pytest.param(START, lambda now: now.promoted("a"), Aliases(champion="a", past=("b",)), id="an old one again"),
        pytest.param(
            START, lambda now: now.offered("c", AUTOMATIC), Aliases(champion="c", past=("b", "a")), id="automatic"
        ),
        pytest.param(START, lambda now: now.offered("c", MANUAL), WAITING, id="a person has the last word"),
        pytest.param(
            PINNED, lambda now: now.offered("c", AUTOMATIC), replace(PINNED, candidate="c"), id="pinned: it waits"
        ),
        pytest.param(START, lambda now: now.offered("a", AUTOMATIC), START, id="the gate's yes counts once"),
        pytest.param(WAITING, lambda now: now.approved(), Aliases(champion="c", past=("b", "a")), id="approved"),
        pytest.param(WAITING, lambda now: now.turned_down(), replace(START, rejected=frozenset("c")), id="turned down"),
        pytest.param(
            START, lambda now: now.rolled_back(), Aliases(champion="a", rejected=frozenset("b")), id="rolled back"
        ),
        pytest.param(
            Aliases(champion="a"),
            lambda now: now.rolled_back(),
            Aliases(rejected=frozenset("a")),
            id="to the base model",
        ),
        pytest.param(PINNED, lambda now: now.released(), START, id="unpinned"),
        pytest.param(PINNED, lambda now: now.retired("b"), Aliases(champion="a"), id="a pin doesn't keep what must go"),
        pytest.param(START, lambda now: now.retired("a"), Aliases(champion="b"), id="the previous one retired"),
        pytest.param(WAITING, lambda now: now.retired("c"), START, id="the candidate retired"),
    ],
)
def test_each_decision_makes_of_the_names_what_it_says(before: Aliases, change: Change, after: Aliases) -> None:
    assert change(before) == after


@pytest.mark.parametrize(
    ("now", "change", "why"),
    [
        (PINNED, lambda now: now.promoted("c"), "pinned"),
        (PINNED, lambda now: now.rolled_back(), "pinned"),
        (replace(PINNED, candidate="c"), lambda now: now.approved(), "pinned"),
        (START, lambda now: now.approved(), "no candidate"),
        (START, lambda now: now.turned_down(), "no candidate"),
        (Aliases(), lambda now: now.rolled_back(), "base model"),
        (Aliases(), lambda now: now.held(), "base model"),
        (START, lambda now: now.released(), "nothing is pinned"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(now: Aliases, change: Change, why: str) -> None:
    with pytest.raises(Refused, match=why):
        change(now)


def test_a_rejected_version_is_not_offered_again_until_a_person_promotes_it() -> None:
    back = START.rolled_back()
    assert back.offered("b", AUTOMATIC) == back
    assert back.promoted("b") == Aliases(champion="b", past=("a",))


def test_a_record_reads_back_as_it_was_written() -> None:
    for now in (Aliases(), START, PINNED, WAITING, WAITING.turned_down(), START.rolled_back()):
        assert from_json(as_json(now), now.champion, ALL) == now


@pytest.mark.parametrize("change", [lambda now: now.promoted("d"), lambda now: now.rolled_back()])
def test_a_record_written_before_its_pointer_changes_nothing_that_serves(change: Change) -> None:
    """Death between the two writes: the old pointer is still there."""
    cut_off = from_json(as_json(change(START)), START.champion, ALL)
    assert cut_off == START


def test_an_approval_that_is_cut_off_can_be_given_again() -> None:
    record = as_json(WAITING.approved(), waiting="c")
    assert from_json(record, "b", ALL) == WAITING
    assert from_json(record, "c", ALL) == WAITING.approved()


def test_a_pointer_moved_by_a_homespun_without_records_is_believed() -> None:
    assert from_json(as_json(PINNED), "d", ALL) == Aliases(champion="d", past=("b", "a"))


def test_names_of_versions_that_are_gone_are_dropped() -> None:
    now = Aliases(champion="c", past=("b", "a"), candidate="d", rejected=frozenset("x"))
    assert from_json(as_json(now), "c", ("a", "c")) == Aliases(champion="c", past=("a",))


def test_a_champion_that_is_gone_leaves_its_past_to_go_back_to() -> None:
    assert from_json(as_json(PINNED), "b", ("a",)) == Aliases(past=("a",))

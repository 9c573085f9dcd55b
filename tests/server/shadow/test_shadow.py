"""A candidate in the shadow: what was written is recognised, what is kept are numbers, and what is broken is found."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_server.shadow import facts
from homespun_server.shadow.decision import MIN_PLACES, decide, seen
from homespun_server.shadow.facts import ShadowFact, Written
from homespun_server.shadow.typed import line_typed

BEFORE = "def total(items):\n    amount = 0\n    for item in items:\n        amount += item."


@pytest.mark.parametrize(
    ("later", "line"),
    [
        (BEFORE + "price", None),  # still at it
        (BEFORE + "price\n", "price"),
        (BEFORE + "price * item.count  \n    return ", "price * item.count"),
        (BEFORE + "\n", ""),
        ("x" * 500 + BEFORE[-150:] + "price\n", "price"),  # the client sends less of what is above
        (BEFORE[:-3], None),  # deleted
        (BEFORE + "price\n\n" + BEFORE + "cost\n", None),  # twice: which of them?
        (BEFORE + "price\n" + "y" * 7_000, None),  # far away by now
    ],
)
def test_what_was_written_at_a_place(later: str, line: str | None) -> None:
    assert line_typed(BEFORE, later) == line


def test_too_little_text_is_no_place() -> None:
    assert line_typed("\n\n   x", "\n\n   x = 1\n") is None


def fact(candidate: str = "v2", **values: object) -> ShadowFact:
    return ShadowFact(time=1.0, candidate=candidate, champion="v1", **values)  # type: ignore[arg-type]


def test_facts_are_kept_until_there_is_another_candidate(tmp_path: Path) -> None:
    written = Written(champion_right=True, candidate_right=False, champion_bits=3.0, candidate_bits=4.5, bytes=12)
    for made in (fact(agrees=True, champion_ms=1.0, candidate_ms=1.5), fact(written=written), fact(failed=True)):
        facts.append(tmp_path, made)
    with (tmp_path / facts.FILE).open("a") as file:
        file.write('{"time": 1.0, "candid')  # killed while writing
    assert [f.written for f in facts.read(tmp_path, "v2", "v1")] == [None, written, None]
    assert facts.read(tmp_path, "v3", "v1") == []
    facts.append(tmp_path, fact("v3"))
    assert facts.read(tmp_path, "v2", "v1") == [] and len(facts.read(tmp_path, "v3", "v1")) == 1


def test_once_another_champion_is_live_the_facts_begin_anew(tmp_path: Path) -> None:
    """What was measured against the one before decided about the candidate."""
    for champion in ("v1", "v1", "v0", None):
        facts.append(tmp_path, replace(fact(), champion=champion))
    assert [len(facts.read(tmp_path, "v2", champion)) for champion in ("v0", "v1", "v9", None)] == [1, 2, 0, 1]


def test_a_file_that_is_full_of_another_champions_facts_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_MAX_BYTES", 500)
    for _ in range(9):
        facts.append(tmp_path, fact())
    assert 1 < len(facts.read(tmp_path, "v2", "v1")) < 9
    facts.append(tmp_path, replace(fact(), champion="v0"))
    assert len(facts.read(tmp_path, "v2", "v0")) == 1 and not facts.read(tmp_path, "v2", "v1")


def test_where_it_cannot_be_written_nothing_else_suffers(tmp_path: Path) -> None:
    facts.append(tmp_path / "gone", fact())
    assert facts.read(tmp_path / "gone", "v2", "v1") == []


NOTHING = Written(champion_right=True, candidate_right=True, champion_bits=0.0, candidate_bits=0.0, bytes=0)


def lived(change: float, *, slower: float = 1.0, failed: float = 0.0, places: int = 300) -> list[ShadowFact]:
    """People's lines cost `change` bits per byte more with the candidate, on average; a good deal of noise."""
    rng = random.Random(7)
    found = []
    for _ in range(places):
        bits = rng.uniform(10, 60)
        line = Written(
            champion_right=bits < 20,
            candidate_right=bits < 20,
            champion_bits=bits,
            candidate_bits=bits + 20 * rng.gauss(change, 0.3),
            bytes=20,
        )
        found.append(
            fact(failed=True)
            if rng.random() < failed
            else fact(agrees=True, champion_ms=2.0, candidate_ms=2.0 * slower, written=line)
        )
    return found


@pytest.mark.parametrize(
    ("facts_", "verdict", "why"),
    [
        (lived(0.0), "go on", "nothing was found"),
        (lived(-0.1), "go on", "nothing was found"),
        (lived(+0.3), "reject", "bits per byte"),
        (lived(0.0, slower=1.5), "reject", "3.0 ms instead of 2.0"),
        (lived(0.0, failed=0.1), "reject", "failed at"),
        (lived(+0.3, places=MIN_PLACES - 1), "wait", "99 of 100 places"),
        ([fact(agrees=True)] * 500, "wait", "0 of 40 lines"),
        ([fact(failed=True)] * 500, "reject", "failed at 500 of 500"),
        (lived(+0.3, places=39) + [fact(written=NOTHING)] * 100, "wait", "39 of 40 lines"),
        ([], "wait", "0 of 100"),
        (lived(math.inf), "reject", "no finite number"),
        ([*lived(0.0), fact(written=replace(NOTHING, candidate_bits=math.inf, bytes=9))], "reject", "no finite number"),
        ([*lived(0.0), fact(written=replace(NOTHING, candidate_bits=math.nan, bytes=9))], "reject", "no finite number"),
    ],
)
def test_what_it_says(facts_: list[ShadowFact], verdict: str, why: str) -> None:
    found, reason = decide(facts_)
    assert found == verdict and why in reason


def test_a_candidate_that_is_as_good_is_hardly_ever_rejected() -> None:
    rejected = 0
    for seed in range(200):
        rng = random.Random(seed)
        places = [
            fact(
                written=Written(
                    champion_right=False,
                    candidate_right=False,
                    champion_bits=30.0,
                    candidate_bits=30 + rng.gauss(0, 6),
                    bytes=20,
                )
            )
            for _ in range(150)
        ]
        rejected += decide(places)[0] == "reject"
    assert rejected <= 2


def test_in_numbers() -> None:
    written = Written(champion_right=True, candidate_right=False, champion_bits=10.0, candidate_bits=14.0, bytes=8)
    found = seen([fact(agrees=True, champion_ms=1.0, candidate_ms=3.0, written=written), fact(failed=True), fact()])
    assert (found.places, found.failed, found.agreement, found.written) == (3, 1, 0.5, 1)
    assert (found.champion_right, found.candidate_right, found.bits_per_byte) == (1.0, 0.0, 0.5)
    assert (found.champion_ms, found.candidate_ms) == (1.0, 3.0)

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from homespun_core import nudges
from homespun_core.acceptance import COMPARED_S
from homespun_core.paths import DataDir
from homespun_core.retraining import (
    FreshScore,
    Ledger,
    Reception,
    Run,
    alarm,
    append_reception,
    append_score,
    fall,
    read_ledger,
    read_receptions,
    read_scores,
    write_ledger,
)


def score(at: float, adapter: str = "v1", *, is_alarm: bool = False) -> FreshScore:
    return FreshScore(
        at=at,
        adapter=adapter,
        head="h",
        places=40,
        bytes=1_000,
        bits=1_030.0,
        low=1.0,
        baseline=1.0,
        is_alarm=is_alarm,
    )


def test_a_ledger_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = Run(commit="c", started=1.5, recipe="r")
    ledger = Ledger(running=run, last=None, failures=2, failed_at=3.0, decision="wait: for it")
    write_ledger(tmp_path / "shop", ledger)
    assert read_ledger(tmp_path / "shop") == ledger


def test_a_missing_or_damaged_ledger_is_an_empty_one(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == Ledger()
    for text in ("", "[]", '{"running": 1, "last": null}', '{"running": null, "last": null, "colour": "blue"}'):
        (tmp_path / "ledger.json").write_text(text)
        assert read_ledger(tmp_path) == Ledger()


def test_a_score_that_a_killed_process_left_half_written_costs_that_one_only(tmp_path: Path) -> None:
    append_score(tmp_path, score(1))
    with (tmp_path / "drift.jsonl").open("a") as handle:
        handle.write('{"at": 2, "adap')
    append_score(tmp_path, score(3))
    assert [s.at for s in read_scores(tmp_path)] == [1, 3]


def test_a_time_that_is_yet_to_come_makes_no_score_the_newest(tmp_path: Path) -> None:
    """A clock was a year ahead when it was measured: what it said then was shown, and an alarm, for that year."""
    for at, is_alarm in ((1, False), (1e9, True), (2, False)):
        append_score(tmp_path, score(at, is_alarm=is_alarm))
    scores = read_scores(tmp_path)
    assert scores[-1].at == 2 and alarm(scores, "v1") is None


def test_only_the_live_adapters_last_score_is_an_alarm() -> None:
    scores = [score(1, is_alarm=True), score(2), score(3, "v2", is_alarm=True)]
    assert alarm(scores, "v1") is None
    assert alarm(scores, "v2") == scores[2]
    assert alarm(scores, None) is None
    assert round(scores[0].drift_percent or 0, 6) == 3.0


def test_less_that_is_accepted_is_of_the_live_adapter_and_until_it_is_over(tmp_path: Path) -> None:
    fallen = Reception(at=1.0, adapter="v1", lately=0.2, before=0.3, is_fall=True)
    append_reception(tmp_path, fallen)
    assert fall(read_receptions(tmp_path), "v1", 5.0) == fallen and fall(read_receptions(tmp_path), "v2", 5.0) is None
    assert fall(read_receptions(tmp_path), "v1", 1.0 + COMPARED_S) is None, "nobody knows any more what was before"
    append_reception(tmp_path, replace(fallen, at=2.0, is_fall=False))
    assert fall(read_receptions(tmp_path), "v1", 5.0) is None and read_scores(tmp_path) == []


def test_every_nudge_changes_the_stamp(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert nudges.stamp(data, "shop") is None
    stamps = []
    for _ in range(5):
        nudges.nudge(data, "shop")
        stamps.append(nudges.stamp(data, "shop"))
    assert all(a != b for a, b in itertools.pairwise(stamps))
    assert nudges.stamp(data, "till") is None


def test_scores_with_bytes_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "drift.jsonl").write_bytes(b"\xff\xfe\n")
    assert read_scores(tmp_path) == []

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core.types import SilentProgress
from homespun_trainer.comparing.arms import arms_of
from homespun_trainer.comparing.score_log import ScoreLog
from homespun_trainer.evaluate import Score, evaluate
from homespun_trainer.summaries import difference, summarise
from tests.trainer.test_evaluate import Parrot, bench, task
from tests.trainer.test_report import score

BASE, DATASTORE, _RANDOM, RETRIEVAL, *_ = arms_of(None, None)


def untimed(exact: bool, similarity: float, text: str = "?") -> Score:
    """Without its time."""
    return replace(score(exact, similarity, text), milliseconds=None)


def test_scores_come_back_and_belong_to_their_arm_and_place(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.jsonl"
    with ScoreLog(path) as log:
        log.add(BASE, task(1), score(True, 1.0, "über\u2028"))
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) == untimed(True, 1.0, "über\u2028")
        assert log.find(BASE, task(2)) is None and log.find(DATASTORE, task(1)) is None


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_cut_off_by_a_kill_costs_itself_only(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "scores.jsonl"
    with ScoreLog(path) as log:
        log.add(BASE, task(1), score(True, 1.0))
        log.add(BASE, task(2), score(False, 0.5))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) == untimed(True, 1.0)
        log.add(BASE, task(3), score(False, 0.1))
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) and log.find(BASE, task(3)) == untimed(False, 0.1)


def test_times_of_another_day_are_compared_with_nothing(tmp_path: Path) -> None:
    """What was known came with its time: an arm that was added on a busy day was slower than one from the log."""
    tasks, path = [task(n) for n in range(4)], tmp_path / "scores.jsonl"
    with ScoreLog(path) as log:
        first = evaluate(tasks[:2], [BASE], bench(Parrot()), SilentProgress(), log)
        assert all(found and found.milliseconds for found in first[BASE.name])
    assert b"milliseconds" not in path.read_bytes()
    with ScoreLog(path) as log:
        scores = evaluate(tasks, [BASE, RETRIEVAL], bench(Parrot()), SilentProgress(), log)
    measured = {name: [bool(s and s.milliseconds) for s in found] for name, found in scores.items()}
    assert measured == {BASE.name: [False, False, True, True], RETRIEVAL.name: [True] * 4}
    before, after = scores[BASE.name], scores[RETRIEVAL.name]
    change, timed = difference(tasks, after, before), difference(tasks[2:], after[2:], before[2:])
    assert change.num_tasks == 4 and change.milliseconds and timed.milliseconds
    assert change.milliseconds.value == pytest.approx(timed.milliseconds.value)
    assert difference(tasks, after, before, range(2)).milliseconds is None
    assert summarise(tasks, before, range(2)).as_json()["milliseconds"] is None


def test_a_log_of_before_that_has_times_is_read_without_them(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with ScoreLog(path) as log:
        log.add(BASE, task(1), score(True, 1.0))
    path.write_text(json.dumps({**json.loads(path.read_text()), "milliseconds": 7.5}) + "\n")
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) == untimed(True, 1.0)

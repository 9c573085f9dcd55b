from __future__ import annotations

from pathlib import Path

import pytest

from homespun_trainer.comparing.arms import arms_of
from homespun_trainer.comparing.score_log import ScoreLog
from tests.trainer.test_evaluate import task
from tests.trainer.test_report import score

BASE, DATASTORE, *_ = arms_of(None, None)


def test_scores_come_back_and_belong_to_their_arm_and_place(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.jsonl"
    with ScoreLog(path) as log:
        log.add(BASE, task(1), score(True, 1.0, "über\u2028"))
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) == score(True, 1.0, "über\u2028")
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
        assert log.find(BASE, task(1)) == score(True, 1.0)
        log.add(BASE, task(3), score(False, 0.1))
    with ScoreLog(path) as log:
        assert log.find(BASE, task(1)) and log.find(BASE, task(3)) == score(False, 0.1)

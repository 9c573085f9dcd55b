from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core.types import SilentProgress
from homespun_trainer.general import forgetting, general_tasks
from homespun_trainer.libraries import libraries_for
from tests.trainer.test_evaluate import Parrot, bench

PYTHON = libraries_for({"python": 1}).found[0]


def test_the_general_set_is_the_same_every_time_and_stands_in_the_library() -> None:
    tasks = general_tasks(PYTHON, 40)
    assert tasks == general_tasks(PYTHON, 40) and len(tasks) == 40
    assert general_tasks(PYTHON, 20) == tasks[:20]
    assert all(t.middle and t.language == "python" for t in tasks)
    assert len({t.commit for t in tasks}) >= 20


def test_where_nothing_can_be_read_there_are_no_places(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_bytes(b"\xff" * 4_000)
    broken = replace(PYTHON, roots=lambda: iter([tmp_path]))
    assert general_tasks(broken, 10) == []
    assert forgetting(bench(Parrot()), "candidate", [broken], SilentProgress()) == []


def test_forgetting_is_the_adapter_against_the_base_model_without_snippets() -> None:
    asked: list[str | None] = []

    class Forgetful(Parrot):
        def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
            asked.append(adapter)
            return [-3.0 if adapter else -2.0] * (len(ids) - start)

    parrot = Forgetful()
    found = forgetting(
        replace(bench(parrot), score=parrot.score), "candidate", [PYTHON, PYTHON], SilentProgress(), places=10
    )
    assert [each.num_places for each in found] == [10, 10]
    assert asked == [None, "candidate"] * 20
    assert found[0].change.value == pytest.approx(found[0].base / 2)

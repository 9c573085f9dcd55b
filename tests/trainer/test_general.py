from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core.types import SilentProgress
from homespun_trainer.general import forgetting, general_tasks
from tests.trainer.test_evaluate import Parrot, bench


def test_the_general_set_is_the_same_every_time_and_stands_in_the_library() -> None:
    tasks = general_tasks(40)
    assert tasks == general_tasks(40) and len(tasks) == 40
    assert general_tasks(20) == tasks[:20]
    assert all(t.middle and t.language == "python" for t in tasks)
    assert len({t.commit for t in tasks}) >= 20


def test_a_machine_without_the_library_has_no_general_set(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_bytes(b"\xff" * 4_000)
    assert general_tasks(10, tmp_path) == []


def test_forgetting_is_the_adapter_against_the_base_model_without_snippets() -> None:
    asked: list[str | None] = []

    class Forgetful(Parrot):
        def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
            asked.append(adapter)
            return [-3.0 if adapter else -2.0] * (len(ids) - start)

    parrot = Forgetful()
    found = forgetting(replace(bench(parrot), score=parrot.score), "candidate", SilentProgress(), places=20)
    assert found is not None and found.num_places == 20 and asked == [None, "candidate"] * 20
    assert found.change.value == pytest.approx(found.base / 2)

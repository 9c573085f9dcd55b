"""Which lines an evaluation asks an adapter about: none that it, or what it stands on, was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry
from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.registry import Adapter
from homespun_core.types import SilentProgress
from homespun_indexer.corpus import CorpusReader, build_corpus
from homespun_indexer.repository import Repository, open_repository
from homespun_trainer.comparing.cli import Wanted, _held_out, _HeldOut
from tests.repos import commit, git, make_repo

FILES = {f"shop/part_{n}.py": "".join(f"total_{n}_{i} = price_{i} * {n}\n" for i in range(8)) for n in range(40)}
DAYS = 8


class Shop:
    """All of its files are of one day, before which there is a readme; each later day adds lines to the first one."""

    def __init__(self, root: Path) -> None:
        self.data, self.path = DataDir(root / "data"), make_repo(root / "shop", {"README.md": "Shop\n"})
        self.first = commit(self.path, FILES, "All at once")
        self.later: list[str] = []

    @property
    def repo(self) -> Repository:
        return open_repository(str(self.path), self.data, timeout_s=60, progress=SilentProgress())

    def goes_on(self, days: int = DAYS) -> None:
        for day in range(1, days + 1):
            text = (self.path / "shop" / "part_0.py").read_text()
            lines = "".join(f"sum_{day}_{i} = basket_{day}.sum(row_{i}, {day})\n" for i in range(10))
            self.later.append(commit(self.path, {"shop/part_0.py": text + lines}, f"Day {day}", day=day))

    def held_out_files(self) -> list[str]:
        """Those of a corpus as it is today."""
        made = build_corpus(self.repo, settings=Settings(), data=self.data, progress=SilentProgress())
        return sorted(CorpusReader.open(made).held_out)

    def adapter(self, version: str, cut: str, held_out: Sequence[str] = (), parents: Sequence[str] = ()) -> Adapter:
        report: dict[str, Any] = {
            "corpus": {"commit": cut, "split": "files" if held_out else "time"},
            "corpus_report": {"held_out": list(held_out)},
            "training": {"parents": [{"name": name, "digest": name} for name in parents]},
        }
        path, sources = self.data.adapters(self.repo.id) / version, {"base_model": "d1gest"}
        with registry.publish_adapter(path, fingerprint="f", sources=sources, report=report) as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"w")
        return registry.load_adapter(path)

    def asked(self, adapter: Adapter | None, since: str | None = None, places: int = 20) -> _HeldOut:
        wanted = Wanted(since=since, places=places)
        return _held_out(self.repo, Settings(), self.data, wanted, adapter, SilentProgress())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_of_one_that_was_split_by_files_only_these_are_asked(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that a corpus of today holds out were, of which it had learned some: by another `seed`, say."""
    mine = ["shop/part_7.py", "shop/part_8.py"]
    assert set(shop.held_out_files()) - set(mine)
    found = shop.asked(shop.adapter("o1", shop.first, mine))
    assert {task.path for task in found.tasks} == found.exclude == set(mine) and found.split == "files"
    assert found.num_possible == 16 and not any(task.seen for task in found.tasks)
    assert capsys.readouterr().out == ""


def test_without_an_adapter_too_a_line_that_was_copied_after_the_cut_was_seen(shop: Shop) -> None:
    """The index of then has it: as of the cut, it was a new one."""
    shop.goes_on(24)
    first = (shop.path / "shop" / "part_0.py").read_text()
    copied = first[first.index("sum_22_0") : first.index("sum_24_0")]
    commit(shop.path, {"shop/copy.py": copied}, "Copy", day=25)
    found = shop.asked(None, places=10)
    assert found.split == "time" and {task.path for task in found.tasks if task.seen} == {"shop/copy.py"}


def test_of_files_that_were_held_out_what_is_beneath_may_have_learned_some(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.adapter("o1", shop.first, ["shop/part_7.py"])
    found = shop.asked(shop.adapter("o2", shop.first, ["shop/part_7.py", "shop/part_8.py"], parents=["o1"]))
    assert {task.path for task in found.tasks} == {"shop/part_7.py"}
    assert "8 of 16 lines are left out, since the adapter has learned from them" in capsys.readouterr().out


def test_of_one_that_was_split_by_files_what_was_written_since_is_asked_if_it_is_enough(shop: Shop) -> None:
    held_out = shop.held_out_files()
    shop.goes_on()
    found = shop.asked(shop.adapter("o1", shop.first, held_out))
    assert (found.cut, found.split, len(found.tasks)) == (shop.first, "time", 20)
    assert {task.commit for task in found.tasks} <= set(shop.later)
    few = shop.asked(shop.adapter("o2", shop.later[-1], held_out))
    assert few.tasks and {task.path for task in few.tasks} <= set(held_out)


def test_of_a_stack_what_was_written_since_the_newest_cut_is_asked(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only that of the upper one was looked at."""
    shop.goes_on()
    shop.adapter("o1", shop.later[4])
    found = shop.asked(shop.adapter("o2", shop.first, parents=["o1"]))
    assert found.cut == shop.later[4] and {task.commit for task in found.tasks} <= set(shop.later[5:])
    assert capsys.readouterr().out == ""


def test_what_was_learned_since_the_day_that_is_wanted_is_left_out_and_counted(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.goes_on()
    adapter = shop.adapter("o1", shop.later[3])
    found = shop.asked(adapter, since=shop.first)
    assert found.tasks and {task.commit for task in found.tasks} <= set(shop.later[4:])
    left_out = 20 - len(found.tasks)
    assert f"homespun: {left_out} of 20 lines are left out" in capsys.readouterr().out
    with pytest.raises(RepositoryError, match=r"has learned from all .* choose a later --since"):
        shop.asked(shop.adapter("o2", shop.later[-1]), since=shop.first)


def test_that_something_beneath_does_not_say_what_it_saw_is_said(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.goes_on()
    assert shop.asked(shop.adapter("o1", shop.first, parents=["from elsewhere"])).tasks
    assert "doesn't say what it saw" in capsys.readouterr().out


def test_after_history_was_rewritten_a_commit_or_day_is_asked_for(shop: Shop) -> None:
    adapter = shop.adapter("o1", shop.first)
    git(shop.path, "checkout", "--quiet", "--orphan", "new")
    commit(shop.path, {"README.md": "Anew\n"})
    git(shop.path, "branch", "--force", "main", "new")
    git(shop.path, "checkout", "--quiet", "main")
    with pytest.raises(RepositoryError, match="isn't on the main line"):
        shop.asked(adapter)

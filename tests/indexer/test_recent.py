from __future__ import annotations

import pytest

from homespun_indexer import recent
from homespun_indexer.history import AddedLines, ChangedFile, Step
from homespun_indexer.recent import recent_lines

TEXT = "import os\n\n\ndef a():\n    return first_value\n\n\ndef b():\n    return 2\n    return 2\n"


def step(*hunks: str, path: str = "a.py", author: str = "Ada", subject: str = "Add") -> Step:
    added = [AddedLines(start=1, lines=tuple(hunk.split("\n")), old_below=1) for hunk in hunks]
    file = ChangedFile(path=path, old_blob="0", new_blob="1", added=added)
    return Step(commit="c", parent=None, time=0, author=author, subject=subject, files=[file])


def test_a_hunk_is_found_where_it_stands_now() -> None:
    found = recent_lines([step("def a():\n    return first_value", "\ndef b():\n    return 2")], {"a.py": TEXT})
    assert found == {"a.py": ((3, 4), (7, 8))}


def test_what_changed_since_stands_twice_or_is_huge_is_no_hunk() -> None:
    huge = "\n".join(f"value_{i} = {i}" for i in range(50))
    hunks = ("    return changed_since", "    return 2", huge, "}")
    assert recent_lines([step(*hunks)], {"a.py": TEXT + huge}) == {}


def test_bots_reverts_and_other_files_give_none() -> None:
    hunk = "def a():\n    return first_value"
    steps = [step(hunk, author="dependabot[bot]"), step(hunk, subject="Revert x"), step(hunk, path="gone.py")]
    assert recent_lines(steps, {"a.py": TEXT}) == {}


def test_a_file_of_countless_small_hunks_is_looked_through_so_often_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of them stands any more; each cost a search through all of the file, in every step."""
    tries = 0

    def place(added: AddedLines, text: str) -> None:
        nonlocal tries
        tries += 1

    monkeypatch.setattr(recent, "_place", place)
    hunks = [f"    gone_{i} = value_{i}" for i in range(2_000)]
    assert recent_lines([step(*hunks)] * 50, {"a.py": TEXT, "b.py": TEXT}) == {}
    assert tries == recent._MOST_TRIES

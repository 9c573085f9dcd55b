"""What forgetting is measured on: libraries of this machine, by what was trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from homespun_trainer.general import general_tasks
from homespun_trainer.libraries import Library, files_of, libraries_for

BODY = "a line that says nothing of interest\n" * 100


def library(root: Path, name: str, *languages: str) -> Library:
    return Library(name=name, repo=name, languages=languages, endings=(".x",), roots=lambda: iter([root / name]))


@pytest.fixture
def known(tmp_path: Path) -> Sequence[Library]:
    """Of Ruby's there is nothing here."""
    for name in ("python", "go", "js"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.x").write_text(BODY)
    table = (("python", "python"), ("go", "go"), ("js", "javascript", "typescript"), ("ruby", "ruby"))
    return [library(tmp_path, name, *languages) for name, *languages in table]


@pytest.mark.parametrize(
    ("languages", "found", "missing"),
    [
        ({"python": 9, "go": 1}, ["python", "go"], []),
        ({"go": 95, "python": 5}, ["go"], []),
        ({"typescript": 5, "javascript": 3, "go": 2}, ["js", "go"], []),
        ({"ruby": 6, "go": 4}, ["go"], ["ruby"]),
        ({"ruby": 6, "sql": 4}, ["python"], ["ruby", "sql"]),
        ({}, ["python"], []),
    ],
)
def test_by_what_was_trained_on_and_python_where_there_is_nothing_else(
    known: Sequence[Library], languages: dict[str, int], found: list[str], missing: list[str]
) -> None:
    chosen = libraries_for(languages, known)
    assert ([each.name for each in chosen.found], list(chosen.missing)) == (found, missing)


def test_where_this_machine_has_nothing_nothing_is_found(tmp_path: Path) -> None:
    chosen = libraries_for({"go": 1}, [library(tmp_path, "python", "python")])
    assert (chosen.found, chosen.missing) == ([], ["go"])


def test_gos_library_is_read_where_go_is_without_tests_and_others_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was Python's alone, so whether an adapter of a Go company forgets Go was not looked at."""
    sources = tmp_path / "src"
    places = ("strings/builder.go", "strings/builder_test.go", "vendor/net/a.go", "strings/testdata/b.go", "cmd/go.go")
    for place in places:
        (sources / place).parent.mkdir(parents=True, exist_ok=True)
        (sources / place).write_text("func (b *Builder) Grow(n int) {\n\tb.copyCheck()\n}\n\n" * 60)
    monkeypatch.setenv("GOROOT", str(tmp_path))
    (go,) = libraries_for({"go": 1}).found
    assert [os.fspath(path.relative_to(sources)) for path in files_of(go)] == ["strings/builder.go"]
    assert {(t.language, t.path) for t in general_tasks(go, 2)} == {("go", "strings/builder.go")}


def test_a_trainer_has_headers_of_cpp() -> None:
    (torch,) = libraries_for({"cpp": 1}).found
    assert len(general_tasks(torch, 20)) == 20

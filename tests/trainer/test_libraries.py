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


def test_what_leads_nowhere_or_is_no_file_is_left_out(known: Sequence[Library], tmp_path: Path) -> None:
    """A broken link among a library's files ended a complete training in a traceback."""
    python = known[0]
    (tmp_path / "python" / "gone.x").symlink_to(tmp_path / "nowhere")
    (tmp_path / "python" / "itself.x").symlink_to(tmp_path / "python" / "itself.x")
    os.mkfifo(tmp_path / "python" / "pipe.x")
    (tmp_path / "python" / "folder.x").mkdir()
    assert [path.name for path in files_of(python)] == ["a.x"]


def programs(home: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Nothing but these can be started, from the home's `bin`."""
    (home / "bin").mkdir(parents=True)
    for name in names:
        (home / "bin" / name).write_text("#!/bin/sh\n")
        (home / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.delenv("GOROOT", raising=False)


def test_what_stands_beside_a_launcher_of_npm_or_go_is_not_taken_for_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of volta, mise and asdf, or one's own in `~/bin`: two folders above is a home, and the code in it the company's.
    So it was asked whether the adapter forgets what it had just learned."""
    programs(tmp_path, monkeypatch, "npm", "go")
    for place in ("work/shop.js", "src/shop.go"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(BODY)
    (tmp_path / "package.json").write_text('{"name": "my-tools"}')
    known = libraries_for({"javascript": 1, "go": 1}).found
    assert not [path for library in known for path in files_of(library) if tmp_path in path.parents]


def test_npms_own_code_is_found_through_the_link_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch)
    npm = tmp_path / "lib" / "node_modules" / "npm"
    for place, text in (
        ("bin/npm-cli.js", "#!/bin/sh\n"),
        ("lib/install.js", BODY),
        ("package.json", '{"name": "npm"}'),
    ):
        (npm / place).parent.mkdir(parents=True, exist_ok=True)
        (npm / place).write_text(text)
    (npm / "bin" / "npm-cli.js").chmod(0o755)
    (tmp_path / "bin" / "npm").symlink_to(npm / "bin" / "npm-cli.js")
    (found,) = libraries_for({"typescript": 1}).found
    assert [path.name for path in files_of(found)] == ["install.js"]


def test_a_trainer_has_headers_of_cpp() -> None:
    (torch,) = libraries_for({"cpp": 1}).found
    assert len(general_tasks(torch, 20)) == 20

"""The split is honest: nothing of the tasks is in the documents, the suffix or the index."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import NoSourceFiles, RepositoryError, StorageError
from homespun_core.repositories import SourceRules
from homespun_core.types import SilentProgress
from homespun_indexer import forgotten
from homespun_indexer.corpus import CorpusReader, build_corpus, choose_split, request_for
from homespun_indexer.corpus_report import summary
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.near_duplicates import THRESHOLD, similarity
from homespun_indexer.people import author_hash
from homespun_indexer.repository import at_commit
from tests.indexer.answers import texts_of
from tests.indexer.conftest import Indexer
from tests.repos import LFS_POINTER, commit, commit_dated, git, make_repo, write

SMALL = replace(Settings(), eval_tasks=20)


def corpus(
    indexer: Indexer,
    path: Path,
    settings: Settings = SMALL,
    *,
    rules: SourceRules | None = None,
    max_repo_mb: int | None = None,
) -> CorpusReader:
    repo = replace(indexer.open(path), rules=rules or SourceRules(), max_repo_mb=max_repo_mb)
    return CorpusReader.open(build_corpus(repo, settings=settings, data=indexer.data, progress=SilentProgress()))


def line(i: int, j: int) -> str:
    return f"    result_{i}_{j} = compute_{i}(argument_{j}, option={j})\n"


def body(i: int, lines: int) -> str:
    return f"def function_{i}():\n" + "".join(line(i, j) for j in range(lines)) + f"    return result_{i}_0\n\n\n"


@pytest.fixture(scope="module")
def long_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits; each adds a function to one of four files. Nobody writes to it."""
    path = make_repo(tmp_path_factory.mktemp("long") / "r", {f"file_{n}.py": "START = 1\n\n\n" for n in range(4)})
    texts = dict.fromkeys(range(4), "START = 1\n\n\n")
    for i in range(40):
        texts[i % 4] += body(i, 6)
        commit(path, {f"file_{i % 4}.py": texts[i % 4]}, f"Add {i}", day=i + 1)
    return path


def test_tasks_are_lines_added_after_the_cut(long_history: Path, indexer: Indexer) -> None:
    read = corpus(indexer, long_history)
    assert read.report["split"] == "time"
    assert read.held_out == frozenset()
    after = set(git(long_history, "rev-list", f"{read.cut}..HEAD").splitlines())
    known = {stripped for d in read.documents() for stripped in map(str.strip, d.text.split("\n"))}
    tasks = read.tasks()
    assert len(tasks) == 20
    for task in tasks:
        assert task.commit in after
        whole = task.prefix.rpartition("\n")[2] + task.middle
        assert not task.seen and whole.strip() not in known
        assert f"+{whole}" in git(long_history, "show", "--format=", task.commit).splitlines()


def test_documents_are_the_files_of_the_cut(long_history: Path, indexer: Indexer) -> None:
    read = corpus(indexer, long_history)
    assert {d.path: d.text for d in read.documents()} == {
        name: git(long_history, "show", f"{read.cut}:{name}") + "\n\n\n" for name in (f"file_{n}.py" for n in range(4))
    }


def test_at_most_half_of_the_history_is_spent_on_tasks(long_history: Path, indexer: Indexer) -> None:
    read = corpus(indexer, long_history, replace(Settings(), eval_tasks=10_000))
    assert int(git(long_history, "rev-list", "--count", f"{read.cut}..HEAD")) <= 20


def test_only_who_asks_for_more_than_usual_gets_a_cut_older_than_a_year(tmp_path: Path, indexer: Indexer) -> None:
    path, text = make_repo(tmp_path / "r", {"a.py": "START = 1\n"}), "START = 1\n"
    for i in range(60):
        text += body(i, 6)
        commit(path, {"a.py": text}, f"Add {i}", day=30 * i)
    ages = {}
    for count in (20, 200, 400, 2_000):
        settings = replace(SMALL, eval_tasks=count)
        split = choose_split(request_for(indexer.open(path), settings, indexer.data), SilentProgress())
        ages[count] = 59 - int(git(path, "log", "-1", "--format=%s", split.commit).removeprefix("Add "))
    assert ages == {20: 15, 200: 15, 400: 27, 2_000: 30}


def test_a_commit_without_a_readable_date_changes_no_cut(tmp_path: Path, long_history: Path, indexer: Indexer) -> None:
    """It ended the training, and would have been taken for one of 1970: older than a year, so that no cut lies before
    it."""
    cuts = []
    for name, date in (("one", "1703600000 +0000"), ("other", "yesterday")):
        git(tmp_path, "clone", "--quiet", str(long_history), name)
        commit_dated(tmp_path / name, {"more.py": body(77, 4)}, date)
        commit(tmp_path / name, {"more.py": body(77, 4) + body(78, 4)}, day=42)
        read = corpus(indexer, tmp_path / name)
        assert read.report["split"] == "time"
        cuts.append(read.cut)
    assert cuts[0] == cuts[1]


@pytest.mark.parametrize(("wrong", "year"), [(37, 1990), (39, 2050), (30, 2050)])
def test_a_commit_of_a_wrong_clock_does_not_shorten_what_is_asked(
    tmp_path: Path, indexer: Indexer, wrong: int, year: int
) -> None:
    """A year from the end of the history, or from the start of what counts, seemed to be over at once."""
    splits = []
    for name, is_wrong in (("right", False), ("wrong", True)):
        path = make_repo(tmp_path / name, {"a.py": "START = 1\n"})
        for i in range(40):
            day = (year - 2023) * 365 if is_wrong and i == wrong else i + 1
            commit(path, {f"file_{i % 4}.py": body(i, 12) + body(i + 100, 6)}, f"Add {i}", day=day)
        read = corpus(indexer, path)
        splits.append((read.report["split"], read.report["steps_after_cut"], len(read.tasks())))
    assert splits[0] == splits[1] and splits[0][0] == "time"


def test_the_suffix_is_what_stood_below_before(tmp_path: Path, indexer: Indexer) -> None:
    first = "def before():\n    return 1\n\n\ndef after():\n    return 2\n"
    path = make_repo(tmp_path / "r", {"a.py": first})
    for i in range(30):
        commit(path, {f"b{i}.py": f"filler_value_{i} = {i}\n"}, day=i + 1)
    inserted = "def middle():\n    value = compute(one)\n    other = compute(two)\n    return value + other\n\n\n"
    new = first.replace("def after", inserted + "def after")
    commit(path, {"a.py": new}, "Insert", day=40)
    tasks = [t for t in corpus(indexer, path).tasks() if t.path == "a.py"]
    assert tasks
    for task in tasks:
        assert "compute" not in task.suffix and "other" not in task.suffix
        assert task.suffix.lstrip("\n").startswith(("def after", "\ndef after"))
        assert new.startswith(task.prefix + task.middle)


def test_a_changed_line_does_not_stand_in_its_own_suffix(tmp_path: Path, indexer: Indexer) -> None:
    old = "".join(f"value_{i} = compute(old_{i})\n" for i in range(40))
    path = make_repo(tmp_path / "r", {"a.py": old})
    for i in range(40):
        old = old.replace(f"compute(old_{i})", f"calculate(new_{i}, {i})")
        commit(path, {"a.py": old}, day=i + 1)
    for task in corpus(indexer, path).tasks():
        number = int(task.prefix.count("\n"))
        assert f"value_{number} " not in task.suffix
        assert task.suffix == "" or task.suffix.startswith(f"\nvalue_{number + 1} =") or number == 39


def test_few_tasks_of_one_commit_and_of_one_file(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    for i in range(12):
        many = "".join(body(100 * i + k, 8) for k in range(4))
        commit(path, {"a.py": many, f"b{i}.py": many.replace("compute", "other")}, day=i + 1)
    tasks = corpus(indexer, path, replace(Settings(), eval_tasks=60)).tasks()
    assert max(Counter(t.commit for t in tasks).values()) <= 5
    assert max(Counter(t.path for t in tasks).values()) <= 20


@pytest.mark.parametrize(
    ("author", "subject", "reason"),
    [
        ("dependabot[bot] <support@github.com>", "Bump things", "bot"),
        ("Ada <ada@example.com>", 'Revert "Add things"', "revert"),
        ("Ada <ada@example.com>", "Merge pull request #1 from renovate/x", "bot"),
    ],
)
def test_bots_and_reverts_make_no_tasks(
    tmp_path: Path, indexer: Indexer, author: str, subject: str, reason: str
) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    for i in range(4):
        commit(path, {f"f{i}.py": body(i, 9)}, day=i + 1)
    (path / "bot.py").write_text(body(77, 9))
    git(path, "add", "--all")
    git(path, "commit", "--quiet", f"--author={author}", "--message", subject, when=1_700_500_000)
    read = corpus(indexer, path)
    assert all(t.path != "bot.py" for t in read.tasks() if read.report["split"] == "time")


def test_a_merged_branch_is_one_step(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    for i in range(8):
        commit(path, {f"old{i}.py": body(i, 3)}, day=i + 1)
    git(path, "switch", "--quiet", "--create", "feature")
    for i in range(3):
        commit(path, {f"new{i}.py": body(50 + i, 9)}, day=20 + i)
    git(path, "switch", "--quiet", "main")
    commit(path, {"main.py": body(90, 9)}, day=25)
    git(path, "merge", "--quiet", "--no-ff", "--message", "Merge feature", "feature", when=1_700_000_000 + 30 * 86_400)
    merge = git(path, "rev-parse", "HEAD")
    tasks = corpus(indexer, path, replace(Settings(), eval_tasks=30)).tasks()
    assert {t.commit for t in tasks if t.path.startswith("new")} <= {merge}
    assert sum(t.path.startswith("new") for t in tasks) <= 5


def test_a_short_history_holds_out_files(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {f"file_{i}.py": body(i, 12) for i in range(60)})
    read = corpus(indexer, path)
    assert read.report["split"] == "files"
    assert read.cut == git(path, "rev-parse", "HEAD")
    assert 1 <= len(read.held_out) < 20
    assert {t.path for t in read.tasks()} <= read.held_out
    assert all(t.commit == f"{read.cut}:{t.path}" for t in read.tasks())  # one cluster a file
    assert read.held_out.isdisjoint(d.path for d in read.documents())
    assert len(read.tasks()) == 20
    index = indexer.index(path, commit=read.cut, exclude=read.held_out)
    frozen = texts_of(index).split("\n")
    assert all(t.prefix.rpartition("\n")[2] + t.middle not in frozen for t in read.tasks())


def test_a_copy_of_a_held_out_file_is_held_out_too(tmp_path: Path, indexer: Indexer) -> None:
    files = {f"file_{i}.py": body(i, 12) for i in range(60)}
    path = make_repo(tmp_path / "r", files | {f"copy/{n}": t for n, t in files.items()})
    read = corpus(indexer, path)
    texts = {d.text for d in read.documents()}
    assert texts.isdisjoint(files[p.rpartition("/")[2]] for p in read.held_out)
    assert {p.removeprefix("copy/") for p in read.held_out} == {p for p in read.held_out if not p.startswith("copy/")}
    index = indexer.index(path, commit=read.cut, exclude=read.held_out)
    frozen = texts_of(index).split("\n")
    assert all(t.prefix.rpartition("\n")[2] + t.middle not in frozen for t in read.tasks())


def test_a_near_copy_of_a_held_out_file_is_held_out_too(tmp_path: Path, indexer: Indexer) -> None:
    """Near duplicates were looked for among the other files alone. What an adapter knew of the copy counted as gain."""
    files = {f"file_{i}.py": body(i, 40) for i in range(60)}
    copies = {f"copy/{name}": text.replace("option=7", "option=8") for name, text in files.items()}
    read = corpus(indexer, make_repo(tmp_path / "r", files | copies))
    assert {p.removeprefix("copy/") for p in read.held_out} == {p for p in read.held_out if not p.startswith("copy/")}
    assert 1 <= len(read.held_out) < 60 and read.report["skipped"]["held out"] == len(read.held_out)
    held_out = [(files | copies)[path] for path in read.held_out]
    assert not any(similarity(d.text, text) >= THRESHOLD for d in read.documents() for text in held_out)
    frozen = texts_of(indexer.index(tmp_path / "r", commit=read.cut, exclude=read.held_out)).split("\n")
    assert all(t.prefix.rpartition("\n")[2] + t.middle not in frozen for t in read.tasks())


def test_a_tiny_repository_still_gives_a_corpus(tmp_path: Path, indexer: Indexer) -> None:
    read = corpus(indexer, make_repo(tmp_path / "r", {"a.py": "def f(x):\n    return x + 1\n"}))
    assert len(list(read.documents())) + len(read.held_out) == 1 or read.report["documents"] == 1


def test_a_repository_without_source_is_refused(tmp_path: Path, indexer: Indexer) -> None:
    with pytest.raises(NoSourceFiles, match="no source files to train on"):
        corpus(indexer, make_repo(tmp_path / "r", {"README.md": "hello\n"}))


def test_secrets_are_redacted_everywhere_and_never_the_target(tmp_path: Path, indexer: Indexer) -> None:
    secret = "sk_live_" + "a1B2c3D4e5F6g7H8i9J0k1L2"
    path = make_repo(tmp_path / "r", {"a.py": f"stripe_key = '{secret}'\n" + body(0, 3)})
    for i in range(40):
        commit(path, {f"b{i}.py": f"stripe_key = '{secret}'\n" + body(i, 4)}, day=i + 1)
    read = corpus(indexer, path)
    stored = "".join(f.read_text() for f in read.path.iterdir())
    assert secret not in stored
    assert "REDACTED_STRIPE_KEY" in stored
    assert read.report["redactions"]["STRIPE_KEY"] >= 1
    assert read.report["lines_refused"]["holds a secret"] >= 1
    assert all("REDACTED" not in t.middle for t in read.tasks())


def test_equal_texts_are_one_document(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": body(0, 3), "b.py": body(0, 3), "c.py": body(1, 3)})
    for i in range(5):
        commit(path, {f"d{i}.py": body(10 + i, 12)}, day=i + 1)
    read = corpus(indexer, path)
    texts = [d.text for d in read.documents()]
    assert len(texts) == len(set(texts))
    assert read.report["skipped"].get("duplicate", 0) + read.report["skipped"].get("held out", 0) >= 1


GPL = "# GNU General Public License\n"


def test_every_file_has_a_reason_or_is_a_document(tmp_path: Path, indexer: Indexer) -> None:
    long = body(1, 60)
    files = {
        "a.py": long,
        "b.py": long.replace("option=7", "option=8"),
        "c.py": GPL + body(2, 9),
        "third/x/LICENSE": "GNU AFFERO GENERAL PUBLIC LICENSE\n",
        "third/x/d.py": body(3, 9),
        "e.py": body(4, 9),
        "f.py": body(4, 9),
        "node_modules/g.js": "x\n",
        "LICENSE": "All rights reserved.\n",
        "h.py": "x = [\n" + "    123456, 987654, 192837,\n" * 30 + "]\n",
    }
    path = make_repo(tmp_path / "r", files)
    for i in range(6):
        commit(path, {f"late{i}.py": body(20 + i, 12)}, day=i + 1)
    read = corpus(indexer, path)
    records = {r.path: r for r in read.files()}
    assert {p: r.reason for p, r in records.items() if not p.startswith("late") and r.reason != "held out"} == {
        "a.py": None,
        "b.py": "near duplicate",
        "c.py": "licence",
        "third/x/LICENSE": "unknown language",
        "third/x/d.py": "licence",
        "e.py": None,
        "f.py": "duplicate",
        "node_modules/g.js": "vendored",
        "LICENSE": "unknown language",
        "h.py": "mostly digits",
    }
    documents = {d.path: d for d in read.documents()}
    assert {p for p, r in records.items() if r.reason is None} == set(documents)
    assert all(len(d.text) == records[p].characters and d.blob == records[p].blob for p, d in documents.items())
    assert all(r.authors for r in records.values()) and "ada@" not in (read.path / "files.jsonl").read_text()
    said = summary(read.report)
    assert "near duplicate 1" in said and "licence 2" in said and f"{len(documents)} files" in said


def test_a_repository_under_copyleft_learns_from_its_own_files(tmp_path: Path, indexer: Indexer) -> None:
    """Of one laid out like the Linux kernel nothing was left: the text of version 2 was taken for the LGPL."""
    spdx = "# SPDX-License-Identifier: GPL-2.0\n"
    files = {f"drivers/d{i}.py": spdx + body(i, 9) for i in range(8)}
    files["COPYING"] = "GNU GENERAL PUBLIC LICENSE\nVersion 2\n(... the GNU Lesser General Public License instead.)\n"
    files["other.py"] = "# GNU Affero General Public License\n" + body(9, 9)
    read = corpus(indexer, make_repo(tmp_path / "r", files))
    left = set(files) - read.held_out - {"COPYING", "other.py"}
    assert len(left) > 4 and {d.path for d in read.documents()} == left


def test_documents_know_what_was_written_lately(long_history: Path, indexer: Indexer) -> None:
    documents = list(corpus(indexer, long_history).documents())
    assert all(d.recent and d.weight > 0 for d in documents)
    for document in documents:
        lines = document.text.split("\n")
        assert all(lines[first].startswith("def function_") and last < len(lines) for first, last in document.recent)


def test_what_is_forgotten_is_in_no_document_no_task_and_no_corpus_before_it(
    long_history: Path, indexer: Indexer
) -> None:
    before = corpus(indexer, long_history)
    forgotten.add(indexer.data, Forgotten(path="file_0.py"))
    after = corpus(indexer, long_history)
    assert after.path != before.path
    assert "file_0.py" in {d.path for d in before.documents()} & {t.path for t in before.tasks()}
    assert "file_0.py" not in {d.path for d in after.documents()} | {t.path for t in after.tasks()}
    assert {r.path: r.reason for r in after.files()}["file_0.py"] == "forgotten"
    forgotten.remove(indexer.data, 1)
    assert corpus(indexer, long_history).path == before.path


@pytest.mark.parametrize("name", ["file_0.py", "new/**", "newer/**"])
def test_what_is_forgotten_is_so_by_each_name_that_it_ever_had(
    long_history: Path, tmp_path: Path, indexer: Indexer, name: str
) -> None:
    """A file that was moved after the cut has its old name in the documents and its new one in the tasks."""
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    text = (path / "file_0.py").read_text()
    (path / "new").mkdir()
    git(path, "mv", "file_0.py", "new/a.py")
    text += body(40, 6)
    commit(path, {"new/a.py": text}, "Move", day=41)
    (path / "newer").mkdir()
    git(path, "mv", "new/a.py", "newer/b.py")
    for i in range(41, 49):
        text += body(i, 6)
        commit(path, {"newer/b.py": text}, "Move again and write on", day=i + 1)
    before = corpus(indexer, path)
    moved = [f for f in before.touched(with_snippets=True) if {"file_0.py", "newer/b.py"} <= {f.path, *f.names}]
    assert {f.path for f in moved} == {"file_0.py", "newer/b.py"}
    assert {f.path: len(f.authors) for f in moved} == {"file_0.py": 1, "newer/b.py": 1}
    forgotten.add(indexer.data, Forgotten(path=name))
    after = corpus(indexer, path)
    assert {d.path for d in after.documents()} == {"file_1.py", "file_2.py", "file_3.py"}
    assert {t.path for t in after.tasks()} == {"file_1.py", "file_2.py", "file_3.py"}


def test_a_copy_of_what_is_left_out_is_not_learned_in_its_stead(tmp_path: Path, indexer: Indexer) -> None:
    secret, other = body(900, 30), body(700, 30)
    files = {"pay/a.py": secret, "old/a.py": secret, "near/a.py": secret.replace("option=7", "option=8")}
    files |= {"third/x/LICENSE": "GNU AFFERO GENERAL PUBLIC LICENSE\n", "third/x/b.py": other, "src/b.py": other}
    path = make_repo(tmp_path / "r", files)
    for i in range(40):
        commit(path, {f"file_{i % 4}.py": body(i, 20) + body(i + 100, 6)}, f"Add {i}", day=i + 1)
    before = {r.path: r.reason for r in corpus(indexer, path).files()}
    assert before["third/x/b.py"] == before["src/b.py"] == "licence"
    copies = {"pay/a.py", "old/a.py", "near/a.py"}
    assert sorted(str(before[name]) for name in copies).count("None") == 1
    assert copies <= {f.path for f in corpus(indexer, path).touched(with_snippets=False)}, "its text is learned"
    for name in ("pay/**", "old/**", "near/**"):
        forgotten.add(indexer.data, Forgotten(path=name))
        read = corpus(indexer, path)
        assert {r.path for r in read.files() if r.reason == "forgotten"} == copies
        assert {d.path for d in read.documents()} == {f"file_{n}.py" for n in range(4)}
        forgotten.remove(indexer.data, 1)


def test_no_line_is_asked_for_in_a_copy_of_what_is_forgotten(tmp_path: Path, indexer: Indexer) -> None:
    files = {f"file_{i}.py": body(i, 12) for i in range(60)}
    path = make_repo(tmp_path / "r", files | {f"copy/{n}": t.replace("option=7", "option=8") for n, t in files.items()})
    forgotten.add(indexer.data, Forgotten(path="/file_*"))
    with pytest.raises(NoSourceFiles, match="120 forgotten"):
        corpus(indexer, path)
    forgotten.add(indexer.data, Forgotten(path="/file_1*"))
    forgotten.remove(indexer.data, 1)
    read = corpus(indexer, path)
    assert read.tasks() and not any("/file_1" in f"/{t.path}" for t in read.tasks())
    assert not any("/file_1" in f"/{d.path}" for d in read.documents())


def test_a_forgotten_author_takes_every_file_along(long_history: Path, indexer: Indexer) -> None:
    forgotten.add(indexer.data, Forgotten(author=author_hash(indexer.data)("Ada@example.com")))
    with pytest.raises(RepositoryError, match="4 forgotten"):
        corpus(indexer, long_history)


def test_lines_that_stood_in_the_corpus_are_marked(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "".join(line(0, j) for j in range(30))})
    for i in range(40):
        commit(path, {f"b{i}.py": f"def f_{i}():\n{line(0, i % 30)}{line(i + 1, 0)}"}, day=i + 1)
    tasks = corpus(indexer, path).tasks()
    assert {t.seen for t in tasks} == {True, False}
    assert all(
        t.seen == ("result_0_" in t.prefix.rpartition("\n")[2] + t.middle)
        for t in tasks
        if "def" not in t.middle and "result" in t.middle
    )


def test_the_same_seed_gives_the_same_corpus(long_history: Path, indexer: Indexer) -> None:
    first = corpus(indexer, long_history)
    tasks, files = first.tasks(), first.manifest.files
    shutil.rmtree(first.path)
    assert corpus(indexer, long_history).manifest.files == files
    assert corpus(indexer, long_history, replace(SMALL, seed=1)).tasks() != tasks


def test_an_unchanged_repository_keeps_its_corpus_and_a_damaged_one_is_rebuilt(
    long_history: Path, indexer: Indexer
) -> None:
    first = corpus(indexer, long_history).path
    before = first.stat().st_ino
    assert corpus(indexer, long_history).path.stat().st_ino == before
    (first / "tasks.jsonl").write_text("")
    with pytest.raises(StorageError, match="damaged"):
        CorpusReader.open(first)
    assert len(corpus(indexer, long_history).tasks()) == 20
    assert storage.current(first.parent) == first


def test_code_excluded_now_is_in_no_document_and_no_task(long_history: Path, indexer: Indexer) -> None:
    before = corpus(indexer, long_history)
    after = corpus(indexer, long_history, rules=SourceRules(exclude=("file_0.py",)))
    assert after.path != before.path
    assert "file_0.py" in {t.path for t in before.tasks()}
    assert {d.path for d in after.documents()} == {t.path for t in after.tasks()} == {f"file_{n}.py" for n in (1, 2, 3)}
    assert after.report["lines_refused"]["excluded"] > 0


def test_a_limit_of_the_repository_itself_makes_another_corpus(long_history: Path, indexer: Indexer) -> None:
    own = corpus(indexer, long_history, max_repo_mb=7)
    assert own.path != corpus(indexer, long_history).path
    assert own.path == corpus(indexer, long_history, replace(SMALL, max_repo_mb=7)).path


@pytest.mark.parametrize(
    ("rule_file", "text", "reason"),
    [
        (".homespunignore", "file_0.py\n", ".homespunignore"),
        (".gitattributes", "file_0.py linguist-generated\n", "generated"),
        ("file_0.py", None, "deleted since"),
    ],
)
def test_documents_and_tasks_are_files_that_count_at_the_head(
    long_history: Path, tmp_path: Path, indexer: Indexer, rule_file: str, text: str | None, reason: str
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    if text is None:
        (path / rule_file).unlink()
    commit(path, {} if text is None else {rule_file: text}, day=90)
    read = corpus(indexer, path)
    assert read.report["split"] == "time"
    assert {t.path for t in read.tasks()} == {f"file_{n}.py" for n in (1, 2, 3)}
    assert read.report["lines_refused"][reason] > 0
    learned, refused = {d.path for d in read.documents()}, {r.path: r.reason for r in read.files() if r.reason}
    if text is None:  # it was theirs at the cut, and nobody said that it mustn't be learned
        assert "file_0.py" in learned and not refused
    else:
        assert "file_0.py" not in learned and refused == {"file_0.py": reason}
        assert read.unlearnable() == {"file_0.py"}, "training prompts have no snippets of it"


@pytest.mark.parametrize(
    ("rule_file", "text"), [(".homespunignore", "file_0.py\n"), (".gitattributes", "file_0.py linguist-vendored\n")]
)
def test_rules_that_are_saved_and_not_committed_count_where_the_index_reads_them(
    long_history: Path, tmp_path: Path, indexer: Indexer, rule_file: str, text: str
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    before = corpus(indexer, path)
    write(path, {rule_file: text})
    after = corpus(indexer, path)
    assert after.path != before.path and "file_0.py" in {d.path for d in before.documents()}
    assert {d.path for d in after.documents()} == {t.path for t in after.tasks()} == {f"file_{n}.py" for n in (1, 2, 3)}
    assert after.unlearnable() == {"file_0.py"}
    committed_only = corpus(indexer, path, replace(SMALL, uncommitted=False))
    assert committed_only.path == before.path
    write(path, {rule_file: "# nothing\n"})
    assert corpus(indexer, path).path == before.path


def test_committing_rules_that_were_saved_leaves_out_what_they_left_out(
    long_history: Path, tmp_path: Path, indexer: Indexer
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    commit(path, {".homespunignore": "file_0.py\n"}, day=90)
    request = request_for(indexer.open(path), SMALL, indexer.data)
    assert request.rules.uncommitted() == []
    (path / ".homespunignore").unlink()
    assert request_for(indexer.open(path), SMALL, indexer.data).rules.reason(["file_0.py"]) == ".homespunignore"


def test_a_rule_about_the_name_that_a_file_has_by_now_keeps_it_out(
    long_history: Path, tmp_path: Path, indexer: Indexer
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    (path / "own").mkdir()
    git(path, "mv", "file_0.py", "own/a.py")
    commit(path, {}, "Move", day=90)
    commit(path, {".homespunignore": "own/\n"}, day=91)
    read = corpus(indexer, path)
    assert {d.path for d in read.documents()} == {"file_1.py", "file_2.py", "file_3.py"}
    assert read.unlearnable() == {"file_0.py"}


def test_a_rule_about_a_name_that_a_file_had_before_keeps_nothing_out(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"attic/a.py": body(900, 9)})
    commit(path, {".homespunignore": "attic/\n"}, day=1)
    git(path, "mv", "attic/a.py", "a.py")
    for i in range(40):
        commit(path, {f"file_{i % 4}.py": body(i, 9)}, day=i + 2)
    assert "a.py" in {d.path for d in corpus(indexer, path).documents()}


def test_the_report_says_what_went_in_and_what_did_not(long_history: Path, tmp_path: Path, indexer: Indexer) -> None:
    path = tmp_path / "copy"
    shutil.copytree(long_history, path)
    commit(path, {"gen_pb2.py": "x = 1\n", "notes.txt": "x\n", "data.py": LFS_POINTER}, day=90)
    for i in range(30):
        commit(path, {f"late_{i}.py": body(900 + i, 6)}, day=100 + i)
    report = corpus(indexer, path).report
    assert report["skipped"] == {"generated": 1, "unknown language": 1, "LFS pointer": 1}
    assert report["documents"] >= 4
    assert report["tasks"] == 20
    assert json.loads(json.dumps(report)) == report


def test_trainings_side_by_side_build_corpora_of_one_repository(tmp_path: Path, indexer: Indexer) -> None:
    """Its own adapter, a shared one and somebody's: each under a lock of its own."""
    path = make_repo(tmp_path / "r", {"a.py": body(0, 6), "b.py": body(1, 6)})
    heads = [commit(path, {"a.py": body(i, 9)}, f"Change {i}", day=i) for i in range(1, 4)]
    repo = indexer.open(path)

    def build(head: str) -> CorpusReader:
        then = at_commit(repo, head)
        return CorpusReader.open(build_corpus(then, settings=SMALL, data=indexer.data, progress=SilentProgress()))

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(build, heads * 2))
    assert [read.manifest.sources["head"] for read in made] == heads * 2
    assert all(list(read.documents()) for read in made)


def test_a_corpus_in_use_is_not_the_first_that_another_training_prunes(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": body(0, 6)})
    made = [corpus(indexer, path)]
    for i in range(1, 4):
        commit(path, {"a.py": body(i, 9)}, f"Change {i}", day=i)
        if i == 3:  # a training at the first commit looks for its corpus, and finds it
            first = at_commit(indexer.open(path), str(made[0].manifest.sources["head"]))
            build_corpus(first, settings=SMALL, data=indexer.data, progress=SilentProgress())
        made.append(corpus(indexer, path))
    assert [read.path.exists() for read in made] == [True, False, True, True]

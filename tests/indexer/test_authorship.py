"""Whose a step of the main line is, and the corpus of one person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homespun_core.types import SilentProgress
from homespun_indexer.authorship import own_bytes, own_steps
from homespun_indexer.corpus import CorpusReader, Owner, build_corpus
from homespun_indexer.people import author_hash
from tests.indexer.conftest import Indexer
from tests.indexer.test_corpus import SMALL, body
from tests.repos import git, make_repo, write

ADA, BOB = "ada@example.com", "bob@example.com"


def by(path: Path, address: str, files: dict[str, str], day: int, message: str = "Change") -> str:
    write(path, files)
    git(path, "add", "--all")
    when = 1_700_000_000 + day * 86_400
    git(path, "commit", "--quiet", f"--author=Somebody <{address}>", "--message", message, when=when)
    return git(path, "rev-parse", "HEAD")


def mine(indexer: Indexer, path: Path, *addresses: str) -> frozenset[str]:
    hashed = author_hash(indexer.data)
    return own_steps(indexer.open(path), [hashed(address) for address in addresses], hashed)


def test_a_merged_branch_is_theirs_who_wrote_its_commits_whoever_merged_it(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    git(path, "checkout", "--quiet", "-b", "feature")
    by(path, BOB, {"b.py": "y = 1\n"}, 1)
    by(path, BOB, {"b.py": "y = 2\n"}, 2)
    git(path, "checkout", "--quiet", "main")
    git(path, "merge", "--quiet", "--no-ff", "--message", "Merge feature", "feature", when=1_700_300_000)
    merge = git(path, "rev-parse", "HEAD")
    assert mine(indexer, path, BOB) == {merge}
    assert merge not in mine(indexer, path, ADA)


def test_a_branch_of_two_is_nobodys_alone(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    git(path, "checkout", "--quiet", "-b", "feature")
    by(path, BOB, {"b.py": "y = 1\n"}, 1)
    by(path, "zoe@example.com", {"b.py": "y = 2\n"}, 2)
    git(path, "checkout", "--quiet", "main")
    git(path, "merge", "--quiet", "--no-ff", "--message", "Merge feature", "feature", when=1_700_300_000)
    assert mine(indexer, path, BOB) == frozenset()
    assert git(path, "rev-parse", "HEAD") in mine(indexer, path, BOB, "zoe@example.com")


def test_a_mailmap_finds_older_addresses(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {".mailmap": f"Bob <{BOB}> <bob@home.example>\n", "a.py": "x = 1\n"})
    commit = by(path, "bob@home.example", {"b.py": "y = 1\n"}, 1)
    assert mine(indexer, path, BOB) == {commit}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty commits, Ada's and Bob's in turn, in the same files."""
    path = make_repo(tmp_path_factory.mktemp("two") / "r", {f"file_{n}.py": "START = 1\n\n\n" for n in range(3)})
    texts = dict.fromkeys(range(3), "START = 1\n\n\n")
    for i in range(40):
        texts[i % 3] += body(i, 6)
        by(path, (ADA, BOB)[i % 2], {f"file_{i % 3}.py": texts[i % 3]}, i + 1, f"Add {i}")
    return path


def test_of_one_person_only_their_lines_are_learned_and_asked_for(of_two: Path, indexer: Indexer) -> None:
    hashed, repo = author_hash(indexer.data), indexer.open(of_two)
    owner = Owner(place="+u2+r", authors=(hashed(BOB),))
    made = build_corpus(repo, settings=SMALL, data=indexer.data, progress=SilentProgress(), owner=owner)
    assert made.parent == indexer.data.corpus("+u2+r")
    reader = CorpusReader.open(made)
    documents, tasks = list(reader.documents()), reader.tasks()
    learned = [line for d in documents for a, b in d.recent for line in d.text.split("\n")[a : b + 1]]
    numbers = {int(line.split("_")[1]) for line in learned if line.strip().startswith("result_")}
    assert numbers and all(n % 2 == 1 for n in numbers)
    asked = {int(re.findall(r"_(\d+)", task.prefix.rsplit("\n", 1)[1] + task.middle)[0]) for task in tasks}
    assert asked and all(n % 2 == 1 for n in asked) and min(asked) > max(numbers)
    own = sum(map(len, learned))
    assert own <= sum(len(d.text) * d.weight for d in documents) <= own * 1.1


def test_the_repositorys_own_corpus_is_another(of_two: Path, indexer: Indexer) -> None:
    repo = indexer.open(of_two)
    owner = Owner(place="+u2+r", authors=(author_hash(indexer.data)(BOB),))
    ours, hers = (
        CorpusReader.open(build_corpus(repo, settings=SMALL, data=indexer.data, progress=SilentProgress(), owner=o))
        for o in (None, owner)
    )
    assert ours.manifest.fingerprint != hers.manifest.fingerprint


def test_what_somebody_added_since_a_commit_is_counted_without_others(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "r", {"a.py": "x = 1\n"})
    first = by(path, BOB, {"b.py": "y = 1\n"}, 1)
    by(path, ADA, {"a.py": "x = 1\nz = 1\n"}, 2)
    by(path, BOB, {"b.py": "y = 1\nname = 22\n"}, 3)
    hashed, repo = author_hash(indexer.data), indexer.open(path)
    assert own_bytes(repo, first, [hashed(BOB)], hashed) == len("name = 22\n")
    assert own_bytes(repo, None, [hashed(BOB)], hashed) == len("name = 22\ny = 1\n")
    assert own_bytes(repo, repo.head, [hashed(BOB)], hashed) == 0

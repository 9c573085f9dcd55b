"""From the word for a repository to its id and what the verbs are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core import personal
from homespun_core.paths import DataDir, repo_id
from homespun_core.personal import Wish
from homespun_core.repositories import RepositoryConfig
from homespun_server.jobs.targets import Target, Targets
from tests.repos import SHOP, make_repo

CONFIGURED = RepositoryConfig(source="https://git.example.com/shop.git", name="shop")


def test_somebodys_own_adapter_is_a_target_as_long_as_they_want_it(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    word = personal.personal_id("u1", repo_id(CONFIGURED.source))
    targets = Targets(data, [CONFIGURED])
    assert targets.find(word) is None
    personal.want(data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    assert targets.find(word) == Target(repository=word, source="shop")
    personal.take_back(data, "u1")
    assert targets.find(word) is None


@pytest.mark.parametrize("url", ["https://git.example.com/team/new.git", "git@git.example.com:team/new.git"])
def test_a_job_about_a_url_has_the_id_that_its_index_will_have(tmp_path: Path, url: str) -> None:
    """It once was taken for a path first: the lease's number then stood where nobody published."""
    target = Targets(DataDir(tmp_path)).named(url)
    assert target is not None and (target.repository, target.source) == (repo_id(url), url)


def test_a_folder_inside_a_repository_is_that_repository(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "shop", SHOP)
    targets = Targets(DataDir(tmp_path / "data"))
    inside = targets.named(str(repo / "shop"))
    assert inside is not None and inside.repository == repo_id(str(repo))

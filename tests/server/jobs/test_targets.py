from __future__ import annotations

from pathlib import Path

from homespun_core import personal
from homespun_core.paths import DataDir, repo_id
from homespun_core.personal import Wish
from homespun_core.repositories import RepositoryConfig
from homespun_server.jobs.targets import Target, Targets

SHOP = RepositoryConfig(source="https://git.example.com/shop.git", name="shop")


def test_somebodys_own_adapter_is_a_target_as_long_as_they_want_it(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    word = personal.personal_id("u1", repo_id(SHOP.source))
    targets = Targets(data, [SHOP])
    assert targets.find(word) is None
    personal.want(data, Wish(user="u1", name="ada", authors=("00",), since=1.0))
    assert targets.find(word) == Target(repository=word, source="shop")
    personal.take_back(data, "u1")
    assert targets.find(word) is None

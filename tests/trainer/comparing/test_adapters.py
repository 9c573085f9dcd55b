"""Which adapter is measured: what people are served, unless another one is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from homespun_core import registry, storage
from homespun_core.errors import ModelError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish, personal_id
from homespun_core.types import ModelFiles
from homespun_trainer.comparing import adapters
from homespun_trainer.heads import corpus_of

FILES = ModelFiles(name="tiny", path="nowhere", family=None, digest="ours", config={})
ADA = Wish(user="u1", name="ada", authors=("00",), since=1.0)
HERS = personal_id("u1", "shop-1")


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path)
    publish(data, "@team", "t1", saw="shop-1 web-1")
    publish(data, "@team", "t2", saw="shop-1 web-1", is_live=False)
    publish(data, "@wide", "w1", saw="shop-1 web-1 docs-1")
    publish(data, "web-1", "v1", saw="web-1")
    publish(data, HERS, "p1", saw="shop-1 web-1")
    return data


def publish(
    data: DataDir,
    place: str,
    version: str,
    *,
    saw: str = "",
    base: str = "ours",
    is_live: bool = True,
    report: Mapping[str, Any] | None = None,
) -> None:
    sources = {"base_model": base, "repositories": saw}
    path = data.adapters(place) / version
    with registry.publish_adapter(path, fingerprint="f", sources=sources, report=report or {}):
        pass
    if is_live:
        storage.set_current(data.adapters(place), version)


def chosen(data: DataDir, name: str, repository: str = "shop-1", wish: Wish | None = None) -> str | None:
    found = adapters.chosen(data, repository, name, FILES, wish)
    return adapters.label(found, repository) if found else None


@pytest.mark.parametrize(
    ("repository", "name", "wish", "found"),
    [
        ("shop-1", "live", None, "@team/t1"),  # lent, by the one with fewer repositories
        ("web-1", "live", None, "v1"),
        ("docs-1", "live", None, "@wide/w1"),
        ("other-1", "live", None, None),
        ("shop-1", "none", None, None),
        ("web-1", "v1", None, "v1"),
        ("web-1", "@team", None, "@team/t1"),
        ("web-1", "@team/t2", None, "@team/t2"),
        ("shop-1", "live", ADA, f"{HERS}/p1"),
        ("shop-1", "p1", ADA, f"{HERS}/p1"),
        ("shop-1", "none", ADA, None),
    ],
)
def test_what_people_are_served_or_what_is_named(
    data: DataDir, repository: str, name: str, wish: Wish | None, found: str | None
) -> None:
    assert chosen(data, name, repository, wish) == found


@pytest.mark.parametrize(
    ("repository", "name", "wish", "said"),
    [
        ("web-1", "v9", None, "--adapter: no version 'v9' of this repository's adapter (v1)"),
        ("shop-1", "v1", None, "--adapter: no version 'v1' of this repository's adapter (there are none)"),
        ("shop-1", "@team/v9", None, "--adapter: no version '@team/v9' of @team (t1, t2)"),
        ("shop-1", "@team/../web-1/v1", None, "no version '@team/../web-1/v1' of @team"),
        ("shop-1", "@nobody", None, "--adapter: no version of @nobody is live (there are none)"),
        ("web-1", "live", ADA, "--for: no version of ada's own adapter is live (there are none)"),
        ("shop-1", "p9", ADA, "--adapter: no version 'p9' of ada's own adapter (p1)"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    data: DataDir, repository: str, name: str, wish: Wish | None, said: str
) -> None:
    with pytest.raises(ModelError) as error:
        chosen(data, name, repository, wish)
    assert said in str(error.value)


def test_one_of_another_base_model_is_refused_by_name_and_never_what_is_served(data: DataDir) -> None:
    publish(data, "shop-1", "old", base="theirs", saw="shop-1")
    assert chosen(data, "live") == "@team/t1"
    with pytest.raises(ModelError, match="old was trained on another base model"):
        chosen(data, "old")


def test_where_its_corpus_of_the_repository_ended_is_known_of_one_and_of_several(data: DataDir) -> None:
    publish(data, "shop-1", "v2", report={"corpus": {"commit": "abc", "split": "time"}})
    corpora = {"shop-1": {"name": "shop", "sources": {"commit": "def", "split": "time"}, "report": {}}}
    publish(data, "@team", "t3", report={"corpus": {"shop, commit": "def"}, "corpora": corpora})

    def learned(name: str, repository: str) -> Mapping[str, str]:
        adapter = adapters.chosen(data, "shop-1", name, FILES, None)
        return corpus_of(adapter.report, repository) if adapter else {}

    assert learned("v2", "shop-1")["commit"] == "abc"
    assert learned("@team/t3", "shop-1")["commit"] == "def"
    assert learned("@team/t3", "web-1") == learned("none", "shop-1") == {}

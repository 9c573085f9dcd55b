"""Which adapter a repository is served with: its own, a shared one, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from homespun_core.scopes import UNKNOWN
from homespun_indexer.reader import IndexReader
from homespun_server.live import LiveRepository, lent, pick

READER = cast(IndexReader, object())  # only whether there is one counts here
SHOP, WEB = (LiveRepository(id=id, name=id[:-2], reader=READER) for id in ("shop-1", "web-2"))


def adapted(repository: LiveRepository, version: str, *saw: str) -> LiveRepository:
    path = Path("adapters") / repository.id / version
    return replace(repository, adapter=f"{repository.id}/{version}", adapter_path=path, adapter_saw=frozenset(saw))


TEAM = adapted(LiveRepository(id="@team"), "v1", SHOP.id, WEB.id)


def served(*found: LiveRepository) -> dict[str, str | None]:
    return {r.id: r.adapter for r in lent(found)[0]}


def test_repositories_without_an_adapter_get_the_shared_one() -> None:
    repositories, kept_back = lent([TEAM, SHOP, WEB])
    assert [r.adapter for r in repositories] == ["@team/v1", "@team/v1"] and not kept_back
    assert replace(repositories[0], reader=None).state()["adapter_of"] == "@team"


def test_one_of_its_own_wins() -> None:
    assert served(TEAM, adapted(SHOP, "v2", SHOP.id), WEB) == {"shop-1": "shop-1/v2", "web-2": "@team/v1"}


def test_a_repository_that_it_has_not_seen_does_not_get_it() -> None:
    other = LiveRepository(id="api-3", reader=READER)
    assert served(TEAM, SHOP, WEB, other)["api-3"] is None


@pytest.mark.parametrize("web", [None, LiveRepository(id="web-2", reader=None, adapter="web-2/v1")])
def test_trained_on_a_repository_that_is_not_known_here_it_is_kept_back_and_why_is_said(
    web: LiveRepository | None,
) -> None:
    repositories, (why,) = lent([TEAM, SHOP, *([web] if web else [])])
    assert repositories[0].adapter is None
    assert "adapter v1 of @team is not served: it was trained on web-2" in why


def test_one_that_does_not_say_what_it_saw_is_kept_back() -> None:
    assert served(replace(TEAM, adapter_saw=frozenset()), SHOP) == {"shop-1": None}


def test_an_own_adapter_on_top_of_another_repositorys_needs_that_one_too() -> None:
    stacked = adapted(SHOP, "v2", SHOP.id, "secret-9")
    assert served(stacked) == {"shop-1": None}
    assert served(stacked, LiveRepository(id="secret-9", reader=READER))["shop-1"] == "shop-1/v2"


@pytest.mark.parametrize(
    "stacked", [adapted(SHOP, "v2", SHOP.id, UNKNOWN), replace(TEAM, adapter_saw=TEAM.adapter_saw | {UNKNOWN})]
)
def test_one_on_top_of_nobody_knows_what_is_for_those_whom_nothing_is_kept_from(stacked: LiveRepository) -> None:
    """It named no repository, which read as if it had seen its own alone."""
    found = [stacked, WEB, *([SHOP] if stacked.id != SHOP.id else [])]
    assert served(*found)["shop-1"] is None
    for_all, kept_back = lent(found, is_for_all=True)
    assert {r.id: r.adapter for r in for_all}["shop-1"] == stacked.adapter and not kept_back


def test_own_adapters_from_before_they_said_what_they_saw_are_served() -> None:
    assert served(adapted(SHOP, "v2")) == {"shop-1": "shop-1/v2"}


def test_of_two_that_cover_it_the_closer_one_is_lent() -> None:
    everybody = adapted(LiveRepository(id="@all"), "v1", SHOP.id, WEB.id, "api-3")
    api = LiveRepository(id="api-3", reader=READER)
    assert served(everybody, TEAM, SHOP, WEB, api) == {"shop-1": "@team/v1", "web-2": "@team/v1", "api-3": "@all/v1"}


def test_a_shared_candidate_is_tried_where_the_shared_adapter_is_served() -> None:
    trying = replace(TEAM, candidate="@team/v2", candidate_path=Path("v2"), candidate_saw=TEAM.adapter_saw)
    trying = replace(trying, canary_percent=100.0)
    shop, web = lent([trying, SHOP, adapted(WEB, "v9", WEB.id)])[0]
    assert shop.adapter_for("ann") == "@team/v2" and shop.adapter_for(None) == "@team/v1"
    assert web.adapter_for("ann") == "web-2/v9"


def test_a_shared_adapter_is_no_repository_to_ask_for() -> None:
    repositories, _ = lent([TEAM, SHOP])
    assert pick(repositories, None) == repositories[0] and pick(repositories, "@team") is None

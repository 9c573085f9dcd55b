from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core import personal
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir, repo_id
from homespun_core.personal import Wish
from homespun_core.scopes import scope_id

SHOP = "shop-0a1b2c3d"


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


def wish(user: str = "u1", name: str = "ada") -> Wish:
    return Wish(user=user, name=name, authors=("0011",), since=1.0)


def left_behind(data: DataDir, user: str) -> list[Path]:
    """What training for somebody leaves on the disk."""
    id = personal.personal_id(user, SHOP)
    places = [data.adapters(id), data.corpus(id), data.training_run(id), data.retraining(id)]
    for place in places:
        (place / "x").mkdir(parents=True)
        (place / "CURRENT").write_text("x")
    return places


def test_names_of_repositories_and_shared_adapters_are_nobodys() -> None:
    id = personal.personal_id("u1", SHOP)
    assert personal.owner_of(id) == "u1" and personal.repository_of(id) == SHOP
    for other in (SHOP, repo_id("https://x.io/+u1+shop"), scope_id("team"), "+", "+u1"):
        assert personal.owner_of(other) is None and personal.repository_of(other) == other


def test_taking_it_back_deletes_everything_of_them_and_nothing_of_others(data: DataDir) -> None:
    for someone in (wish(), wish("u2", "bob")):
        personal.want(data, someone)
    hers, his = left_behind(data, "u1"), left_behind(data, "u2")
    assert personal.take_back(data, "u1") == [SHOP]
    assert not any(place.exists() for place in hers) and all(place.exists() for place in his)
    assert not personal.is_wanted(data, "u1") and [w.name for w in personal.wishes(data)] == ["bob"]
    assert personal.take_back(data, "u1") == [], "again: nothing more, and no error"


def test_killed_while_deleting_the_next_sweep_does_the_rest(data: DataDir) -> None:
    """The wish goes first; whatever is left then is nobody's."""
    personal.want(data, wish())
    places = left_behind(data, "u1")
    personal.wish_file(data, "u1").unlink()
    assert personal.sweep(data) == [personal.personal_id("u1", SHOP)]
    assert not any(place.exists() for place in places)


def test_who_has_not_asked_is_refused_by_name(data: DataDir) -> None:
    personal.want(data, wish())
    assert personal.wish_of(data, "ada") == personal.wish_of(data, "u1") == wish()
    with pytest.raises(ConfigError, match=r"bob: wants no adapter of their own.*ada"):
        personal.wish_of(data, "bob")


def test_a_damaged_wish_is_nobodys(data: DataDir) -> None:
    personal.want(data, wish())
    personal.wish_file(data, "u1").write_text("{")
    assert personal.wishes(data) == []

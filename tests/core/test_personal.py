from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core import personal
from homespun_core.errors import ConfigError, StorageError
from homespun_core.paths import DataDir, repo_id
from homespun_core.personal import Wish, WithdrawnError
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


def test_what_cannot_be_deleted_is_not_said_to_be(
    data: DataDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`personal off` said "deleted" while the weights stayed."""
    personal.want(data, wish())
    places = left_behind(data, "u1")
    others = left_behind(data, "u2")
    shutil.rmtree(places[0])
    (tmp_path / "elsewhere" / "v1").mkdir(parents=True)
    places[0].symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=rf"adapters/\+u1\+{SHOP}: can't be deleted \(.*\)"):
        personal.take_back(data, "u1")
    assert not personal.is_wanted(data, "u1") and not any(place.exists() for place in places[1:])
    with pytest.raises(StorageError, match="can't be deleted"):
        personal.want(data, replace(wish(), since=2.0))
    personal.want(data, wish("u3", "cy"))  # has nothing to do with it
    assert personal.sweep(data) == [personal.personal_id("u2", SHOP)], "nothing holds up the others"
    assert "can't be deleted" in caplog.text and not any(place.exists() for place in others)
    places[0].unlink()
    personal.want(data, replace(wish(), since=2.0))


def test_killed_while_deleting_the_next_sweep_does_the_rest(data: DataDir) -> None:
    """The wish goes first; whatever is left then is nobody's."""
    personal.want(data, wish())
    places = left_behind(data, "u1")
    personal.wish_file(data, "u1").unlink()
    assert personal.sweep(data) == [personal.personal_id("u1", SHOP)]
    assert not any(place.exists() for place in places)


def test_who_has_not_asked_is_refused_and_nobody_is_named(data: DataDir) -> None:
    """What is said ends as the reason of a job, which stays when somebody is erased."""
    personal.want(data, wish())
    assert personal.wish_of(data, "ada") == personal.wish_of(data, "u1") == wish()
    with pytest.raises(ConfigError, match="bob: wants no adapter of their own") as refused:
        personal.wish_of(data, "bob")
    assert "ada" not in str(refused.value).split()


def test_taken_back_and_asked_for_again_it_is_another_wish(data: DataDir) -> None:
    personal.want(data, wish())
    personal.take_back(data, "u1")
    personal.want(data, replace(wish(), since=2.0))
    assert not personal.stands(data, wish()) and personal.stands(data, replace(wish(), since=2.0))
    with pytest.raises(WithdrawnError, match="u1"), personal.standing(data, wish()):
        pass


def test_asked_for_twice_it_is_the_same_wish_and_with_another_address_another(data: DataDir) -> None:
    personal.want(data, wish())
    personal.want(data, replace(wish(), since=2.0))
    assert personal.stands(data, wish())
    personal.want(data, replace(wish(), since=3.0, authors=("22",)))
    assert not personal.stands(data, wish())


def test_it_is_not_taken_back_in_the_middle_of_publishing(data: DataDir) -> None:
    personal.want(data, wish())
    with ThreadPoolExecutor(1) as pool:
        with personal.standing(data, wish()):
            taking = pool.submit(personal.take_back, data, "u1")
            (published,) = left_behind(data, "u1")[:1]
            assert not wait([taking], timeout=0.2).done
        assert taking.result() == [SHOP] and not published.exists()


def test_what_a_killed_training_left_is_gone_when_it_is_asked_for_again(data: DataDir) -> None:
    left = left_behind(data, "u1")
    personal.want(data, wish())
    assert not any(place.exists() for place in left)


def test_a_wish_that_cannot_be_read_now_was_not_taken_back_but_nothing_is_published(data: DataDir) -> None:
    personal.want(data, wish())
    personal.wish_file(data, "u1").write_text("{")
    assert personal.stands(data, wish())
    with pytest.raises(StorageError, match="asks again"), personal.standing(data, wish()):
        pass


def test_a_damaged_wish_is_nobodys(data: DataDir) -> None:
    personal.want(data, wish())
    personal.wish_file(data, "u1").write_text("{")
    assert personal.wishes(data) == []


def test_rights_are_noted_with_a_wish_that_stands_and_with_no_other(data: DataDir) -> None:
    personal.want(data, wish())
    personal.note_rights(data, "u1", ("@team", SHOP))
    assert personal.wish_of(data, "ada") == replace(wish(), may_have=("@team", SHOP))
    assert personal.stands(data, wish()), "a training that began before goes on"
    personal.want(data, wish())  # of a server that still loads
    assert personal.wish_of(data, "ada").may_have == ("@team", SHOP)
    personal.take_back(data, "u1")
    personal.note_rights(data, "u1", (SHOP,))
    assert not personal.is_wanted(data, "u1")

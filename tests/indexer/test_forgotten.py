from __future__ import annotations

from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_indexer import forgotten
from homespun_indexer.forgotten import Forgotten, about, is_forgotten


@pytest.mark.parametrize(
    ("request_", "path", "authors", "covered"),
    [
        (Forgotten(repository="r"), "a.py", (), True),
        (Forgotten(path="pay/**"), "pay/x/card.py", (), True),
        (Forgotten(path="pay/**"), "prepay/card.py", (), False),
        (Forgotten(path="*_test.go"), "x/y_test.go", (), True),
        (Forgotten(author="h1"), "a.py", ("h0", "h1"), True),
        (Forgotten(author="h1"), "a.py", ("h0",), False),
        (Forgotten(author="h1", path="pay/"), "pay/a.py", ("h1",), True),
        (Forgotten(author="h1", path="pay/"), "a.py", ("h1",), False),
    ],
)
def test_a_request_covers_what_it_names(
    request_: Forgotten, path: str, authors: tuple[str, ...], covered: bool
) -> None:
    assert request_.covers((path,), authors) is covered
    assert request_.covers((path, "elsewhere.c"), authors) is covered
    assert is_forgotten(("elsewhere.c", path), authors, [request_]) is covered


def test_requests_outlive_the_process_and_asking_twice_is_asking_once(data: DataDir) -> None:
    for _ in range(2):
        forgotten.add(data, Forgotten(repository="r", name="shop", path="a/**"))
    forgotten.add(data, Forgotten(author="h"))
    shop, author = forgotten.load(data)
    assert (shop.path, author.author) == ("a/**", "h") and shop.asked
    assert about([shop, author], "other") == [author]
    assert forgotten.remove(data, 1) == shop
    assert forgotten.load(data) == (author,)
    with pytest.raises(StorageError, match="no such request"):
        forgotten.remove(data, 2)


def test_a_request_is_done_when_somebody_says_so_and_not_once_it_is_asked_again(data: DataDir) -> None:
    request, asked = Forgotten(path="a/**"), list[Forgotten]()
    forgotten.add(data, request)
    forgotten.add(data, Forgotten(author="h"))
    forgotten.finish(data, request)
    assert forgotten.finish_all(data, asked.append) == [] and asked == [forgotten.load(data)[1]]
    assert [r.is_done for r in forgotten.load(data)] == [True, True]
    forgotten.add(data, request)
    assert [r.is_done for r in forgotten.load(data)] == [False, True]


def test_one_request_that_cannot_be_finished_keeps_no_other_from_it(data: DataDir) -> None:
    def take_away(request: Forgotten) -> None:
        if request.path == "a/**":
            raise StorageError("in use")

    for path in ("a/**", "b/**"):
        forgotten.add(data, Forgotten(path=path))
    with forgotten.at_work(data):
        assert forgotten.finish_all(data, take_away) == []  # whoever asked is at it
    assert forgotten.finish_all(data, take_away) == ["in use"]
    assert [r.is_done for r in forgotten.load(data)] == [False, True]
    data.forgotten.write_text("{}[")
    (problem,) = forgotten.finish_all(data, take_away)
    assert "forgotten.json" in problem


def test_of_two_that_write_at_once_none_loses_a_request(data: DataDir) -> None:
    with storage.locked(data.locks / "forgotten.lock", "the other one"):
        with pytest.raises(StorageError, match="already running"):
            forgotten.add(data, Forgotten(author="h"))
        with pytest.raises(StorageError, match="already running"):
            forgotten.remove(data, 1)
    forgotten.add(data, Forgotten(author="h"))
    assert len(forgotten.load(data)) == 1


@pytest.mark.parametrize("text", ["", "{}[", '[{"what": 1}]', "[3]", "{}", "null", '[{"path": 3}]'])
def test_an_unreadable_list_stops_training_instead_of_forgetting_it(data: DataDir, text: str) -> None:
    data.root.mkdir()
    Path(data.forgotten).write_text(text)
    with pytest.raises(StorageError, match=r"forgotten\.json"):
        forgotten.load(data)

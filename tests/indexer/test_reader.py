"""What a search brings, and what it must never bring."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from homespun_core.errors import StorageError
from homespun_core.types import SearchQuery, Snippet
from homespun_indexer.reader import IndexReader
from homespun_indexer.search import DENSE, LEXICAL, SYMBOLS
from homespun_indexer.tokenizer import GuardedTokenizer
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, make_repo, write


@pytest.fixture
def shop(tmp_path: Path, indexer: Indexer) -> IndexReader:
    return IndexReader.open(indexer.index(make_repo(tmp_path / "shop", SHOP)), indexer.tokenizer)


def query(prefix: str, suffix: str = "", path: str | None = None) -> SearchQuery:
    return SearchQuery(prefix=prefix, suffix=suffix, path=path, language="python")


def test_usages_that_look_like_the_query_come_back(shop: IndexReader) -> None:
    found = shop.search(query("full_price = price_of(item)\nreturn full_price - ", path="new.py"), 2)
    assert found[0].path == "shop/prices.py"
    assert "discounted_price" in found[0].text
    assert found[0].source == "usage"
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def test_snippets_say_where_they_stand(shop: IndexReader) -> None:
    for snippet in shop.search(query("basket = Basket()\nbasket.total("), 5, weights={LEXICAL: 1.0}):
        lines = SHOP[snippet.path].split("\n")
        shown = snippet.text.split("\n")
        assert lines[snippet.start_line - 1 : snippet.start_line - 1 + len(shown)] == shown


def test_definitions_of_used_names_come_back_as_signatures(tmp_path: Path, indexer: Indexer) -> None:
    # Names that stand in a large share of the chunks need no definition, so there have to be some chunks.
    filler = {f"other/file_{i}.py": f"def filler_{i}():\n    return {i} * 7\n" for i in range(60)}
    with IndexReader.open(indexer.index(make_repo(tmp_path / "shop", SHOP | filler))) as reader:
        found = reader.search(query("cost = discounted_price("), 3, weights={SYMBOLS: 1.0})
    assert [(s.text, s.source) for s in found] == [("def discounted_price(item, percent):", "definition")]


@pytest.mark.parametrize("path", ["shop/prices.py", "monorepo/shop/prices.py", "prices.py"])
@pytest.mark.parametrize("arm", [LEXICAL, DENSE, SYMBOLS])
def test_nothing_of_the_current_file_comes_back(shop: IndexReader, path: str, arm: str) -> None:
    found = shop.search(query("def price_of(item):\n    return PRICES", path=path), 10, weights={arm: 1.0})
    assert all(s.path != "shop/prices.py" for s in found)


def test_the_place_being_written_does_not_come_back_when_its_path_is_unknown(shop: IndexReader) -> None:
    text = SHOP["shop/prices.py"]
    at = text.index("return full_price - ")
    for path in (None, "renamed_since.py"):
        found = shop.search(query(text[:at], text[at:], path), 10, weights={LEXICAL: 1.0, DENSE: 1.0})
        assert all(s.path != "shop/prices.py" for s in found)


def test_at_most_two_of_a_file_and_no_near_duplicates(tmp_path: Path, indexer: Indexer) -> None:
    function = (
        "def load_{0}(path):\n"
        + "".join(f"    step_{{0}}_{i} = read_settings(path, {i})\n" for i in range(30))
        + "\n\n"
    )
    many = "".join(function.format(i) for i in range(8))
    copies = {f"copy_{i}.py": function.format("copied") + f"x = {i}\n" for i in range(5)}
    with IndexReader.open(indexer.index(make_repo(tmp_path / "r", {"many.py": many} | copies))) as reader:
        found = reader.search(query("settings = read_settings(path, "), 10)
    assert sum(s.path == "many.py" for s in found) == 2
    assert sum(s.path.startswith("copy_") for s in found) == 1


def test_the_limit_holds_and_nothing_is_found_for_nothing(shop: IndexReader) -> None:
    assert len(shop.search(query("item quantity total price"), 1)) == 1
    assert shop.search(query("item quantity total price"), 0) == []
    assert shop.search(query(""), 3) == []
    assert shop.search(query("\n  \n", "\n"), 3) == []
    assert shop.search(query("zzz_unknown_name"), 3) == []


def test_every_arm_answers(shop: IndexReader) -> None:
    ask = query("total = price_of(item) * quantity\n", path="new.py")
    assert all(shop.search(ask, 3, weights={arm: 1.0}) for arm in (LEXICAL, DENSE))


def test_drafts_continue_what_stands_in_the_repository(shop: IndexReader, tokenizer: GuardedTokenizer) -> None:
    drafted = shop.draft(tokenizer.encode("def discounted_price(item, percent):\n    full_price ="), 8)
    assert tokenizer.decode(drafted).startswith(" price_of(item)")
    assert shop.draft(tokenizer.encode("zzz unknown"), 8) == []


def test_threads_get_the_same_answers(shop: IndexReader) -> None:
    ask = [
        query(f"{word} = ", path="new.py") for word in ("price_of(item)", "basket.total()", "quantity", "line.price")
    ]
    expected = [shop.search(q, 3) for q in ask]
    answers: list[list[list[Snippet]]] = []
    threads = [threading.Thread(target=lambda: answers.append([shop.search(q, 3) for q in ask])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


def test_an_index_for_another_tokenizer_is_refused(tmp_path: Path, indexer: Indexer) -> None:
    path = indexer.index(make_repo(tmp_path / "shop", SHOP))

    class Other:
        digest = "0" * 64

    with pytest.raises(StorageError, match="another base model's tokenizer"):
        IndexReader.open(path, Other())  # type: ignore[arg-type]


def test_a_single_flipped_bit_anywhere_is_noticed(tmp_path: Path, indexer: Indexer) -> None:
    path = indexer.index(make_repo(tmp_path / "shop", SHOP))
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json"):
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 4
        file.write_bytes(bad)
        with pytest.raises(StorageError, match="damaged"):
            IndexReader.open(path)
        file.write_bytes(good)
    IndexReader.open(path).close()


def test_a_reader_survives_the_pruning_of_its_snapshot(tmp_path: Path, indexer: Indexer) -> None:
    path = make_repo(tmp_path / "shop", SHOP)
    first = indexer.index(path)
    reader = IndexReader.open(first)
    before = reader.search(query("price_of(item)"), 3)
    for i in range(4):
        write(path, {"new.py": f"x = {i}\n"})
        indexer.index(path)
    assert not first.exists()
    assert reader.search(query("price_of(item)"), 3) == before
    reader.close()


def test_the_counts_are_those_of_the_manifest(shop: IndexReader) -> None:
    assert shop.num_files == shop.manifest.info["files"] == 4
    assert shop.num_chunks == shop.manifest.info["chunks"]
    assert shop.num_tokens > 0
    assert dataclasses.is_dataclass(shop.manifest)

"""What a search brings, and what it must never bring."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest

from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.types import SearchQuery, Snippet
from homespun_indexer import layout
from homespun_indexer.imports import Import
from homespun_indexer.reader import IndexReader
from homespun_indexer.search import ARMS, DEFINITION, USAGE
from homespun_indexer.tokenizer import GuardedTokenizer
from tests.indexer.conftest import Indexer
from tests.repos import SHOP, commit, git, make_repo, write


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
    usages = [s.score for s in found if s.source == USAGE]
    assert usages == sorted(usages, reverse=True)


def test_snippets_say_where_they_stand(shop: IndexReader) -> None:
    for snippet in shop.search(query("basket = Basket()\nbasket.total("), 5, arms=[USAGE]):
        lines = SHOP[snippet.path].split("\n")
        shown = snippet.text.split("\n")
        assert lines[snippet.start_line - 1 : snippet.start_line - 1 + len(shown)] == shown


def test_definitions_of_used_names_come_back_as_signatures(tmp_path: Path, indexer: Indexer) -> None:
    # Names that stand in a large share of the chunks need no definition, so there have to be some chunks.
    filler = {f"other/file_{i}.py": f"def filler_{i}():\n    return {i} * 7\n" for i in range(60)}
    with IndexReader.open(indexer.index(make_repo(tmp_path / "shop", SHOP | filler))) as reader:
        found = reader.search(query("cost = discounted_price("), 3, arms=[DEFINITION])
    assert [(s.text, s.source) for s in found] == [("def discounted_price(item, percent):", "definition")]


@pytest.mark.parametrize("path", ["shop/prices.py", "monorepo/shop/prices.py", "prices.py"])
@pytest.mark.parametrize("arm", ARMS)
def test_nothing_of_the_current_file_comes_back(shop: IndexReader, path: str, arm: str) -> None:
    found = shop.search(query("def price_of(item):\n    return PRICES", path=path), 10, arms=[arm])
    assert all(s.path != "shop/prices.py" for s in found)


def test_the_place_being_written_does_not_come_back_when_its_path_is_unknown(shop: IndexReader) -> None:
    text = SHOP["shop/prices.py"]
    at = text.index("return full_price - ")
    for path in (None, "renamed_since.py"):
        found = shop.search(query(text[:at], text[at:], path), 10, arms=[USAGE])
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
    assert len(shop.search(query("item quantity total price"), 1, arms=[USAGE])) == 1
    assert shop.search(query("item quantity total price"), 0) == []
    assert shop.search(query(""), 3) == []
    assert shop.search(query("\n  \n", "\n"), 3) == []
    assert shop.search(query("zzz_unknown_name"), 3) == []


def test_an_arm_that_the_deadline_leaves_no_time_for_is_not_asked_and_that_is_said(
    tmp_path: Path, indexer: Indexer
) -> None:
    with IndexReader.open(indexer.index(make_repo(tmp_path / "shop", SHOP))) as reader:
        ask = query("from shop.prices import discounted_price\n\ncost = discounted_price(", path="new.py")
        assert {s.source for s in reader.search(ask, 3)} == {USAGE, DEFINITION}
        whole, late = reader.search_within(60.0, ask, 3), reader.search_within(0.0, ask, 3)
        assert whole.is_whole and whole.snippets == reader.search(ask, 3)
        assert not late.is_whole and {s.source for s in late.snippets} == {USAGE}


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
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "manifest.json")
    assert len(files) == 2
    for file in files:
        good = file.read_bytes()
        for place in range(0, len(good), 1 + len(good) // 20):
            bad = bytearray(good)
            bad[place] ^= 4
            file.write_bytes(bad)
            with pytest.raises(StorageError, match="damaged"):
                IndexReader.open(path)
        file.write_bytes(good)
    IndexReader.open(path).close()


def test_what_a_reader_has_open_is_not_checked_again_for_the_next(tmp_path: Path, indexer: Indexer) -> None:
    """A segment that it has open is the one that was checked, whatever became of the file since."""
    path = indexer.index(make_repo(tmp_path / "shop", SHOP))
    reader = IndexReader.open(path)
    (segment,) = (p for p in path.iterdir() if p.suffix != ".json")
    segment.write_bytes(segment.read_bytes())
    with IndexReader.open(path, previous=reader) as other:
        assert other.search(query("price_of(item)"), 3) == reader.search(query("price_of(item)"), 3)
    segment.unlink()
    with pytest.raises(StorageError, match="missing"):
        IndexReader.open(path, previous=reader)


@pytest.fixture
def in_layers(tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Callable[[], None]]:
    """A repository, and what adds a segment to its index for each call."""
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    monkeypatch.setattr(layout, "_MAX_SMALL", 100)
    path = make_repo(tmp_path / "layers", {"start.py": "start = 1\n"})

    def add_segment() -> None:
        indexer.index(path)

    return path, add_segment


def test_equal_hits_are_chosen_by_their_place_however_the_index_is_laid_out(
    tmp_path: Path, indexer: Indexer, in_layers: tuple[Path, Callable[[], None]]
) -> None:
    """More of them than are looked at."""
    path, add_segment = in_layers
    for first in (40, 0):
        write(path, {f"copy_{i:03}.py": "value = read_settings(path)\n" for i in range(first, first + 40)})
        add_segment()
    cold = Indexer(DataDir(tmp_path / "cold"), indexer.model, indexer.tokenizer).index(path)
    with IndexReader.open(indexer.index(path)) as reader, IndexReader.open(cold) as other:
        assert len(reader._parts) == 2
        ask = query("x = read_settings(")
        assert [s.path for s in reader.search(ask, 1)] == [s.path for s in other.search(ask, 1)] == ["copy_000.py"]


def test_definitions_in_dead_files_do_not_hide_living_ones(
    indexer: Indexer, in_layers: tuple[Path, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_MAX_DEAD_SHARE", 1.0)
    path, add_segment = in_layers
    text = "def load_everything(path):\n    return path\n"
    write(path, {f"old_{i:02}.py": text for i in range(40)} | {"young.py": text})
    add_segment()
    for old in path.glob("old_*.py"):
        old.unlink()
    with IndexReader.open(indexer.index(path)) as reader:
        assert max(len(part.dead) for part in reader._parts) == 40
        found = reader.search(query("from young import load_everything\n\nload_everything("), 3, arms=[DEFINITION])
    assert [s.path for s in found] == ["young.py"]


def test_all_that_is_known_of_a_chunk_is_true(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file with Windows' line ends and characters of several bytes, in an index of two segments."""
    monkeypatch.setattr(layout, "_QUICK_BYTES", 0)
    steps = "".join(f'        step_{i} = price_of("{i} Äpfel und Birnen")  # ü\r\n' for i in range(60))
    text = (
        "from shop.prices import price_of\r\n\r\n\r\nclass Basket(Base):\r\n"
        f"    def fill(self,\r\n             quantity: int) -> None:\r\n{steps}\r\n    def total(self):\r\n{steps}"
        "\r\n\r\ndef start():\r\n    return Basket()\r\n"
    )
    repository = make_repo(tmp_path / "r", {"basket.py": text, "prices.py": "PRICES = {}\n"})
    before = indexer.index(repository)
    commit(repository, {"prices.py": "PRICES = {1: 2}\n"}, day=3)
    with IndexReader.open(before) as old, IndexReader.open(indexer.index(repository)) as reader:
        lines = text.replace("\r\n", "\n").split("\n")
        found = [reader.chunk_at("basket.py", line) for line, shown in enumerate(lines, 1) if shown.strip()]
        chunks = [chunk for chunk in dict.fromkeys(found) if chunk is not None]
        assert len(reader._parts) == 2
        segment = reader._parts[reader._places["basket.py"][0]].segment
        following, preceding = [chunks[0]], [chunks[-1]]
        while (number := following[-1].next) is not None:
            following.append(segment.chunk(number, chunks[0].changed))
        while (number := preceding[-1].previous) is not None:
            preceding.append(segment.chunk(number, chunks[0].changed))
        changed = [r.chunk_at("prices.py", 1) for r in (old, reader)]
        assert reader.chunk_at("basket.py", len(lines) + 1) is None and reader.chunk_at("gone.py", 1) is None
    assert None not in found and following == preceding[::-1] == chunks and len(chunks) > 3
    assert [c.changed for c in changed if c is not None] == [1_700_000_000, 1_700_000_000 + 3 * 86_400]
    encoded = "\n".join(lines).encode()
    for chunk in chunks:
        assert (chunk.path, chunk.language, chunk.changed) == ("basket.py", "python", 1_700_000_000)
        assert chunk.blob == git(repository, "rev-parse", "HEAD:basket.py")
        assert chunk.text == "\n".join(lines[chunk.start_line - 1 : chunk.end_line])
        assert chunk.text == encoded[chunk.start_byte : chunk.end_byte].decode()
        assert chunk.digest == int.from_bytes(blake2b(chunk.text.encode(), digest_size=8).digest(), "little")
        assert chunk.imports == (Import("shop.prices", "price_of"),)
    fill, total = "def fill(self, quantity: int) -> None:", "def total(self):"
    assert [(c.scope, c.signature) for c in (chunks[0], chunks[1], chunks[-1])] == [
        ((), ""),
        (("class Basket", "def fill"), fill),
        (("class Basket", "def total"), total),
    ]
    assert [c.defines for c in chunks if c.defines] == [("Basket", "fill"), ("total",), ("start",)]
    assert chunks[0].references[:6] == ("shop", "prices", "price_of", "Base", "quantity", "step_0")
    assert "Basket" in chunks[-1].references and "return" not in chunks[-1].references


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

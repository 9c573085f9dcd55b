"""Usages with vectors beside the words, and who may see what isn't committed: through a whole index."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from homespun_core.config import Settings
from homespun_core.storage import read_manifest
from homespun_core.types import SearchQuery
from homespun_indexer import embedders
from homespun_indexer.dense import Vectors
from homespun_indexer.reader import IndexReader
from homespun_indexer.snapshot import FORMAT, KIND
from tests.indexer.conftest import Indexer
from tests.repos import commit, git, make_repo, write

WITH_VECTORS = dataclasses.replace(Settings(), embedder="builtin")
FILES = {
    "a.py": "def parse_invoice(text):\n    lines = text.split()\n    return Invoice(lines)\n",
    "b.py": "def render_page(page):\n    html = page.template.render()\n    return html\n",
    "c.py": "def open_socket(host, port):\n    return connect((host, port))\n",
}
QUERY = SearchQuery(prefix="def parse_bill(text):\n    lines = text.", suffix="\n", path=None, language="python")


def test_vectors_are_kept_with_the_index_and_searched(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    with IndexReader.open(indexer.index(repo, settings=WITH_VECTORS)) as reader:
        assert reader.manifest.sources["embedder"] == "builtin"
        assert next(s.path for s in reader.search(QUERY, 3)) == "a.py"


def test_without_an_embedder_an_index_has_no_vectors(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    plain = indexer.index(repo)
    assert indexer.index(repo, settings=WITH_VECTORS) != plain
    assert read_manifest(plain, KIND, FORMAT).sources["embedder_digest"] == ""


def test_words_that_match_nothing_leave_the_choice_to_vectors(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    query = SearchQuery(prefix="invoices = ", suffix="", path=None, language="python")
    with IndexReader.open(indexer.index(repo)) as plain:
        assert plain.search(query, 3) == []
    with IndexReader.open(indexer.index(repo, settings=WITH_VECTORS)) as reader:
        assert reader.search(query, 1)


def test_vectors_of_dead_files_and_of_the_file_itself_are_not_found(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    indexer.index(repo, settings=WITH_VECTORS)
    (repo / "a.py").unlink()
    commit(repo, {})
    query = dataclasses.replace(QUERY, path="b.py")
    with IndexReader.open(indexer.index(repo, settings=WITH_VECTORS)) as reader:
        assert {s.path for s in reader.search(query, 9, arms=("usage",))} <= {"c.py"}


def test_a_chunk_is_embedded_once_for_all_repositories(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    embed = embedders.StaticEmbedder.embed

    def counted(self: embedders.StaticEmbedder, given: list[str]) -> Vectors:
        texts.extend(given)
        return embed(self, given)

    monkeypatch.setattr(embedders.StaticEmbedder, "embed", counted)
    indexer.index(make_repo(tmp_path / "r", FILES), settings=WITH_VECTORS)
    assert len(texts) == len(FILES)
    indexer.index(make_repo(tmp_path / "fork", FILES | {"d.py": "NEW = compute_it(1)\n"}), settings=WITH_VECTORS)
    assert texts[len(FILES) :] == ["NEW = compute_it(1)"]


def test_an_index_whose_embedder_has_changed_is_searched_by_words(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = indexer.index(make_repo(tmp_path / "r", FILES), settings=WITH_VECTORS)
    monkeypatch.setattr(embedders.StaticEmbedder, "digest", property(lambda self: "other"))
    with IndexReader.open(index) as reader:
        assert next(s.path for s in reader.search(QUERY, 3)) == "a.py"
    assert "searched by words alone: its embedder has changed since; run `homespun index` again" in caplog.text


def test_an_embedder_that_fails_costs_the_vectors_only(
    tmp_path: Path, indexer: Indexer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    plain, index = indexer.index(repo), indexer.index(repo, settings=WITH_VECTORS)
    with IndexReader.open(plain) as by_words, IndexReader.open(index) as reader:

        def paths(searched: IndexReader) -> list[str]:
            return [snippet.path for snippet in searched.search(QUERY, 3)]

        def down(self: embedders.StaticEmbedder, given: list[str]) -> Vectors:
            raise ConnectionError("it is down")

        with monkeypatch.context() as patch:
            patch.setattr(embedders.StaticEmbedder, "embed", down)
            for _ in range(2):
                assert paths(reader) == paths(by_words) != []
        assert len(caplog.records) == 1 and "where the embedder fails (ConnectionError)" in caplog.text
        assert paths(reader)[0] == "a.py"  # it is there again


def test_an_index_says_whose_uncommitted_code_it_holds(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    owner = read_manifest(indexer.index(repo), KIND, FORMAT).sources["uncommitted_of"]
    assert owner == ""
    write(repo, {"a.py": "SAVED = 1\n"})
    assert read_manifest(indexer.index(repo), KIND, FORMAT).sources["uncommitted_of"] == repo.owner()


def test_uncommitted_code_stays_out_when_told_so(tmp_path: Path, indexer: Indexer) -> None:
    repo = make_repo(tmp_path / "r", FILES)
    committed = indexer.index(repo)
    write(repo, {"a.py": "SAVED = 1\n"})
    settings = dataclasses.replace(Settings(), uncommitted=False)
    assert git(repo, "status", "--porcelain") == "M a.py"
    assert indexer.index(repo, settings=settings) == committed

"""Does the search find what others find, and as fast? The same chunks and the same held-out lines for all.

    python benchmarks/search_peers.py REPO [REPO ...] [--tasks 400]

Chunks and lines are those of benchmarks/retrieval.py: the index is frozen at the corpus's cut. For each line: do the
five best chunks of other files hold names that it needs and that stand nowhere in the text around the cursor?
`recall` is the share of lines for which they hold one at least, `names` the share of a line's names that they hold.
Differences are to our ranking and come with a 95 % interval, resampled by commit.

- `ours`: the ranking that snippets are chosen from. `ours, words alone` is without the bonus for lines that follow the
  same text; `ours, snippets` is what `search` makes of the ranking: parts of chunks, without near duplicates.
- `tantivy as in Tabby` (github.com/TabbyML/tabby: its `body_query` and `tokenize_code`): words as they stand, of the
  whole prefix, each as often as it stands there, without term frequencies, only chunks of the same language.
- `tantivy, our terms`: BM25 over the same terms as ours, with the same weights as boosts.
- `bm25s`: the same terms without weights.
- `ripgrep`: the eight rarest names near the cursor, chunks ranked by how many of them they hold, then how often.
  Without an `rg` on the path the texts are searched in this process.

Only lines that need such a name count, about a third of `--tasks`. Times are one query's on one thread, from its terms
on, so that nobody pays for how fast Python makes them; `snippets` are the whole way. All peers are asked one question
before the next. To build means: from the texts of all chunks to something that can be searched, without parsing;
tantivy does it with two threads. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy is imported

import numpy as np

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, SearchQuery, SilentProgress
from homespun_indexer import lexical, search, tails
from homespun_indexer.corpus import CorpusReader, build_corpus
from homespun_indexer.indexing import index_repository
from homespun_indexer.lexical import Postings, words
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.parts import Hit
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import open_repository
from homespun_indexer.search import USAGE
from homespun_indexer.segment import Segment
from homespun_indexer.snapshot import read_segments
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.intervals import Estimate, mean

TOP = 5
SEEN_CHARS = 3_000, 1_000
"""What the prompt shows of the file itself, about; names in it need no search. As in benchmarks/retrieval.py."""
GREP_NAMES = 8
_TABBY_WORD = re.compile(r"\w+")
_TABBY_MAX_WORD = 64
_WRITER_BYTES, _WRITER_THREADS = 200_000_000, 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A document for all peers. `indexed` is what our index holds of it: path and scope, then the text."""

    path: str
    language: str
    text: str
    indexed: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    texts: Sequence[str]
    ms: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    commit: str
    names: float
    """Share of the missing names found."""
    ms: float


class Peer(Protocol):
    """Builds its index when it is made."""

    build_s: float | None
    num_bytes: int | None

    def find(self, query: SearchQuery) -> Found: ...


class Chunks:
    """All chunks of an index, numbered over its segments, and which of them a file has."""

    def __init__(self, snapshot: Path) -> None:
        self.firsts: list[int] = []
        """Number of each segment's first chunk."""
        self.all: list[Chunk] = []
        for live in read_segments(snapshot):
            assert not live.dead, "an index of a commit is built at once"
            segment = Segment(snapshot / live.name)
            self.firsts.append(len(self.all))
            self.all += (_chunk(segment, number) for number in range(len(segment.chunks)))
        self._of_path: dict[str, list[int]] = {}
        for number, chunk in enumerate(self.all):
            self._of_path.setdefault(chunk.path, []).append(number)

    @cached_property
    def frequencies(self) -> Counter[str]:
        """In how many chunks each word stands."""
        return Counter(word for chunk in self.all for word in set(words(chunk.text)))

    def of(self, path: str | None) -> Sequence[int]:
        return self._of_path.get(path or "", ())

    def first_others(self, ranked: Iterable[int], path: str | None) -> list[str]:
        """The texts of the best that aren't of the file at `path`."""
        own = set(self.of(path))
        return [self.all[number].text for number in ranked if number not in own][:TOP]


def _chunk(segment: Segment, number: int) -> Chunk:
    known = segment.chunk(number, 0)
    indexed = "\n".join((known.path, *known.scope, known.text))
    return Chunk(path=known.path, language=known.language, text=known.text, indexed=indexed)


class Ours:
    """The build is timed on the postings alone, one segment's after the other's, as the peers have nothing else."""

    def __init__(self, reader: IndexReader, chunks: Chunks) -> None:
        self._reader, self._chunks = reader, chunks
        self._usages = reader._usages  # the ranking, before it is made into snippets; nobody but us needs that
        ends = [*chunks.firsts[1:], len(chunks.all)]
        started = time.perf_counter()
        built = [
            Postings.build([chunk.indexed for chunk in chunks.all[start:end]])
            for start, end in zip(chunks.firsts, ends, strict=True)
        ]
        self.build_s: float | None = time.perf_counter() - started
        self.num_bytes: int | None = sum(array.nbytes for arrays in built for array in arrays.values())

    def find(self, query: SearchQuery) -> Found:
        terms = search.term_weights(search.window(query))
        started = time.perf_counter()
        hits = self.ranked(query, terms)
        ms = (time.perf_counter() - started) * 1_000
        ranked = (self._chunks.firsts[hit.part] + hit.chunk for hit in hits)
        return Found(texts=self._chunks.first_others(ranked, query.path), ms=ms)

    def ranked(self, query: SearchQuery, terms: Mapping[str, float]) -> list[Hit]:
        return tails.reordered(self.by_words(query, terms), self._usages._text, query.prefix)

    def by_words(self, query: SearchQuery, terms: Mapping[str, float]) -> list[Hit]:
        return self._usages._by_terms(terms, self._reader._own_files(query.path))


class OurWords(Ours):
    def ranked(self, query: SearchQuery, terms: Mapping[str, float]) -> list[Hit]:
        return self.by_words(query, terms)


class OurSnippets:
    build_s: float | None = None
    num_bytes: int | None = None

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader

    def find(self, query: SearchQuery) -> Found:
        started = time.perf_counter()
        snippets = self._reader.search(query, TOP, arms=(USAGE,))
        return Found(texts=[s.text for s in snippets], ms=(time.perf_counter() - started) * 1_000)


class Tantivy(ABC):
    """An index of texts given as words; what is asked of it is left to the two below."""

    def __init__(self, tantivy: Any, chunks: Chunks, folder: Path, index_option: str) -> None:
        self.tantivy, self._chunks = tantivy, chunks
        folder.mkdir()
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("number", fast=True)
        schema.add_text_field("language", tokenizer_name="raw", index_option="basic")
        schema.add_text_field("words", tokenizer_name="blanks", index_option=index_option)
        self.schema = schema.build()
        started = time.perf_counter()
        self._searcher = self._built(folder)
        self.build_s: float | None = time.perf_counter() - started
        self.num_bytes: int | None = size_of(folder)

    @abstractmethod
    def words_of(self, chunk: Chunk) -> list[str]: ...

    @abstractmethod
    def query(self, query: SearchQuery) -> Any: ...

    def find(self, query: SearchQuery) -> Found:
        asked, limit = self.query(query), TOP + len(self._chunks.of(query.path))
        started = time.perf_counter()
        hits = self._searcher.search(asked, limit, count=False).hits
        ranked = self._searcher.fast_field_values("number", [address for _, address in hits])
        ms = (time.perf_counter() - started) * 1_000
        return Found(texts=self._chunks.first_others(ranked, query.path), ms=ms)

    def any_of(self, subqueries: Iterable[Any]) -> Any:
        return self.tantivy.Query.boolean_query([(self.tantivy.Occur.Should, one) for one in subqueries])

    def term(self, word: str, index_option: str) -> Any:
        return self.tantivy.Query.term_query(self.schema, "words", word, index_option)

    def _built(self, folder: Path) -> Any:
        index = self.tantivy.Index(self.schema, path=str(folder))
        blanks = self.tantivy.TextAnalyzerBuilder(self.tantivy.Tokenizer.whitespace()).build()
        index.register_tokenizer("blanks", blanks)
        writer = index.writer(_WRITER_BYTES, num_threads=_WRITER_THREADS)
        for number, chunk in enumerate(self._chunks.all):
            text = " ".join(self.words_of(chunk))
            writer.add_document(self.tantivy.Document(number=number, language=chunk.language, words=text))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        return index.searcher()


class TantivyAsInTabby(Tantivy):
    def __init__(self, tantivy: Any, chunks: Chunks, folder: Path) -> None:
        super().__init__(tantivy, chunks, folder, "basic")

    def words_of(self, chunk: Chunk) -> list[str]:
        return _tabby_words(chunk.text)

    def query(self, query: SearchQuery) -> Any:
        q, must = self.tantivy.Query, self.tantivy.Occur.Must
        language = q.const_score_query(q.term_query(self.schema, "language", query.language or "", "basic"), 0.0)
        body = self.any_of(self.term(word, "basic") for word in _tabby_words(query.prefix))
        return q.boolean_query([(must, language), (must, body)])


class TantivyOurTerms(Tantivy):
    def __init__(self, tantivy: Any, chunks: Chunks, folder: Path) -> None:
        super().__init__(tantivy, chunks, folder, "freq")

    def words_of(self, chunk: Chunk) -> list[str]:
        return lexical.terms(chunk.indexed)

    def query(self, query: SearchQuery) -> Any:
        weights = search.term_weights(search.window(query))
        boost = self.tantivy.Query.boost_query
        return self.any_of(boost(self.term(term, "freq"), weight) for term, weight in weights.items())


class Bm25s:
    def __init__(self, bm25s: Any, chunks: Chunks, folder: Path) -> None:
        self._chunks = chunks
        started = time.perf_counter()
        numbers: dict[str, int] = {}
        ids = [
            [numbers.setdefault(term, len(numbers)) for term in lexical.terms(chunk.indexed)] for chunk in chunks.all
        ]
        self._index = bm25s.BM25(k1=lexical.K1, b=lexical.B)
        self._index.index(bm25s.tokenization.Tokenized(ids=ids, vocab=numbers), show_progress=False)
        self.build_s: float | None = time.perf_counter() - started
        self._index.save(folder, show_progress=False)
        self.num_bytes: int | None = size_of(folder)

    def find(self, query: SearchQuery) -> Found:
        terms = list(search.term_weights(search.window(query)))
        limit = min(TOP + len(self._chunks.of(query.path)), len(self._chunks.all))
        started = time.perf_counter()
        scores = self._index.get_scores(terms)
        best = np.argpartition(scores, -limit)[-limit:]
        ranked = best[np.argsort(-scores[best])].tolist()
        ms = (time.perf_counter() - started) * 1_000
        return Found(texts=self._chunks.first_others(ranked, query.path), ms=ms)


class Grep:
    """`rg` searches one file with all texts, one after the other."""

    def __init__(self, chunks: Chunks, folder: Path) -> None:
        self._chunks, self._rg, self._file = chunks, shutil.which("rg"), folder / "texts"
        self.build_s: float | None = None
        self.num_bytes: int | None = None
        folder.mkdir()
        encoded = [chunk.text.encode() + b"\n" for chunk in chunks.all]
        self._starts = [0, *accumulate(map(len, encoded))]
        self._file.write_bytes(b"".join(encoded))

    def find(self, query: SearchQuery) -> Found:
        names = self._names(query)
        started = time.perf_counter()
        counts = self._counted(names) if names else {}
        own = set(self._chunks.of(query.path))
        ranked = sorted(counts, key=lambda n: (-len(counts[n]), -counts[n].total(), n))
        ms = (time.perf_counter() - started) * 1_000
        return Found(texts=[self._chunks.all[n].text for n in ranked if n not in own][:TOP], ms=ms)

    def _names(self, query: SearchQuery) -> list[str]:
        known = self._chunks.frequencies
        near = dict.fromkeys(word for word in words(search.window(query).text) if word in known)
        return sorted(near, key=lambda word: known[word])[:GREP_NAMES]

    def _counted(self, names: Sequence[str]) -> dict[int, Counter[str]]:
        """By chunk: how often each name stands in it."""
        counts: dict[int, Counter[str]] = {}
        for number, name, times in self._by_rg(names) if self._rg else self._by_scan(names):
            counts.setdefault(number, Counter())[name] += times
        return counts

    def _by_scan(self, names: Sequence[str]) -> Iterable[tuple[int, str, int]]:
        for number, chunk in enumerate(self._chunks.all):
            for name in names:
                if name in chunk.text:
                    yield number, name, chunk.text.count(name)

    def _by_rg(self, names: Sequence[str]) -> Iterable[tuple[int, str, int]]:
        assert self._rg is not None
        options = ["--no-config", "--only-matching", "--byte-offset", "--no-line-number", "--text", "--fixed-strings"]
        wanted = [option for name in names for option in ("-e", name)]
        done = subprocess.run([self._rg, *options, *wanted, str(self._file)], capture_output=True, check=False)
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            offset, _, name = line.partition(":")
            yield bisect_right(self._starts, int(offset)) - 1, name, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmark-data"), help="where corpus and index are kept"
    )
    args = parser.parse_args()
    results = {}
    for source in args.repositories:
        with tempfile.TemporaryDirectory(prefix="homespun-benchmark-") as folder:
            name, rows = measure(source, args.data, args.tasks, Path(folder))
        results[name] = rows
    print(json.dumps({"benchmark": "search_peers", "top": TOP, "results": results}))


def measure(source: str, root: Path, num_tasks: int, folder: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    settings = dataclasses.replace(Settings(), eval_tasks=num_tasks)
    data, progress = DataDir(root.absolute()), SilentProgress()
    model = resolve_base_model("builtin", "auto")
    tokenizer = load_tokenizer(model)
    repo = open_repository(source, data, timeout_s=600, progress=progress)
    corpus = CorpusReader.open(build_corpus(repo, settings=settings, data=data, progress=progress))
    path = index_repository(
        repo,
        settings=settings,
        data=data,
        model=model,
        tokenizer=tokenizer,
        progress=progress,
        commit=corpus.cut,
        exclude=corpus.held_out,
    )
    chunks = Chunks(path)
    tasks = [task for task in corpus.tasks() if missing_names(task)]
    peers = peers_of(path, chunks, folder)
    outcomes: dict[str, list[Outcome]] = {label: [] for label in peers}
    for task in tasks:
        for label, peer in peers.items():
            outcomes[label].append(outcome(peer, task))
    place = "/".join(Path(source).absolute().parts[-2:])
    name = f"{place} ({corpus.report['split']}, {len(chunks.all):,} chunks, {len(tasks)} tasks)"
    return name, table(name, peers, outcomes)


def peers_of(snapshot: Path, chunks: Chunks, folder: Path) -> dict[str, Peer]:
    """Ours first, each with a reader and so with caches of its own. A package that isn't installed is left out, with a
    line that says so."""
    peers: dict[str, Peer] = {
        "ours": Ours(IndexReader.open(snapshot), chunks),
        "ours, words alone": OurWords(IndexReader.open(snapshot), chunks),
        "ours, snippets": OurSnippets(IndexReader.open(snapshot)),
    }
    tantivy, bm25s = _installed("tantivy"), _installed("bm25s")
    if tantivy is not None:
        peers["tantivy as in Tabby"] = TantivyAsInTabby(tantivy, chunks, folder / "tabby")
        peers["tantivy, our terms"] = TantivyOurTerms(tantivy, chunks, folder / "terms")
    if bm25s is not None:
        peers["bm25s"] = Bm25s(bm25s, chunks, folder / "bm25s")
    grep = Grep(chunks, folder / "grep")
    return {**peers, "ripgrep" if shutil.which("rg") else "ripgrep (no rg: in process)": grep}


def _installed(package: str) -> Any:
    """The package, or None."""
    try:
        return importlib.import_module(package)
    except ImportError:
        print(f"{package} is left out: it isn't installed (pip install {package})")
        return None


def _tabby_words(text: str) -> list[str]:
    return [word for word in _TABBY_WORD.findall(text) if len(word) < _TABBY_MAX_WORD]


def missing_names(task: EvalTask) -> set[str]:
    """What the line needs and the text around the cursor doesn't have."""
    near = task.prefix[-SEEN_CHARS[0] :] + "\n" + task.suffix[: SEEN_CHARS[1]]
    return set(words(task.middle)) - set(words(near))


def outcome(peer: Peer, task: EvalTask) -> Outcome:
    found = peer.find(SearchQuery(prefix=task.prefix, suffix=task.suffix, path=task.path, language=task.language))
    missing = missing_names(task)
    held = missing & set(words("\n".join(found.texts)))
    return Outcome(commit=task.commit, names=len(held) / len(missing), ms=found.ms)


def table(name: str, peers: Mapping[str, Peer], outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, Any]]:
    print(f"\n{name}\n{'':28} {'recall':>7} {'names':>6} {'build s':>8} {'MB':>6} {'p50 ms':>7} {'p95 ms':>7}", end="")
    print("   recall, names, ms against ours")
    return {label: _row(label, peer, outcomes[label], outcomes["ours"]) for label, peer in peers.items()}


def _row(label: str, peer: Peer, rows: Sequence[Outcome], ours: Sequence[Outcome]) -> dict[str, Any]:
    """Shares in per cent."""
    times = sorted(row.ms for row in rows)
    row: dict[str, Any] = {
        "recall": 100 * sum(row.names > 0 for row in rows) / len(rows),
        "names": 100 * sum(row.names for row in rows) / len(rows),
        "build_s": peer.build_s,
        "index_mb": None if peer.num_bytes is None else peer.num_bytes / 1e6,
        "p50_ms": times[len(times) // 2],
        "p95_ms": times[int(len(times) * 0.95)],
    }
    pairs, commits = list(zip(rows, ours, strict=True)), [row.commit for row in rows]
    changes = {
        "recall": mean([100.0 * ((a.names > 0) - (b.names > 0)) for a, b in pairs], commits),
        "names": mean([100.0 * (a.names - b.names) for a, b in pairs], commits),
        "ms": mean([a.ms - b.ms for a, b in pairs], commits),
    }
    _print_row(label, row, [] if rows is ours else list(changes.values()))
    return {k: None if v is None else round(v, 3) for k, v in row.items()} | {
        "difference": {key: estimate.as_json() for key, estimate in changes.items()}
    }


def _print_row(label: str, row: Mapping[str, Any], changes: Sequence[Estimate]) -> None:
    build, size = (f"{row[key]:.2f}" if row[key] is not None else "-" for key in ("build_s", "index_mb"))
    shown = f"{row['recall']:7.1f} {row['names']:6.1f} {build:>8} {size:>6} {row['p50_ms']:7.2f} {row['p95_ms']:7.2f}"
    against = "  ".join(f"{e.value:+.1f} [{e.low:+.1f}, {e.high:+.1f}]" for e in changes)
    print(f"{label:28} {shown}   {against}")


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()

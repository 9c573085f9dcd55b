"""Which retrieval arms bring what a completion needs? Compared on lines that developers really wrote.

    python benchmarks/retrieval.py REPO [REPO ...] [--tasks 400] [--model]

For each held-out line: which names does it need that the text around the cursor doesn't have, and does what an arm
finds have them? Recall: one of the first five has one of them, of the lines that need any; names: the share of them
that the first five have together, and that the snippets the server would show have. The index is frozen at the corpus's
cut, so nothing of the answer is in it. All with 95 % intervals, resampled by commit; milliseconds are the
processor time of the arm alone, on its one thread. The arms:

- `bm25`: usages, by words and the order of the last tokens
- `definitions`: of the names in reach, through the file's imports
- `symbols`: of the same names by name alone, wherever they are defined
- `vectors`: chunks by the built-in embedder alone, from an index of its own
- `bm25+vectors`: usages with that embedder switched on
- `shipped`: what the server asks: three usages, then definitions, which make up the five
- `random`: what `shipped` found for some other line of another commit, so what any code of the repository is worth

With `--model` also what the snippets are worth to the base model in the server's engine, as `homespun train` judges it:
exact matches, edit similarity, and bits per byte of what was written (less is better), each against no snippets. Then
the same by the score of the best snippet, in five groups of equally many lines: would it pay to show snippets only when
the search is sure? The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `homespun train` does

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, SearchQuery, SilentProgress, Snippet, Tokenizer
from homespun_indexer import search
from homespun_indexer.corpus import CorpusReader, build_corpus
from homespun_indexer.embedders import BUILTIN
from homespun_indexer.indexing import index_repository
from homespun_indexer.lexical import words
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reach import names_in_reach
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.search import DEFINITION, USAGE
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.evaluate import Arm, Bench, Score, judge, query_of
from homespun_trainer.intervals import Estimate, change, mean
from homespun_trainer.intervals import Share as Ratio
from homespun_trainer.summaries import Summary, difference, summarise

TOP = 5
SEEN_CHARS = 3_000, 1_000
"""What the prompt shows of the file itself, about; names in it need no snippet."""
SNIPPET_TOKENS = 260
NONE, RANDOM, BM25, SHIPPED = "none", "random", "bm25", "shipped"
GROUPS = 5

Find = Callable[[SearchQuery, int], Sequence[Snippet]]
"""(query, usages at most) -> snippets, best first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Held-out lines, and the index as of the corpus's cut."""

    name: str
    repo: Repository
    settings: Settings
    tasks: Sequence[EvalTask]
    reader: IndexReader
    tokenizer: Tokenizer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an arm finds for a line."""

    first: Sequence[Snippet]
    """TOP at most."""
    shown: Sequence[Snippet]
    """What the server would show."""
    ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--model", action="store_true", help="measure what the snippets are worth to the base model")
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmark-data"), help="where corpus and indexes are kept"
    )
    args = parser.parse_args()
    settings = Settings(data_dir=str(args.data.absolute()), eval_tasks=args.tasks)
    results = {}
    for source in args.repositories:
        with opened(source, settings) as frozen, opened(source, with_vectors(settings)) as dense:
            found = {arm: everywhere(frozen, find) for arm, find in arms_of(frozen, dense.reader).items()}
            found[RANDOM] = others(frozen.tasks, found[SHIPPED])
            results[frozen.name] = {"found": found_table(frozen, found)}
            if args.model:
                results[frozen.name] |= measure_with_model(frozen, found)
    print(json.dumps({"benchmark": "retrieval", "model": args.model, "results": results}))


def with_vectors(settings: Settings) -> Settings:
    return dataclasses.replace(settings, embedder=BUILTIN)


@contextmanager
def opened(source: str, settings: Settings) -> Iterator[Frozen]:
    data, progress = DataDir(settings.data_root), SilentProgress()
    model = resolve_base_model(settings.base_model, settings.fim_family)
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
    tasks = corpus.tasks()
    name = f"{'/'.join(Path(source).absolute().parts[-2:])} ({corpus.report['split']}, {len(tasks)} tasks)"
    with IndexReader.open(path, tokenizer) as reader:
        yield Frozen(name=name, repo=repo, settings=settings, tasks=tasks, reader=reader, tokenizer=tokenizer)


def arms_of(frozen: Frozen, dense: IndexReader) -> dict[str, Find]:
    """The index of `frozen` has no vectors, `dense` has."""
    reader, num_usages = frozen.reader, frozen.settings.snippet_count
    return {
        BM25: lambda query, limit: reader.search(query, limit, arms=(USAGE,)),
        "definitions": lambda query, limit: reader.search(query, limit, arms=(DEFINITION,)),
        "symbols": lambda query, limit: by_name(reader, query),
        "vectors": lambda query, limit: by_vector(dense, query, limit),
        "bm25+vectors": lambda query, limit: dense.search(query, limit, arms=(USAGE,)),
        SHIPPED: lambda query, _: reader.search(query, num_usages),
    }


def by_name(reader: IndexReader, query: SearchQuery) -> list[Snippet]:
    """A definition for each of the names in reach, whatever the imports say; the first by path."""
    own = reader._own_files(query.path)
    found = []
    for reach in names_in_reach(query.prefix, query.suffix, query.language or ""):
        places = [d for d in reader._definitions(reach.name, None, None) if (d.part, d.file) not in own]
        for place in places[:1]:
            symbol = reader._parts[place.part].segment.symbol(place.file, place.number)
            found.append(
                Snippet(path=place.path, start_line=symbol.line, text=symbol.signature, score=0.0, source=DEFINITION)
            )
    return list(dict.fromkeys(found))[: search.MAX_DEFINITIONS]


def by_vector(reader: IndexReader, query: SearchQuery, limit: int) -> list[Snippet]:
    usages, near, own = reader._usages, search.window(query), reader._own_files(query.path)
    assert usages._embedder is not None
    ranked = usages._by_vector(usages._embedder, near, own)
    return usages._chosen(ranked, near, search.term_weights(near), limit, own)


def everywhere(frozen: Frozen, find: Find) -> list[Found]:
    return [found_at(task, find, frozen.settings.snippet_count) for task in frozen.tasks]


def found_at(task: EvalTask, find: Find, num_shown: int) -> Found:
    query = query_of(task)
    started = time.thread_time()
    shown = find(query, num_shown)
    ms = (time.thread_time() - started) * 1_000
    return Found(first=find(query, TOP)[:TOP], shown=shown, ms=ms)


def others(tasks: Sequence[EvalTask], found: Sequence[Found]) -> list[Found]:
    """For each line what was found for one drawn from those of other commits, but nothing of its own file."""
    rng = random.Random(0)
    drawn = []
    for task in tasks:
        elsewhere = [
            number for number, other in enumerate(tasks) if other.commit != task.commit and found[number].shown
        ]
        other = found[rng.choice(elsewhere)] if elsewhere else Found(first=(), shown=(), ms=0.0)
        first, shown = ([s for s in snippets if s.path != task.path] for snippets in (other.first, other.shown))
        drawn.append(Found(first=first, shown=shown, ms=0.0))
    return drawn


def found_table(frozen: Frozen, found: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    missing = [missing_names(task) for task in frozen.tasks]
    asked = [number for number, names in enumerate(missing) if names]
    commits = [frozen.tasks[number].commit for number in asked]

    def shares(texts_of: Callable[[Found], Iterable[str]], of_arm: Sequence[Found]) -> list[float]:
        have = [set(words("\n".join(texts_of(of_arm[number])))) for number in asked]
        return [len(missing[i] & names) / len(missing[i]) for i, names in zip(asked, have, strict=True)]

    print(f"\n{frozen.name}, {len(asked)} lines need a name, {frozen.reader.num_chunks:,} chunks\n{_FOUND_HEADS}")
    rows: dict[str, Any] = {}
    bests = {arm: shares(lambda f: (s.text for s in f.first), of_arm) for arm, of_arm in found.items()}
    for arm, of_arm in found.items():
        best = bests[arm]
        shown = shares(lambda f: (cut(s, frozen.tokenizer) for s in f.shown), of_arm)
        hit, hit_bm25 = ([float(share > 0) for share in bests[name]] for name in (arm, BM25))
        row = {
            "recall": mean(hit, commits),
            "against_bm25": change(_whole(hit), _whole(hit_bm25), commits),
            "names": mean(best, commits),
            "names_shown": mean(shown, commits),
        }
        p50 = statistics.median(one.ms for one in of_arm)
        tokens = statistics.mean(
            sum(len(frozen.tokenizer.encode(cut(s, frozen.tokenizer))) for s in f.shown) for f in of_arm
        )
        cells = " ".join(f"{_cell(e, 100, 1, '+' if key == 'against_bm25' else ''):>22}" for key, e in row.items())
        print(f"{arm:14} {cells} {tokens:7.0f} {p50:7.2f}")
        rows[arm] = {key: e.as_json() for key, e in row.items()} | {"tokens": round(tokens), "p50_ms": round(p50, 3)}
    return rows


_FOUND_HEADS = (
    f"{'':14} "
    + " ".join(f"{head:>22}" for head in ("recall@5 %", "against bm25", "names in five %", "names shown %"))
    + f" {'tokens':>7} {'p50 ms':>7}"
)


def _whole(values: Sequence[float]) -> Ratio:
    return Ratio(tops=values, bottoms=[1.0] * len(values))


def missing_names(task: EvalTask) -> set[str]:
    near = task.prefix[-SEEN_CHARS[0] :] + "\n" + task.suffix[: SEEN_CHARS[1]]
    return set(words(task.middle)) - set(words(near))


def cut(snippet: Snippet, tokenizer: Tokenizer) -> str:
    """As many lines from the top as a prompt takes."""
    lines = snippet.text.split("\n")
    while len(lines) > 1 and len(tokenizer.encode("\n".join(lines))) > SNIPPET_TOKENS:
        lines = lines[: max(1, len(lines) * 3 // 4)]
    return "\n".join(lines)


def measure_with_model(frozen: Frozen, found: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    from homespun_trainer.cli.judging import opened_engine  # torch, for this alone
    from homespun_trainer.cli.preparing import prepared
    from homespun_trainer.judging import bench_of

    settings = frozen.settings
    files = resolve_base_model(settings.base_model, settings.fim_family)
    snippets: dict[str, list[Sequence[Snippet]]] = {NONE: [()] * len(frozen.tasks)}
    snippets |= {arm: [one.shown for one in of_arm] for arm, of_arm in found.items()}
    with (
        prepared([frozen.repo], files, settings, DataDir(settings.data_root), SilentProgress()) as job,
        opened_engine(files, settings) as engine,
    ):
        scores = scored(frozen.tasks, snippets, bench_of(job, job.parts[0], engine))
    best = [max((s.score for s in shown), default=0.0) for shown in snippets[SHIPPED]]
    return {"arms": model_table(frozen, scores), "by_score": gate_table(frozen.tasks, best, scores)}


def scored(
    tasks: Sequence[EvalTask], snippets: Mapping[str, Sequence[Sequence[Snippet]]], bench: Bench
) -> dict[str, list[Score]]:
    """Task by task, so that all arms run under the same conditions; equal snippets are judged once."""
    scores: dict[str, list[Score]] = {arm: [] for arm in snippets}
    for number, task in enumerate(tasks):
        known: dict[tuple[str, ...], Score] = {}
        for name, of_tasks in snippets.items():
            shown = tuple(of_tasks[number])
            texts = tuple(f"{s.path}\n{s.text}" for s in shown)
            if texts not in known:
                known[texts] = judge(task, Arm(name=name, adapter=None, snippets="found"), bench, shown)
            scores[name].append(known[texts])
    return scores


def model_table(frozen: Frozen, scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    print(f"\n{frozen.name}\n{'':22} {HEADS}   against none:")
    rows = {}
    for arm, of_arm in scores.items():
        own, change = summarise(frozen.tasks, of_arm), difference(frozen.tasks, of_arm, scores[NONE])
        print(f"{arm:22} {cells(own, '')}")
        if arm != NONE:
            print(f"{'':22} {cells(change, '+')}")
        rows[arm] = {"scores": own.as_json(), "difference": change.as_json()}
    return rows


def gate_table(
    tasks: Sequence[EvalTask], best: Sequence[float], scores: Mapping[str, Sequence[Score]]
) -> list[dict[str, Any]]:
    """`shipped` against `none`, by the score of the best snippet; 0 where none was found."""
    order = sorted(range(len(tasks)), key=lambda number: best[number])
    groups = [order[len(order) * i // GROUPS : len(order) * (i + 1) // GROUPS] for i in range(GROUPS)]
    print(f"{'score of the best':22} {HEADS}   shipped against none")
    rows = []
    for group in (group for group in groups if group):
        shift = difference(tasks, scores[SHIPPED], scores[NONE], group)
        low, high = best[group[0]], best[group[-1]]
        print(f"{f'{low:.1f} .. {high:.1f}':22} {cells(shift, '+')}")
        rows.append({"low": round(low, 3), "high": round(high, 3), "difference": shift.as_json()})
    return rows


HEADS = f"{'exact %':>22} {'similarity %':>22} {'bits per byte':>25}"


def cells(summary: Summary, sign: str) -> str:
    """Under HEADS; `sign` is + for differences."""
    exact, similarity = _cell(summary.exact, 100, 1, sign), _cell(summary.similarity, 100, 1, sign)
    return f"{exact:>22} {similarity:>22} {_cell(summary.bits_per_byte, 1, 3, sign):>25}"


def _cell(estimate: Estimate, factor: float, digits: int, sign: str) -> str:
    value, low, high = (f"{factor * x:{sign}.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()

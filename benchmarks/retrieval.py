"""Which retrieval arms bring what a completion needs? Compared on lines that developers really wrote.

    python benchmarks/retrieval.py REPO [REPO ...] [--tasks 400] [--limit 3] [--model]

For each held-out line: which identifiers does it need that the text around the cursor doesn't have, and do the first
`--limit` snippets (each cut to what a prompt takes) have them? And do they have the very line? The index is frozen at
the corpus's cut, so nothing of the answer is in it. Differences to the first arm come with a 95 % interval, resampled
by commit.

With `--model` the question is what the snippets are worth to the base model in the server's engine, as `homespun train`
judges it: exact matches, edit similarity, and bits per byte of what was written (less is better). `random` is the
control: snippets that were found for some other line of another commit, so what any code of the repository is worth.
Then the same by the score of the best snippet, in five groups of equally many lines: would it pay to show snippets only
when the search is sure? The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `homespun train` does

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, SilentProgress, Snippet, Tokenizer
from homespun_indexer.corpus import CorpusReader, build_corpus
from homespun_indexer.indexing import index_repository
from homespun_indexer.lexical import words
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.search import ARMS, DEFINITION, USAGE
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.evaluate import Arm, Bench, Score, judge, query_of
from homespun_trainer.intervals import Estimate
from homespun_trainer.summaries import Summary, difference, summarise

CHOICES: dict[str, tuple[str, ...]] = {"usages": (USAGE,), "definitions": (DEFINITION,), "shipped": ARMS}
SEEN_CHARS = 3_000, 1_000
"""What the prompt shows of the file itself, about; identifiers in it need no snippet."""
SNIPPET_TOKENS = 260
NONE, RANDOM, SHIPPED = "none", "random", "shipped"
GROUPS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    commit: str
    names: float | None
    """Share of the missing identifiers found; None when none is missing."""
    line: bool
    tokens: int
    ms: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Held-out lines, and the index as of the corpus's cut."""

    name: str
    repo: Repository
    settings: Settings
    tasks: Sequence[EvalTask]
    reader: IndexReader
    tokenizer: Tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--limit", type=int, default=3, help="snippets a query may return")
    parser.add_argument("--model", action="store_true", help="measure what the snippets are worth to the base model")
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmark-data"), help="where corpus and index are kept"
    )
    args = parser.parse_args()
    settings = Settings(data_dir=str(args.data.absolute()), eval_tasks=args.tasks)
    results = {}
    for source in args.repositories:
        with opened(source, settings) as frozen:
            measure = measure_with_model if args.model else measure_alone
            results[frozen.name] = measure(frozen, args.limit)
    print(json.dumps({"benchmark": "retrieval", "limit": args.limit, "model": args.model, "results": results}))


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


def measure_alone(frozen: Frozen, limit: int) -> dict[str, Any]:
    arms = {
        name: [outcome(frozen.reader, frozen.tokenizer, task, chosen, limit) for task in frozen.tasks]
        for name, chosen in CHOICES.items()
    }
    return table(frozen.name, arms)


def measure_with_model(frozen: Frozen, limit: int) -> dict[str, Any]:
    from homespun_trainer.cli import opened_engine, prepared  # torch, for this alone
    from homespun_trainer.judging import bench_of

    settings, snippets = frozen.settings, snippets_of(frozen, limit)
    files = resolve_base_model(settings.base_model, settings.fim_family)
    with (
        prepared([frozen.repo], files, settings, DataDir(settings.data_root), SilentProgress()) as job,
        opened_engine(files, settings) as engine,
    ):
        scores = scored(frozen.tasks, snippets, bench_of(job, job.parts[0], engine))
    return {
        "arms": model_table(frozen, scores),
        "by_score": gate_table(frozen.tasks, [_best(found) for found in snippets[SHIPPED]], scores),
    }


def snippets_of(frozen: Frozen, limit: int) -> dict[str, list[Sequence[Snippet]]]:
    """By arm and task."""
    found: dict[str, list[Sequence[Snippet]]] = {
        arm: [frozen.reader.search(query_of(task), limit, arms=chosen) for task in frozen.tasks]
        for arm, chosen in CHOICES.items()
    }
    return {NONE: [()] * len(frozen.tasks), RANDOM: others(frozen.tasks, found[SHIPPED]), **found}


def others(tasks: Sequence[EvalTask], found: Sequence[Sequence[Snippet]]) -> list[Sequence[Snippet]]:
    """For each task what was found for one drawn from those of other commits, but nothing of its own file."""
    rng = random.Random(0)
    drawn: list[Sequence[Snippet]] = []
    for task in tasks:
        elsewhere = [number for number, other in enumerate(tasks) if other.commit != task.commit and found[number]]
        snippets = found[rng.choice(elsewhere)] if elsewhere else ()
        drawn.append([snippet for snippet in snippets if snippet.path != task.path])
    return drawn


def scored(
    tasks: Sequence[EvalTask], snippets: Mapping[str, Sequence[Sequence[Snippet]]], bench: Bench
) -> dict[str, list[Score]]:
    """Task by task, so that all arms run under the same conditions; equal snippets are judged once."""
    scores: dict[str, list[Score]] = {arm: [] for arm in snippets}
    for number, task in enumerate(tasks):
        known: dict[tuple[Snippet, ...], Score] = {}
        for name, of_tasks in snippets.items():
            shown = tuple(of_tasks[number])
            if shown not in known:
                known[shown] = judge(task, Arm(name=name, adapter=None, snippets="found"), bench, shown)
            scores[name].append(known[shown])
    return scores


def model_table(frozen: Frozen, scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    print(f"\n{frozen.name}\n{'':22} {_HEADS}   against none:")
    rows = {}
    for arm, of_arm in scores.items():
        own, change = summarise(frozen.tasks, of_arm), difference(frozen.tasks, of_arm, scores[NONE])
        print(f"{arm:22} {_estimates(own, '')}")
        if arm != NONE:
            print(f"{'':22} {_estimates(change, '+')}")
        rows[arm] = {"scores": own.as_json(), "difference": change.as_json()}
    return rows


def gate_table(
    tasks: Sequence[EvalTask], best: Sequence[float], scores: Mapping[str, Sequence[Score]]
) -> list[dict[str, Any]]:
    """`shipped` against `none`, by the score of the best snippet; 0 where none was found."""
    order = sorted(range(len(tasks)), key=lambda number: best[number])
    groups = [order[len(order) * i // GROUPS : len(order) * (i + 1) // GROUPS] for i in range(GROUPS)]
    print(f"{'score of the best':22} {_HEADS}   shipped against none")
    rows = []
    for group in (group for group in groups if group):
        shipped, none = ([scores[arm][number] for number in group] for arm in (SHIPPED, NONE))
        change = difference([tasks[number] for number in group], shipped, none)
        low, high = best[group[0]], best[group[-1]]
        print(f"{f'{low:.1f} .. {high:.1f}':22} {_estimates(change, '+')}")
        rows.append({"low": round(low, 3), "high": round(high, 3), "difference": change.as_json()})
    return rows


def _best(found: Sequence[Snippet]) -> float:
    return max((snippet.score for snippet in found), default=0.0)


_HEADS = f"{'exact %':>22} {'similarity %':>22} {'bits per byte':>25}"


def _estimates(summary: Summary, sign: str) -> str:
    def shown(estimate: Estimate, factor: float, digits: int) -> str:
        value, low, high = (f"{factor * x:{sign}.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
        return f"{value} [{low}, {high}]"

    exact, similarity = shown(summary.exact, 100, 1), shown(summary.similarity, 100, 1)
    return f"{exact:>22} {similarity:>22} {shown(summary.bits_per_byte, 1, 3):>25}"


def outcome(reader: IndexReader, tokenizer: Tokenizer, task: EvalTask, arms: tuple[str, ...], limit: int) -> Outcome:
    started = time.perf_counter()
    snippets = reader.search(query_of(task), limit, arms=arms)
    took = (time.perf_counter() - started) * 1_000
    shown = [cut(s, tokenizer) for s in snippets]
    found = set(words("\n".join(shown)))
    near = task.prefix[-SEEN_CHARS[0] :] + "\n" + task.suffix[: SEEN_CHARS[1]]
    missing = set(words(task.middle)) - set(words(near))
    line = (task.prefix.rpartition("\n")[2] + task.middle).strip()
    return Outcome(
        commit=task.commit,
        names=len(missing & found) / len(missing) if missing else None,
        line=any(line == other.strip() for text in shown for other in text.split("\n")),
        tokens=sum(len(tokenizer.encode(text)) for text in shown),
        ms=took,
    )


def cut(snippet: Snippet, tokenizer: Tokenizer) -> str:
    """As many lines from the top as a prompt takes."""
    lines = snippet.text.split("\n")
    while len(lines) > 1 and len(tokenizer.encode("\n".join(lines))) > SNIPPET_TOKENS:
        lines = lines[: max(1, len(lines) * 3 // 4)]
    return "\n".join(lines)


def table(name: str, arms: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, float]]:
    print(f"\n{name}")
    print(
        f"{'arm':22} {'names %':>8} {'line %':>7} {'tokens':>7} {'p50 ms':>7} {'p95 ms':>7}   names against the first"
    )
    base = next(iter(arms.values()))
    rows = {}
    for arm, outcomes in arms.items():
        times = sorted(o.ms for o in outcomes)
        row = {
            "names": 100 * mean(o.names for o in outcomes if o.names is not None),
            "line": 100 * mean(o.line for o in outcomes),
            "tokens": mean(o.tokens for o in outcomes),
            "p50_ms": times[len(times) // 2],
            "p95_ms": times[int(len(times) * 0.95)],
        }
        low, high = interval(base, outcomes)
        shown = f"{row['names']:8.1f} {row['line']:7.1f} {row['tokens']:7.0f} {row['p50_ms']:7.1f} {row['p95_ms']:7.1f}"
        print(f"{arm:22} {shown}   {low:+.1f} .. {high:+.1f}")
        rows[arm] = {key: round(value, 2) for key, value in row.items()} | {
            "low": round(low, 2),
            "high": round(high, 2),
        }
    return rows


def interval(base: Sequence[Outcome], arm: Sequence[Outcome], rounds: int = 1_000) -> tuple[float, float]:
    """95 % interval of the difference in `names`, in points, drawing whole commits with replacement."""
    clusters: dict[str, list[float]] = {}
    for a, b in zip(base, arm, strict=True):
        if a.names is not None and b.names is not None:
            clusters.setdefault(a.commit, []).append(100 * (b.names - a.names))
    groups, rng = list(clusters.values()), random.Random(0)
    means = sorted(mean(x for g in rng.choices(groups, k=len(groups)) for x in g) for _ in range(rounds))
    return means[int(rounds * 0.025)], means[int(rounds * 0.975)]


def mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / max(1, len(held))


if __name__ == "__main__":
    main()

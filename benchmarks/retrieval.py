"""Which retrieval arms bring what a completion needs? Compared without a model, on lines that developers really wrote.

    python benchmarks/retrieval.py REPO [REPO ...] [--tasks 400] [--limit 3]

For each held-out line: which identifiers does it need that the text around the cursor doesn't have, and do the first
`--limit` snippets (each cut to what a prompt takes) have them? And do they have the very line? The index is frozen at
the corpus's cut, so nothing of the answer is in it. Differences to the first arm come with a 95 % interval, resampled
by commit. The last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, SearchQuery, SilentProgress, Snippet, Tokenizer
from homespun_indexer.corpus import CorpusReader, build_corpus
from homespun_indexer.indexing import index_repository
from homespun_indexer.lexical import words
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import open_repository
from homespun_indexer.search import ARMS, DEFINITION, USAGE
from homespun_indexer.tokenizer import load_tokenizer

CHOICES: dict[str, tuple[str, ...]] = {"usages": (USAGE,), "definitions": (DEFINITION,), "shipped": ARMS}
SEEN_CHARS = 3_000, 1_000
"""What the prompt shows of the file itself, about; identifiers in it need no snippet."""
SNIPPET_TOKENS = 260


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    commit: str
    names: float | None
    """Share of the missing identifiers found; None when none is missing."""
    line: bool
    tokens: int
    ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--limit", type=int, default=3, help="snippets a query may return")
    parser.add_argument(
        "--data", type=Path, default=Path("build/benchmark-data"), help="where corpus and index are kept"
    )
    args = parser.parse_args()
    results = {}
    for source in args.repositories:
        name, outcomes = measure(source, args.data, args.tasks, args.limit)
        results[name] = table(name, outcomes)
    print(json.dumps({"benchmark": "retrieval", "limit": args.limit, "results": results}))


def measure(source: str, root: Path, num_tasks: int, limit: int) -> tuple[str, dict[str, list[Outcome]]]:
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
    tasks = corpus.tasks()
    with IndexReader.open(path, tokenizer) as reader:
        arms = {name: [outcome(reader, tokenizer, t, chosen, limit) for t in tasks] for name, chosen in CHOICES.items()}
    return f"{'/'.join(Path(source).absolute().parts[-2:])} ({corpus.report['split']}, {len(tasks)} tasks)", arms


def outcome(reader: IndexReader, tokenizer: Tokenizer, task: EvalTask, arms: tuple[str, ...], limit: int) -> Outcome:
    query = SearchQuery(prefix=task.prefix, suffix=task.suffix, path=task.path, language=task.language)
    started = time.perf_counter()
    snippets = reader.search(query, limit, arms=arms)
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

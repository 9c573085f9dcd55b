"""Would it pay to mix what stands in the repository into what the model expects? Tried on lines that people wrote.

    python benchmarks/mixing.py REPO [REPO ...] [--tasks 400] [--base-model NAME]

At each token p = (1 - l) p_model + l p_datastore. The datastore is asked for the longest match of what comes before:
p_datastore is how often each token follows there, and l = share * L / (L + c), where L tokens match and `share` of
their places agree on one token. The index is frozen at the corpus's cut. The c that makes the lines of one half of the
commits likeliest is marked; everything is reported on the other half, against the model alone, with 95 % intervals by
commit: exact lines, in points, also of those whose text stood in the repository before (`seen`) and of the others; edit
similarity; bits per byte. The old version of a file under the developer's hands counts as repository here.

For deciding whether to build it for another base model: with the built-in one it didn't pay (benchmarks/LOG.md). Lines
are written greedily; a token that the model gives less than its 20 likeliest is taken to have no probability of it.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from retrieval import HEADS, Frozen, cells, opened

from homespun_core import postprocess, scoring
from homespun_core.config import Settings
from homespun_core.fim import newline_ids, resolve_family
from homespun_core.prompt import Prompt, PromptBuilder, PromptLimits, heals
from homespun_core.types import EvalTask, ModelFiles
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_server.engine.protocol import EngineRequest
from homespun_server.engine.spelling import Vocabulary
from homespun_server.engine.torch_engine import TorchEngine
from homespun_trainer.evaluate import MAX_NEW_TOKENS, Score, query_of
from homespun_trainer.summaries import difference, summarise

_CS = (5.0, 20.0, 80.0, 320.0)
_ALTERNATIVES = 20

Weight = Callable[[float, int], float]
"""(share, length of the match) -> l."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the datastore says after a context."""

    length: int
    shares: Mapping[int, float]
    """By token, likeliest first."""

    def weight(self, weight: Weight) -> float:
        return weight(next(iter(self.shares.values()), 0.0), self.length)


@dataclass(frozen=True, slots=True)
class Model:
    engine: TorchEngine
    builder: PromptBuilder
    vocabulary: Vocabulary
    ends: frozenset[int]
    """Of a middle, and of its first line."""

    def likeliest(self, ids: Sequence[int], opening: bytes) -> dict[int, float]:
        constraint = self.vocabulary.beginning(opening) if opening else None
        request = EngineRequest(ids=ids, max_new_tokens=1, constraint=constraint, num_alternatives=_ALTERNATIVES)
        tokens = self.engine.generate(request).tokens
        if not tokens:
            return {}
        first = tokens[0]
        return dict([(first.id, math.exp(first.logprob)), *((i, math.exp(p)) for i, p in first.alternatives)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A task, and for each token of what was written there the model's probability and what the datastore says."""

    task: EvalTask
    prompt: Prompt
    tokens: Sequence[tuple[int, float, Found]]

    def bits(self, weight: Weight) -> float:
        return -sum(math.log2(_mixed(p, found, found.weight(weight), token)) for token, p, found in self.tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repositories", nargs="+", metavar="REPO")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--base-model", default="builtin")
    parser.add_argument("--data", type=Path, default=Path("build/benchmark-data"))
    args = parser.parse_args()
    settings = Settings(data_dir=str(args.data.absolute()), eval_tasks=args.tasks, base_model=args.base_model)
    results = {}
    for source in args.repositories:
        with opened(source, settings) as frozen:
            results[frozen.name] = measured(frozen)
    print(json.dumps({"benchmark": "mixing", "base_model": args.base_model, "results": results}))


def measured(frozen: Frozen) -> dict[str, Any]:
    files = resolve_base_model(frozen.settings.base_model, frozen.settings.fim_family)
    with closing(TorchEngine(Path(files.path))) as engine:
        model = model_of(frozen, files, engine)
        judged = list(judged_tasks(frozen, model))
        fitting = [one for one in judged if crc32(one.task.commit.encode()) % 2]
        reported = [one for one in judged if not crc32(one.task.commit.encode()) % 2]
        likeliest = min(_CS, key=lambda c: sum(one.bits(_weight(c)) for one in fitting))
        alone = [_score(one, frozen.reader, model, lambda share, length: 0.0) for one in reported]
        return table(frozen, model, reported, alone, likeliest)


def model_of(frozen: Frozen, files: ModelFiles, engine: TorchEngine) -> Model:
    tokenizer = frozen.tokenizer
    format = resolve_family(tokenizer, files.config, name=files.name, forced=files.family)
    room = min(frozen.settings.max_prompt_tokens, engine.max_context - 2 * MAX_NEW_TOKENS)
    is_healing = heals(frozen.settings.token_healing, format.family, tokenizer, can_constrain=engine.can_constrain)
    limits = PromptLimits(max_tokens=room)
    builder = PromptBuilder(tokenizer=tokenizer, format=format, limits=limits, is_healing=is_healing)
    ends = frozenset(format.end_ids) | newline_ids(tokenizer, len(tokenizer.spelled))
    return Model(engine, builder, Vocabulary(tokenizer.spelled), ends)


def judged_tasks(frozen: Frozen, model: Model) -> Iterator[Judged]:
    name = frozen.repo.identity.rpartition("/")[2]
    for task in frozen.tasks:
        snippets = frozen.reader.search(query_of(task), frozen.settings.snippet_count)
        prompt = model.builder.build(
            prefix=task.prefix,
            suffix=task.suffix,
            path=task.path,
            language=task.language,
            repo=name,
            snippets=snippets,
        )
        written = frozen.tokenizer.encode(prompt.opening + task.middle)
        ids = [*prompt.ids, *written]
        logprobs = model.engine.score(ids, len(prompt.ids))
        found = [_found(frozen.reader, ids[:at]) for at in range(len(prompt.ids), len(ids))]
        probabilities = (math.exp(logprob) for logprob in logprobs)
        yield Judged(task=task, prompt=prompt, tokens=list(zip(written, probabilities, found, strict=True)))


def table(
    frozen: Frozen, model: Model, reported: Sequence[Judged], alone: Sequence[Score], likeliest: float
) -> dict[str, Any]:
    tasks = [one.task for one in reported]
    own = summarise(tasks, alone)
    print(f"\n{frozen.name}, {len(tasks)} reported\n{'':14} {HEADS} {'seen':>8} {'novel':>8} {'ms a token':>12}")
    print(f"{'model alone':14} {cells(own, '')}")
    rows: dict[str, Any] = {"alone": own.as_json()}
    for c in _CS:
        scores = [_score(one, frozen.reader, model, _weight(c)) for one in reported]
        change = difference(tasks, scores, alone)
        of_seen, of_novel = (_gained(tasks, scores, alone, seen) for seen in (True, False))
        name = f"c = {c:g}{' *' if c == likeliest else ''}"
        print(f"{name:14} {cells(change, '+')} {of_seen:+8.1f} {of_novel:+8.1f} {_lookup_ms(frozen, reported):12.2f}")
        rows[name] = change.as_json() | {"seen": of_seen, "novel": of_novel}
    return rows


def _score(one: Judged, reader: IndexReader, model: Model, weight: Weight) -> Score:
    task, prompt = one.task, one.prompt
    started = time.perf_counter()
    text = postprocess.finish(
        task.prefix, _written(prompt, reader, model, weight), task.suffix, multi_line=False, language=task.language
    )
    return Score(
        exact=scoring.exact_match(text, task.middle),
        similarity=scoring.edit_similarity(text, task.middle),
        identifiers=scoring.identifier_f1(text, task.middle),
        ending=scoring.ending(text, task.middle),
        bits=one.bits(weight),
        end_bits=0.0,
        num_bytes=len((prompt.opening + task.middle).encode()),
        milliseconds=(time.perf_counter() - started) * 1e3,
        text=text,
    )


def _written(prompt: Prompt, reader: IndexReader, model: Model, weight: Weight) -> str:
    """Greedily, the opening left out."""
    ids, rest = [*prompt.ids], prompt.opening.encode()
    while len(ids) < len(prompt.ids) + MAX_NEW_TOKENS:
        likeliest, found = model.likeliest(ids, rest), _found(reader, ids)
        spelled = model.vocabulary.spelled
        follows = {t for t in found.shares if not rest or _goes_on(spelled[t], rest)}
        part = found.weight(weight)
        # What the datastore alone knows counts where it can win: ties go to the model.
        candidates = [*likeliest, *(t for t in follows if t not in likeliest)]
        if not candidates:
            break
        token = max(candidates, key=lambda t: (1 - part) * likeliest.get(t, 0.0) + part * _share(found, t, follows))
        if not rest and token in model.ends:
            break
        ids.append(token)
        rest = rest[len(spelled[token] or rest) :]
    text = model.builder.tokenizer.decode(ids[len(prompt.ids) :])
    return text.removeprefix(prompt.opening)


def _share(found: Found, token: int, follows: set[int]) -> float:
    return found.shares[token] if token in follows else 0.0


def _goes_on(spelled: bytes | None, rest: bytes) -> bool:
    return spelled is not None and (spelled.startswith(rest) or rest.startswith(spelled))


def _found(reader: IndexReader, ids: Sequence[int]) -> Found:
    length, counts = reader.continuations(ids)
    total = sum(counts.values())
    return Found(length, {token: count / total for token, count in counts.items()})


def _mixed(probability: float, found: Found, part: float, token: int) -> float:
    return max(1e-12, (1 - part) * probability + part * found.shares.get(token, 0.0))


def _weight(c: float) -> Weight:
    return lambda share, length: share * length / (length + c)


def _gained(tasks: Sequence[EvalTask], scores: Sequence[Score], alone: Sequence[Score], seen: bool) -> float:
    """Exact lines, in points."""
    pairs = [(a.exact, b.exact) for t, a, b in zip(tasks, scores, alone, strict=True) if t.seen is seen]
    return 100 * sum(int(a) - int(b) for a, b in pairs) / max(1, len(pairs))


def _lookup_ms(frozen: Frozen, judged: Sequence[Judged]) -> float:
    started, contexts = time.perf_counter(), [one.prompt.ids for one in judged]
    for ids in contexts:
        _found(frozen.reader, ids)
    return (time.perf_counter() - started) * 1e3 / max(1, len(contexts))


if __name__ == "__main__":
    main()

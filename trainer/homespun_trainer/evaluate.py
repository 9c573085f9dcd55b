"""Arms on the held-out places: with and without each layer, made and cut the way the server does it.

Every arm sees the same places, greedy. The arms without retrieval only say where a gain comes from; the decision
doesn't need them, so they see every second place, which saves a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from homespun_core import postprocess, scoring
from homespun_core.prompt import Prompt, PromptBuilder
from homespun_core.types import EvalTask, Progress, SearchQuery, Snippet, Tokenizer
from homespun_trainer.examples import Retrieve
from homespun_trainer.intervals import Estimate, mean, ratio

MAX_NEW_TOKENS = 32
"""A held-out middle is the rest of one line, at most 30 words and signs."""
_BARE_EVERY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    name: str
    adapter: str | None
    """Version the engine knows it by; None is the base model."""
    retrieval: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    ids: Sequence[int]
    """With those that spell the prompt's opening."""
    is_truncated: bool
    """Whether the limit ended it, and not the model."""


Generate = Callable[[Prompt, int, frozenset[int], str | None], Written]
"""(prompt, max_new_tokens, end_ids, adapter) -> greedy completion, without the end."""
ScoreIds = Callable[[Sequence[int], int, str | None], Sequence[float]]
"""(ids, start, adapter) -> natural log-probability of each of ids[start:]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One arm at one place."""

    exact: bool
    similarity: float
    bits: float
    """Of what was written and the end behind it, under the model: less is better."""
    end_bits: float
    """Of the end alone. Knowing where to stop is worth much, but any code teaches it, not just this repository's."""
    num_bytes: int
    """Of what was scored: the middle, and before it the word that the prompt leaves to the completion."""
    text: str


Scores = Mapping[str, Sequence[Score | None]]
"""Arm -> score at every task; None where the arm wasn't asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What completions are made with."""

    builder: PromptBuilder
    repo: str
    retrieve: Retrieve
    generate: Generate
    score: ScoreIds
    end_ids: frozenset[int]
    """Ends of a middle, and tokens that start a new line: only the first line is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One arm, or the difference of two, over some tasks."""

    num_tasks: int
    num_commits: int
    exact: Estimate
    similarity: Estimate
    bits_per_byte: Estimate
    text_bits_per_byte: Estimate
    """Without the end."""

    def as_json(self) -> dict[str, object]:
        return {
            "tasks": self.num_tasks,
            "commits": self.num_commits,
            "exact_match": self.exact.as_json(),
            "edit_similarity": self.similarity.as_json(),
            "bits_per_byte": self.bits_per_byte.as_json(),
            "text_bits_per_byte": self.text_bits_per_byte.as_json(),
        }


def newline_ids(tokenizer: Tokenizer, vocab_size: int) -> frozenset[int]:
    """Tokens that start a new line. Those with code in front of the break aren't among them: the code counts."""
    return frozenset(i for i in range(vocab_size) if tokenizer.decode([i]).lstrip(" \t\r").startswith("\n"))


def evaluate(tasks: Sequence[EvalTask], arms: Sequence[Arm], bench: Bench, progress: Progress) -> Scores:
    """Every arm at its places, task by task, so that all arms of a task run under the same conditions."""
    progress.start("judging it on held-out places", total=len(tasks), unit="places")
    scores: dict[str, list[Score | None]] = {arm.name: [] for arm in arms}
    for number, task in enumerate(tasks):
        snippets = bench.retrieve(query_of(task)) if any(arm.retrieval for arm in arms) else ()
        for arm in arms:
            asked = arm.retrieval or number % _BARE_EVERY == 0
            score = judge(task, arm, bench, snippets if arm.retrieval else ()) if asked else None
            scores[arm.name].append(score)
        progress.advance(number + 1)
    progress.finish()
    return scores


def query_of(task: EvalTask) -> SearchQuery:
    return SearchQuery(prefix=task.prefix, suffix=task.suffix, path=task.path, language=task.language)


def judge(task: EvalTask, arm: Arm, bench: Bench, snippets: Sequence[Snippet]) -> Score:
    prompt = bench.builder.build(
        prefix=task.prefix,
        suffix=task.suffix,
        path=task.path,
        language=task.language,
        repo=bench.repo,
        snippets=snippets,
    )
    whole = prompt.opening + task.middle
    # The score first: the engine keeps what it computed of the prompt, and generating then costs its own tokens only.
    gold = [*bench.builder.tokenizer.encode(whole), bench.builder.format.end_id]
    logprobs = bench.score([*prompt.ids, *gold], len(prompt.ids), arm.adapter)
    written = bench.generate(prompt, MAX_NEW_TOKENS, bench.end_ids, arm.adapter)
    text = postprocess.finish(
        task.prefix,
        bench.builder.tokenizer.decode(written.ids).removeprefix(prompt.opening),
        task.suffix,
        multi_line=False,
        truncated=written.is_truncated,
    )
    return Score(
        exact=scoring.exact_match(text, task.middle),
        similarity=scoring.edit_similarity(text, task.middle),
        bits=-sum(logprobs) / math.log(2),
        end_bits=-logprobs[-1] / math.log(2),
        num_bytes=len(whole.encode()),
        text=text,
    )


def summarise(tasks: Sequence[EvalTask], scores: Sequence[Score | None], which: Iterable[int] | None = None) -> Summary:
    """One arm over the tasks `which` (all without it). Raises ValueError when it was asked at none of them."""
    rows = [(tasks[i], s) for i in (range(len(tasks)) if which is None else which) if (s := scores[i]) is not None]
    return _summary(rows)


def difference(tasks: Sequence[EvalTask], a: Sequence[Score | None], b: Sequence[Score | None]) -> Summary:
    """a minus b, paired by task, where both were asked."""
    rows = [(task, _minus(x, y)) for task, x, y in zip(tasks, a, b, strict=True) if x is not None and y is not None]
    return _summary(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delta:
    exact: float
    similarity: float
    bits: float
    end_bits: float
    num_bytes: int


def _minus(x: Score, y: Score) -> _Delta:
    return _Delta(
        exact=x.exact - y.exact,
        similarity=x.similarity - y.similarity,
        bits=x.bits - y.bits,
        end_bits=x.end_bits - y.end_bits,
        num_bytes=x.num_bytes,
    )


def _summary(rows: Sequence[tuple[EvalTask, Score | _Delta]]) -> Summary:
    commits = [task.commit for task, _ in rows]
    num_bytes = [float(s.num_bytes) for _, s in rows]
    return Summary(
        num_tasks=len(rows),
        num_commits=len(set(commits)),
        exact=mean([float(s.exact) for _, s in rows], commits),
        similarity=mean([s.similarity for _, s in rows], commits),
        bits_per_byte=ratio([s.bits for _, s in rows], num_bytes, commits),
        text_bits_per_byte=ratio([s.bits - s.end_bits for _, s in rows], num_bytes, commits),
    )

"""Arms on the held-out places: with and without each layer, made and cut the way the server does it, greedy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from homespun_core import postprocess, scoring
from homespun_core.prompt import Prompt, PromptBuilder
from homespun_core.types import EvalTask, Progress, SearchQuery, Snippet
from homespun_trainer.examples import Retrieve
from homespun_trainer.spans import is_left_open

MAX_NEW_TOKENS = 32
"""A held-out middle is the rest of one line, at most 30 words and signs."""

Snippets = Literal["none", "found", "random"]
"""`random`: those of another place of the same repository, as many and as long: what is left of a gain with them isn't
due to finding the right ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    name: str
    adapter: str | None
    """Version the engine knows it by; None is the base model."""
    snippets: Snippets
    mixes: bool = False
    """Whether what stands in the repository and in the file has a voice in each token, as it has for people
    (`mixing`)."""
    every: int = 1
    """Asked at each so many-th place only."""

    @property
    def key(self) -> str:
        """Equal for arms that would write the same."""
        return f"{self.adapter or 'base'} {self.snippets}{' mixed' if self.mixes else ''}"


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
RetrieveAt = Callable[[EvalTask], Retrieve]
"""The search at a place. Called before anything is timed: it may open an index."""
Lookup = Callable[[Sequence[int]], tuple[int, Mapping[int, int]]]
"""ids -> length of the longest end of these that stands elsewhere, and how often each id follows it there."""
LookupBesides = Callable[[EvalTask], Lookup]
"""In other files than the place's own. Called before anything is timed, too."""
Mixing = Callable[[EvalTask, str], tuple[Generate, ScoreIds]]
"""(task, opening of its prompt) -> the same with the voices of the file around the cursor and of all other files of the
repository: its own version of then may have the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One arm at one place."""

    exact: bool
    similarity: float
    identifiers: float
    """F1 of the names in it."""
    ending: scoring.Ending | None
    bits: float
    """Of what was written and the end behind it, under the model: less is better."""
    end_bits: float
    """Of the end alone. Knowing where to stop is worth much, but any code teaches it, not just this repository's."""
    num_bytes: int
    """Of what was scored: the middle, and before it the word that the prompt leaves to the completion."""
    milliseconds: float | None
    """Search and completion, nothing cached; None where another process measured it: on another day, beside other
    work."""
    text: str


Scores = Mapping[str, Sequence[Score | None]]
"""Arm -> score at every task; None where the arm wasn't asked."""


class Known(Protocol):
    """Scores of earlier evaluations."""

    def find(self, arm: Arm, task: EvalTask) -> Score | None: ...

    def add(self, arm: Arm, task: EvalTask, score: Score) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What completions are made with."""

    builder: PromptBuilder
    repo: str
    retrieve: RetrieveAt
    generate: Generate
    score: ScoreIds
    end_ids: frozenset[int]
    """Ends of a middle, and tokens that start a new line: only the first line is compared."""
    mixing: Mixing | None = None


def evaluate(
    tasks: Sequence[EvalTask], arms: Sequence[Arm], bench: Bench, progress: Progress, known: Known | None = None
) -> Scores:
    """Every arm at its places, task by task, so that all arms of a task run under the same conditions. What is `known`
    isn't computed again."""
    progress.start("judging on held-out places", total=len(tasks), unit="places")
    scores: dict[str, list[Score | None]] = {arm.name: [] for arm in arms}
    for number in range(len(tasks)):
        place = _Place(tasks, number, bench, known)
        for arm in arms:
            scores[arm.name].append(place.score(arm) if number % arm.every == 0 else None)
        progress.advance(number + 1)
    progress.finish()
    return scores


def query_of(task: EvalTask) -> SearchQuery:
    return SearchQuery(prefix=task.prefix, suffix=task.suffix, path=task.path, language=task.language)


class _Place:
    """One place: its snippets, each kind searched for once, when an arm needs it, and its scores."""

    def __init__(self, tasks: Sequence[EvalTask], number: int, bench: Bench, known: Known | None) -> None:
        self._task, self._bench, self._known = tasks[number], bench, known
        self._sources = {"found": self._task, "random": tasks[(number + len(tasks) // 2) % len(tasks)]}
        self._snippets: dict[str, tuple[Sequence[Snippet], float]] = {"none": ((), 0.0)}
        self._scores: dict[str, Score] = {}

    def score(self, arm: Arm) -> Score:
        if arm.key not in self._scores:
            self._scores[arm.key] = self._found(arm)
        return self._scores[arm.key]

    def _found(self, arm: Arm) -> Score:
        score = self._known.find(arm, self._task) if self._known else None
        if score is None:
            score = judge(self._task, arm, self._bench, *self._take(arm.snippets))
            if self._known:
                self._known.add(arm, self._task, score)
        return score

    def _take(self, kind: Snippets) -> tuple[Sequence[Snippet], float]:
        """Snippets, and the milliseconds that finding them took."""
        if kind not in self._snippets:
            search = self._bench.retrieve(self._task)
            started = time.perf_counter()
            found = found_for(self._task, search, self._sources[kind])
            self._snippets[kind] = found, _ms_since(started)
        return self._snippets[kind]


def bench_at(task: EvalTask, opening: str, bench: Bench) -> Bench:
    """For a place, with what has a voice there."""
    if bench.mixing is None:
        return bench
    generate, score = bench.mixing(task, opening)
    return replace(bench, generate=generate, score=score)


def found_for(task: EvalTask, search: Retrieve, source: EvalTask | None = None) -> list[Snippet]:
    """What a search for the place, or for that of `source`, finds in other files than the place's own."""
    return [s for s in search(query_of(source or task)) if s.path != task.path]


def judge(task: EvalTask, arm: Arm, bench: Bench, snippets: Sequence[Snippet], search_ms: float = 0.0) -> Score:
    """What the model of an arm writes at a place."""
    prompt = build_prompt(task, bench, snippets)
    bench = bench_at(task, prompt.opening, bench) if arm.mixes else bench
    # The completion first, so that its time is that of a cold prompt; what was computed of it then serves the score.
    started = time.perf_counter()
    text = finished(task, prompt, bench.generate(prompt, MAX_NEW_TOKENS, bench.end_ids, arm.adapter), bench)
    milliseconds = search_ms + _ms_since(started)
    bits, end_bits, num_bytes = bits_of(prompt, task.middle, arm.adapter, bench)
    return Score(
        exact=scoring.exact_match(text, task.middle),
        similarity=scoring.edit_similarity(text, task.middle),
        identifiers=scoring.identifier_f1(text, task.middle),
        ending=scoring.ending(text, task.middle),
        bits=bits,
        end_bits=end_bits,
        num_bytes=num_bytes,
        milliseconds=milliseconds,
        text=text,
    )


def finished(task: EvalTask, prompt: Prompt, written: Written, bench: Bench) -> str:
    """The line as it would be shown."""
    return postprocess.finish(
        task.prefix,
        bench.builder.tokenizer.decode(written.ids).removeprefix(prompt.opening),
        task.suffix,
        multi_line=False,
        truncated=written.is_truncated,
        language=task.language,
    )


def build_prompt(task: EvalTask, bench: Bench, snippets: Sequence[Snippet]) -> Prompt:
    return bench.builder.build(
        prefix=task.prefix,
        suffix=task.suffix,
        path=task.path,
        language=task.language,
        repo=bench.repo,
        snippets=snippets,
    )


def bits_of(prompt: Prompt, middle: str, adapter: str | None, bench: Bench) -> tuple[float, float, int]:
    """Bits of `middle` and the end behind it, those of the end alone, and the bytes that were scored.

    A line that leaves a bracket open is no end: what is learned goes on to the next line there, which a completion of
    one line ends at as well.
    """
    whole = prompt.opening + middle
    end = () if is_left_open(middle) else (bench.builder.format.end_id,)
    logprobs = bench.score([*prompt.ids, *bench.builder.tokenizer.encode(whole), *end], len(prompt.ids), adapter)
    end_bits = -logprobs[-1] / math.log(2) if end else 0.0
    return -sum(logprobs) / math.log(2), end_bits, len(whole.encode())


def _ms_since(started: float) -> float:
    return 1e3 * (time.perf_counter() - started)

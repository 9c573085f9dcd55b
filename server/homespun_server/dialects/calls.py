"""What one call of any dialect is, and the steps in which it is answered: at once, or as a stream."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Self, cast, get_args

from homespun_core.config import Settings
from homespun_core.types import Completion, CompletionRequest, Part, Snippet, Timings, Trigger
from homespun_server.dialects.fields import Fields
from homespun_server.dialects.templates import Place, editor_snippet

MAX_CHOICES = 8
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What an answer is labelled with."""

    id: str
    created: float
    """Seconds since 1970."""
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How the objects of a stream are told apart."""

    media_type: str
    before: str
    after: str
    last: str = ""

    def frame(self, data: object) -> str:
        return f"{self.before}{json.dumps(data, ensure_ascii=False)}{self.after}"


EVENTS = Framing(media_type="text/event-stream", before="data: ", after="\n\n")
EVENTS_AND_DONE = replace(EVENTS, last="data: [DONE]\n\n")
LINES = Framing(media_type="application/x-ndjson", before="", after="\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(ABC):
    """Made of a body by a dialect. A stream is `begin`, any number of `part`, `end` for each choice; then `last`.
    Choices are numbered: all of the first prompt, then those of the next."""

    framing: ClassVar[Framing] = EVENTS

    request: CompletionRequest
    others: tuple[CompletionRequest, ...] = ()
    """What is asked for beside it: further prompts."""
    model: str = ""
    """As the client names it; empty when it doesn't. There is one model, so any name will do."""
    num_choices: int = 1
    """Of each prompt."""
    is_stream: bool = False

    def bounded(self, bound: Callable[[CompletionRequest], CompletionRequest]) -> Self:
        """With that done to all that is asked for."""
        return replace(self, request=bound(self.request), others=tuple(map(bound, self.others)))

    @abstractmethod
    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object: ...

    def begin(self, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield from ()

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield from ()

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield from ()

    def last(self, completions: Sequence[Completion], stamp: Stamp) -> Iterator[object]:
        yield from ()


class Told:
    """A stream of a call while it is told: what of it goes out with each piece of news."""

    def __init__(self, call: Call, stamp: Stamp) -> None:
        self._call, self._stamp = call, stamp
        self._begun: set[int] = set()
        self._ended: dict[int, Completion] = {}

    def frames(self, choices: Sequence[int], news: Part | Completion | Exception) -> Iterator[object]:
        """What failed once others were promised is an empty text; whoever streams has no status to tell it by."""
        for choice in choices:
            if choice not in self._begun:
                self._begun.add(choice)
                yield from self._call.begin(self._stamp, choice)
            if isinstance(news, Part):
                yield from self._call.part(news, self._stamp, choice)
                continue
            self._ended[choice] = news if isinstance(news, Completion) else _FAILED
            yield from self._call.end(self._ended[choice], self._stamp, choice)

    def last(self) -> Iterator[object]:
        yield from self._call.last([self._ended[choice] for choice in sorted(self._ended)], self._stamp)


_FAILED = Completion(
    text="",
    finish_reason="length",
    prompt_tokens=0,
    cached_tokens=0,
    completion_tokens=0,
    snippets=(),
    adapter=None,
    timings=Timings(retrieve_ms=0, queue_ms=0, prefill_ms=0, decode_ms=0),
    degraded=("engine",),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion that is made for a call, and the choices that it answers: without a temperature all are the
    same one."""

    request: CompletionRequest
    choices: Sequence[int]


def samples(call: Call) -> list[Sample]:
    """Those after the first wait for what somebody looks at, and don't replace one another."""
    found = list[Sample]()
    for asked, prompt in enumerate((call.request, *call.others)):
        choices = range(asked * call.num_choices, (asked + 1) * call.num_choices)
        if prompt.temperature <= 0:
            found.append(Sample(_sample(prompt, 0, is_first=not found), choices))
            continue
        for number, choice in enumerate(choices):
            found.append(Sample(_sample(prompt, number, is_first=not found), [choice]))
    return found


def _sample(prompt: CompletionRequest, number: int, *, is_first: bool) -> CompletionRequest:
    seed = None if prompt.seed is None else prompt.seed + number
    wanted = replace(prompt, seed=seed)
    return wanted if is_first else replace(wanted, client=None, trigger="ahead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a dialect says what text is wanted; None is the server's default."""

    max_tokens: int | None
    temperature: float
    seed: int | None
    stop: tuple[str, ...]
    top_p: float = 1.0
    top_k: int = 0
    logprobs: int | None = None
    max_decode_ms: int | None = None


def request_at(place: Place, sampling: Sampling, body: Fields, settings: Settings) -> CompletionRequest:
    """With what an object `homespun` in a body of any dialect may say beside it."""
    extra = body.inside("homespun")
    return CompletionRequest(
        prefix=place.prefix,
        suffix=place.suffix,
        path=extra.text("path") or place.path,
        language=extra.text("language"),
        repo=extra.text("repo") or place.repo,
        commit=_commit(extra),
        snippets=(*_snippets(extra), *place.snippets),
        max_new_tokens=settings.max_new_tokens if sampling.max_tokens is None else sampling.max_tokens,
        deadline_ms=settings.completion_deadline_ms,
        max_decode_ms=sampling.max_decode_ms,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed,
        stop=sampling.stop,
        logprobs=sampling.logprobs,
        raw=extra.flag("raw") or False,
        client=extra.name("client"),
        user=extra.name("user"),
        trigger=_trigger(extra),
    )


def choices_of(body: Fields, name: str = "n") -> int:
    number = body.integer(name)
    if number is not None and not 1 <= number <= MAX_CHOICES:
        raise body.wrong(name, f"must be a whole number from 1 to {MAX_CHOICES}")
    return number or 1


def moment(seconds: float) -> str:
    """As RFC 3339 writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def note(completion: Completion) -> dict[str, Any]:
    """What a completion went without, and why it is empty, for clients that want to know."""
    said: dict[str, Any] = {"degraded": list(completion.degraded), "hidden_by": completion.hidden_by}
    told = {name: value for name, value in said.items() if value}
    return {"homespun": told} if told else {}


def usage(completions: Sequence[Completion], num_choices: int | None = None) -> dict[str, Any]:
    """As OpenAI counts: a prompt once for all of its choices. None: all are of one prompt."""
    first = completions[:: num_choices or len(completions)]
    prompt = sum(c.prompt_tokens for c in first)
    completion = sum(c.completion_tokens for c in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(c.cached_tokens for c in first)},
    }


def _commit(extra: Fields) -> str | None:
    value = extra.text("commit")
    if value is not None and not _COMMIT.fullmatch(value):
        raise extra.wrong("commit", "must be a commit's full id")
    return value


def _snippets(extra: Fields) -> tuple[Snippet, ...]:
    items = enumerate(extra.items("snippets"))
    return tuple(editor_snippet(item.required("path"), item.required("text"), rank) for rank, item in items)


def _trigger(extra: Fields) -> Trigger:
    value = extra.text("trigger") or "typed"
    if value not in get_args(Trigger):
        raise extra.wrong("trigger", f"must be one of {', '.join(get_args(Trigger))}")
    return cast(Trigger, value)

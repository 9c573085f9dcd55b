"""What one call of any dialect is, and the steps in which it is answered: at once, or as a stream."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, cast, get_args

from homespun_core.config import Settings
from homespun_core.types import Completion, CompletionRequest, ScoredToken, Snippet, Trigger
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
    """Made of a body by a dialect. A stream is `begin`, any number of `part`, `end` for each choice; then `last`."""

    framing: ClassVar[Framing] = EVENTS

    request: CompletionRequest
    model: str = ""
    """As the client names it; empty when it doesn't. There is one model, so any name will do."""
    num_choices: int = 1
    is_stream: bool = False

    @property
    def is_held(self) -> bool:
        """Whether a stream has to wait for its end."""
        return self.num_choices > 1

    @abstractmethod
    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object: ...

    def begin(self, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield from ()

    def part(self, text: str, stamp: Stamp, index: int = 0, tokens: Sequence[ScoredToken] = ()) -> Iterator[object]:
        yield from ()

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield from ()

    def last(self, completions: Sequence[Completion], stamp: Stamp) -> Iterator[object]:
        yield from ()

    def frames(self, completions: Sequence[Completion], stamp: Stamp) -> Iterator[object]:
        """The whole stream of one that was held."""
        for index, completion in enumerate(completions):
            yield from self.begin(stamp, index)
            if completion.text:
                yield from self.part(completion.text, stamp, index, completion.tokens)
            yield from self.end(completion, stamp, index)
        yield from self.last(completions, stamp)


def samples(call: Call) -> list[CompletionRequest]:
    """A request for each different choice: without temperature all are the same. Those after the first wait for what
    somebody looks at, and don't replace one another."""
    first = call.request
    num_samples = call.num_choices if first.temperature > 0 else 1
    others = [_sample(first, number) for number in range(1, num_samples)]
    return [first, *others]


def _sample(first: CompletionRequest, number: int) -> CompletionRequest:
    seed = None if first.seed is None else first.seed + number
    return replace(first, seed=seed, client=None, trigger="ahead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a dialect says what text is wanted; None is the server's default."""

    max_tokens: int | None
    temperature: float
    seed: int | None
    stop: tuple[str, ...]
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


def usage(completions: Sequence[Completion]) -> dict[str, Any]:
    """Of all choices of one prompt, as OpenAI counts."""
    prompt = completions[0].prompt_tokens
    completion = sum(c.completion_tokens for c in completions)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": completions[0].cached_tokens},
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

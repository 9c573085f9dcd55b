"""OpenAI's legacy completions, `/v1/completions`, and what DeepSeek makes of them, `/beta/completions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from homespun_core.config import Settings
from homespun_core.types import Completion, Part, ScoredToken
from homespun_server.dialects.calls import (
    EVENTS_AND_DONE,
    Call,
    Framing,
    Sampling,
    Stamp,
    choices_of,
    note,
    request_at,
    usage,
)
from homespun_server.dialects.facts import ServerFacts
from homespun_server.dialects.fields import Fields, clean
from homespun_server.dialects.templates import place_of

MAX_LOGPROBS = 5
MAX_PROMPTS = 32
MAX_COMPLETIONS = 32
"""Prompts times choices: one request is no batch job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICall(Call):
    framing: ClassVar[Framing] = EVENTS_AND_DONE

    include_usage: bool = False
    echoed: tuple[str, ...] = ()
    """What comes before the text of each choice, by prompt; empty where nothing does."""

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        choices = [
            _choice(self._echo(n) + c.text, n, c.finish_reason, self._logprobs(c.tokens))
            for n, c in enumerate(completions)
        ]
        return _named(stamp, choices) | {"usage": usage(completions, self.num_choices)} | note(completions[0])

    def begin(self, stamp: Stamp, index: int = 0) -> Iterator[object]:
        if echoed := self._echo(index):
            yield _named(stamp, [_choice(echoed, index, None)])

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _named(stamp, [_choice(part.text, index, None, self._logprobs(part.tokens, part.num_characters_before))])

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _named(stamp, [_choice("", index, completion.finish_reason)]) | note(completion)

    def last(self, completions: Sequence[Completion], stamp: Stamp) -> Iterator[object]:
        if self.include_usage:
            yield _named(stamp, []) | {"usage": usage(completions, self.num_choices)}

    def _echo(self, index: int) -> str:
        return self.echoed[index // self.num_choices] if self.echoed else ""

    def _logprobs(self, tokens: Sequence[ScoredToken], start: int = 0) -> dict[str, Any] | None:
        return None if self.request.logprobs is None else _logprobs(tokens, start)


def openai_call(body: Mapping[str, Any], settings: Settings) -> OpenAICall:
    fields = Fields(body)
    prompts, num_choices = _prompts(fields), choices_of(fields)
    if len(prompts) * num_choices > MAX_COMPLETIONS:
        what = f"asks for {num_choices} choices of {len(prompts)} prompts; at most {MAX_COMPLETIONS} completions"
        raise fields.wrong("n", f"{what} are made for a request, send several")
    _refuse_unsupported(fields)
    max_tokens = fields.count("max_tokens")
    sampling = Sampling(
        max_tokens=fields.count("max_completion_tokens") if max_tokens is None else max_tokens,
        temperature=fields.temperature(),
        top_p=fields.top_p(),
        seed=fields.integer("seed"),
        stop=fields.stops(),
        logprobs=fields.count("logprobs", MAX_LOGPROBS),
    )
    suffix = fields.text("suffix") or ""
    first, *others = (request_at(place_of(prompt, suffix), sampling, fields, settings) for prompt in prompts)
    return OpenAICall(
        request=first,
        others=tuple(others),
        model=fields.text("model") or "",
        num_choices=num_choices,
        is_stream=fields.flag("stream") or False,
        include_usage=fields.inside("stream_options").flag("include_usage") or False,
        echoed=tuple(prompts) if fields.flag("echo") else (),
    )


def _prompts(fields: Fields) -> list[str]:
    value = fields.values.get("prompt")
    if value is None:
        raise fields.wrong("prompt", "is required (or Tabby's segments)", "missing_field")
    found = value if isinstance(value, list) else [value]
    if any(isinstance(item, int | list) for item in found):
        what = "must be text: token ids mean something to one tokenizer only, and it can't be known whose these are"
        raise fields.unsupported("prompt", what)
    if not found or not all(isinstance(item, str) for item in found):
        raise fields.wrong("prompt", "must be a text, or a list of texts")
    if len(found) > MAX_PROMPTS:
        raise fields.wrong("prompt", f"has {len(found)} texts; at most {MAX_PROMPTS} are allowed")
    return [clean(item) for item in found]


def _refuse_unsupported(fields: Fields) -> None:
    best_of = fields.integer("best_of")
    if best_of not in (None, 1, choices_of(fields)):
        raise fields.unsupported("best_of", "must be 1 or n: no completion is made only to be thrown away")
    if fields.has("logprobs") and fields.flag("echo"):
        raise fields.unsupported("logprobs", "are known of the completion only; leave echo or logprobs out")


def _named(stamp: Stamp, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": stamp.id,
        "object": "text_completion",
        "created": int(stamp.created),
        "model": stamp.model,
        "choices": choices,
    }


def _choice(text: str, index: int, finish_reason: str | None, logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "finish_reason": finish_reason, "logprobs": logprobs}


def _logprobs(tokens: Sequence[ScoredToken], start: int = 0) -> dict[str, Any]:
    offsets, at = [], start
    for token in tokens:
        offsets.append(at)
        at += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [dict(token.alternatives) | {token.text: token.logprob} for token in tokens],
        "text_offset": offsets,
    }


def models(facts: ServerFacts) -> dict[str, Any]:
    return {"object": "list", "data": [model_card(facts)]}


def model_card(facts: ServerFacts) -> dict[str, Any]:
    return {
        "id": facts.model,
        "object": "model",
        "created": int(facts.modified),
        "owned_by": "homespun",
        "max_model_len": facts.max_context,
    }

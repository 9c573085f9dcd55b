"""OpenAI's legacy completions, `/v1/completions`, and what DeepSeek makes of them, `/beta/completions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from homespun_core.config import Settings
from homespun_core.types import Completion, ScoredToken
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


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICall(Call):
    framing: ClassVar[Framing] = EVENTS_AND_DONE

    include_usage: bool = False
    echoed: str = ""
    """What comes before the text of each choice."""

    @property
    def is_held(self) -> bool:
        return self.num_choices > 1 or self.request.logprobs is not None

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        choices = [
            _choice(self.echoed + c.text, n, c.finish_reason, self._logprobs(c.tokens))
            for n, c in enumerate(completions)
        ]
        return _named(stamp, choices) | {"usage": usage(completions)} | note(completions[0])

    def begin(self, stamp: Stamp, index: int = 0) -> Iterator[object]:
        if self.echoed:
            yield _named(stamp, [_choice(self.echoed, index, None)])

    def part(self, text: str, stamp: Stamp, index: int = 0, tokens: Sequence[ScoredToken] = ()) -> Iterator[object]:
        yield _named(stamp, [_choice(text, index, None, self._logprobs(tokens))])

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _named(stamp, [_choice("", index, completion.finish_reason)]) | note(completion)

    def last(self, completions: Sequence[Completion], stamp: Stamp) -> Iterator[object]:
        if self.include_usage:
            yield _named(stamp, []) | {"usage": usage(completions)}

    def _logprobs(self, tokens: Sequence[ScoredToken]) -> dict[str, Any] | None:
        return None if self.request.logprobs is None else _logprobs(tokens)


def openai_call(body: Mapping[str, Any], settings: Settings) -> OpenAICall:
    fields = Fields(body)
    prompt = _prompt(fields)
    _refuse_unsupported(fields)
    max_tokens = fields.count("max_tokens")
    sampling = Sampling(
        max_tokens=fields.count("max_completion_tokens") if max_tokens is None else max_tokens,
        temperature=fields.temperature(),
        seed=fields.integer("seed"),
        stop=fields.stops(),
        logprobs=fields.count("logprobs", MAX_LOGPROBS),
    )
    return OpenAICall(
        request=request_at(place_of(prompt, fields.text("suffix") or ""), sampling, fields, settings),
        model=fields.text("model") or "",
        num_choices=choices_of(fields),
        is_stream=fields.flag("stream") or False,
        include_usage=fields.inside("stream_options").flag("include_usage") or False,
        echoed=prompt if fields.flag("echo") else "",
    )


def _prompt(fields: Fields) -> str:
    value = fields.values.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        raise fields.wrong("prompt", "is required (or Tabby's segments)", "missing_field")
    if not isinstance(value, str):
        raise fields.wrong("prompt", "must be one text; token ids and several prompts are not supported")
    return clean(value)


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


def _logprobs(tokens: Sequence[ScoredToken]) -> dict[str, Any]:
    offsets, at = [], 0
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

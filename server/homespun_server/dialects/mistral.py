"""Mistral's fill-in-the-middle, `/v1/fim/completions`: OpenAI's fields in, chat messages out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from homespun_core.config import Settings
from homespun_core.types import Completion, Part
from homespun_server.dialects.calls import EVENTS_AND_DONE, Call, Framing, Sampling, Stamp, note, request_at, usage
from homespun_server.dialects.fields import Fields
from homespun_server.dialects.templates import place_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralCall(Call):
    framing: ClassVar[Framing] = EVENTS_AND_DONE

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        (completion,) = completions
        message = {"role": "assistant", "content": completion.text, "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": completion.finish_reason}
        return _named(stamp, "chat.completion", choice) | {"usage": usage(completions)} | note(completion)

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _chunk(stamp, part.text, None)

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _chunk(stamp, "", completion.finish_reason) | {"usage": usage([completion])} | note(completion)


def mistral_call(body: Mapping[str, Any], settings: Settings) -> MistralCall:
    fields = Fields(body)
    place = place_of(fields.required("prompt"), fields.text("suffix") or "")
    sampling = Sampling(
        max_tokens=fields.count("max_tokens"),
        temperature=fields.temperature(),
        top_p=fields.top_p(),
        seed=fields.integer("random_seed"),
        stop=fields.stops(),
    )
    return MistralCall(
        request=request_at(place, sampling, fields, settings),
        model=fields.text("model") or "",
        is_stream=fields.flag("stream") or False,
    )


def _chunk(stamp: Stamp, text: str, finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return _named(stamp, "chat.completion.chunk", choice)


def _named(stamp: Stamp, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": stamp.id,
        "object": kind,
        "created": int(stamp.created),
        "model": stamp.model,
        "choices": [choice],
    }

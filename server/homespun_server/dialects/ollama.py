"""Ollama's `/api/generate`: lines of JSON, streamed unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from homespun_core.config import Settings
from homespun_core.types import Completion, Part
from homespun_server.dialects.calls import LINES, Call, Framing, Sampling, Stamp, moment, note, request_at
from homespun_server.dialects.facts import ServerFacts
from homespun_server.dialects.fields import Fields
from homespun_server.dialects.templates import place_of

API_VERSION = "0.12.0"
"""Of the Ollama whose protocol this is; some clients refuse one that is older than they know."""
TEMPLATE = (
    "{{ if .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_suffix|>{{ .Suffix }}<|fim_middle|>"
    "{{ else }}{{ .Prompt }}{{ end }}"
)
"""Shown to clients that look for `.Suffix` in it before they send one."""
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaCall(Call):
    framing: ClassVar[Framing] = LINES

    @property
    def is_load(self) -> bool:
        """Without a prompt a client only wants the model to be there."""
        return not self.request.prefix and not self.request.suffix

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        (completion,) = completions
        return self._final(completion, completion.text, stamp)

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield _named(stamp, part.text, is_done=False)

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield self._final(completion, "", stamp)

    def _final(self, completion: Completion, text: str, stamp: Stamp) -> dict[str, Any]:
        reason = "load" if self.is_load else completion.finish_reason
        return _named(stamp, text, is_done=True) | {"done_reason": reason} | _counts(completion) | note(completion)


def ollama_call(body: Mapping[str, Any], settings: Settings) -> OllamaCall:
    fields = Fields(body)
    options = fields.inside("options")
    place = place_of(fields.text("prompt") or "", fields.text("suffix") or "")
    is_load = not place.prefix and not place.suffix
    seed = options.integer("seed")
    sampling = Sampling(
        max_tokens=0 if is_load else options.limit("num_predict"),
        temperature=options.temperature(),
        top_p=options.top_p(),
        top_k=options.top_k(),
        seed=seed,
        stop=options.stops(),
    )
    is_stream = fields.flag("stream")
    return OllamaCall(
        request=request_at(place, sampling, fields, settings),
        model=fields.text("model") or "",
        is_stream=is_stream is not False,
    )


def _named(stamp: Stamp, text: str, *, is_done: bool) -> dict[str, Any]:
    return {"model": stamp.model, "created_at": moment(stamp.created), "response": text, "done": is_done}


def _counts(completion: Completion) -> dict[str, int]:
    spent = completion.timings
    total_ms = spent.retrieve_ms + spent.queue_ms + spent.prefill_ms + spent.decode_ms
    return {
        "total_duration": int(total_ms * _NS_PER_MS),
        "load_duration": 0,
        "prompt_eval_count": completion.prompt_tokens,
        "prompt_eval_duration": int(spent.prefill_ms * _NS_PER_MS),
        "eval_count": completion.completion_tokens,
        "eval_duration": int(spent.decode_ms * _NS_PER_MS),
    }


def tags(facts: ServerFacts) -> dict[str, Any]:
    about = {"size": facts.num_bytes, "digest": facts.digest, "modified_at": moment(facts.modified)}
    return {"models": [{"name": facts.model, "model": facts.model, "details": _details(facts), **about}]}


def running(facts: ServerFacts) -> dict[str, Any]:
    (model,) = tags(facts)["models"]
    return {"models": [model | {"expires_at": "0001-01-01T00:00:00Z", "size_vram": 0}]}


def show(facts: ServerFacts) -> dict[str, Any]:
    return {
        "modelfile": f"FROM {facts.model}\n",
        "parameters": f"num_ctx {facts.max_context}",
        "template": TEMPLATE,
        "details": _details(facts),
        "model_info": {"general.architecture": facts.family, f"{facts.family}.context_length": facts.max_context},
        "capabilities": ["completion", "insert"],
        "modified_at": moment(facts.modified),
    }


def _details(facts: ServerFacts) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": facts.family,
        "families": [facts.family],
        "quantization_level": facts.dtype,
    }

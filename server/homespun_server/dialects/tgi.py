"""Hugging Face's Text Generation Inference: `/generate`, `/generate_stream`, and `/`, which is either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homespun_core.config import Settings
from homespun_core.types import Completion, Part, ScoredToken
from homespun_server.dialects.calls import Call, Sampling, Stamp, note, request_at
from homespun_server.dialects.facts import ServerFacts
from homespun_server.dialects.fields import MAX_STOPS, Fields
from homespun_server.dialects.templates import place_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TgiCall(Call):
    echoed: str
    """What comes before the generated text."""
    has_details: bool
    is_listed: bool
    """Whether a whole reply is the only one of a list."""

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        (completion,) = completions
        reply: dict[str, Any] = {"generated_text": self.echoed + completion.text}
        if self.has_details:
            tokens = [_token(token) for token in completion.tokens]
            reply["details"] = self._ended(completion) | {"prefill": [], "tokens": tokens}
        reply |= note(completion)
        return [reply] if self.is_listed else reply

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        """A text that no model wrote (`draft_only`) has no tokens to tell of."""
        unknown = {"id": None, "text": part.text, "logprob": None, "special": False}
        told = [_token(token) for token in part.tokens] or [unknown]
        for number, token in enumerate(told, part.num_tokens_before + 1):
            yield {"index": number, "token": token, "generated_text": None, "details": None}

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield {
            "index": len(completion.tokens) + 1,
            "token": {"id": None, "text": "", "logprob": None, "special": True},
            "generated_text": self.echoed + completion.text,
            "details": self._ended(completion) | {"input_length": completion.prompt_tokens},
        } | note(completion)

    def _ended(self, completion: Completion) -> dict[str, Any]:
        return {
            "finish_reason": _finish_reason(completion),
            "generated_tokens": completion.completion_tokens,
            "seed": self.request.seed,
        }


def tgi_call(
    body: Mapping[str, Any], settings: Settings, *, is_stream: bool | None = False, is_listed: bool = False
) -> TgiCall:
    """`is_stream` None leaves it to the body."""
    fields = Fields(body)
    inputs, parameters = fields.required("inputs"), fields.inside("parameters")
    has_details = parameters.flag("details") or False
    wanted_stream = fields.flag("stream") or False
    streams = wanted_stream if is_stream is None else is_stream
    sampling = Sampling(
        max_tokens=parameters.count("max_new_tokens"),
        temperature=_temperature(parameters),
        top_p=parameters.top_p(),
        top_k=parameters.top_k(),
        seed=parameters.count("seed"),
        stop=parameters.stops() or parameters.stops("stop_sequences"),
        logprobs=0 if has_details or streams else None,
    )
    if parameters.integer("best_of") not in (None, 1):
        raise parameters.unsupported("best_of", "must be 1: no text is made only to be thrown away")
    return TgiCall(
        request=request_at(place_of(inputs), sampling, fields, settings),
        is_stream=streams,
        echoed=inputs if parameters.flag("return_full_text") else "",
        has_details=has_details,
        is_listed=is_listed,
    )


def _temperature(parameters: Fields) -> float:
    """Sampling without a temperature is the model's own distribution."""
    if parameters.flag("do_sample") and not parameters.has("temperature"):
        return 1.0
    return parameters.temperature()


def _token(token: ScoredToken) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": False}


def _finish_reason(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return "length"
    return "eos_token" if completion.stopped_by is None else "stop_sequence"


def info(facts: ServerFacts) -> dict[str, Any]:
    return {
        "model_id": facts.model,
        "model_sha": facts.digest,
        "model_dtype": facts.dtype,
        "model_device_type": facts.device.partition(":")[0],
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": facts.max_running + facts.max_queue,
        "max_best_of": 1,
        "max_stop_sequences": MAX_STOPS,
        "max_input_length": facts.max_prompt_tokens,
        "max_input_tokens": facts.max_prompt_tokens,
        "max_total_tokens": facts.max_prompt_tokens + facts.max_new_tokens,
        "router": "homespun",
        "version": facts.version,
    }

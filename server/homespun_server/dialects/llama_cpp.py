"""llama.cpp's server: `/infill`, and `/completion` for prompts of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homespun_core.config import Settings
from homespun_core.types import Completion, Part, Snippet
from homespun_server.dialects.calls import Call, Sampling, Stamp, choices_of, note, request_at
from homespun_server.dialects.facts import ServerFacts
from homespun_server.dialects.fields import Fields
from homespun_server.dialects.templates import Place, editor_snippet, place_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCall(Call):
    prompt: str
    min_indent: int
    """A line with less ends the completion, and isn't part of it."""
    response_fields: tuple[str, ...]
    """The only fields of a reply; those in objects as `timings/prompt_n`, which is then their name. None: all."""

    def reply(self, completions: Sequence[Completion], stamp: Stamp) -> object:
        replies = [self._final(c, self._cut(c.text), stamp, n) for n, c in enumerate(completions)]
        return replies if self.num_choices > 1 else replies[0]

    def part(self, part: Part, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield {"index": index, "content": self._cut(part.text), "tokens": [], "stop": False, "id_slot": 0}

    def end(self, completion: Completion, stamp: Stamp, index: int = 0) -> Iterator[object]:
        yield self._final(completion, "", stamp, index)

    def _cut(self, text: str) -> str:
        return within_indent(text, self.min_indent)

    def _final(self, completion: Completion, content: str, stamp: Stamp, index: int) -> dict[str, Any]:
        whole = {
            "index": index,
            "content": content,
            "tokens": [],
            "id_slot": 0,
            "stop": True,
            "model": stamp.model,
            "tokens_predicted": completion.completion_tokens,
            "tokens_evaluated": completion.prompt_tokens,
            "generation_settings": self._settings(),
            "prompt": self.prompt,
            "has_new_line": "\n" in completion.text,
            "truncated": False,  # a prompt is fitted into the context before anything else
            "stop_type": _stop_type(completion),
            "stopping_word": completion.stopped_by or "",
            "tokens_cached": completion.cached_tokens,
            "timings": timings(completion),
        } | note(completion)
        return picked(whole, self.response_fields) if self.response_fields else whole

    def _settings(self) -> dict[str, Any]:
        request = self.request
        return {
            "n_predict": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "top_k": request.top_k,
            "seed": request.seed,
            "stop": list(request.stop),
            "n_indent": self.min_indent,
            "t_max_predict_ms": request.max_decode_ms,
            "stream": self.is_stream,
        }


def infill_call(body: Mapping[str, Any], settings: Settings) -> LlamaCall:
    """`prompt` is the cursor's line so far; an extra of the editor is the better the later it comes."""
    fields = Fields(body)
    prefix, suffix = fields.required("input_prefix"), fields.required("input_suffix")
    prompt = fields.text("prompt") or ""
    place = Place(prefix=prefix + prompt, suffix=suffix, snippets=_extras(fields))
    return _call(fields, place, prompt, settings)


def completion_call(body: Mapping[str, Any], settings: Settings) -> LlamaCall:
    fields = Fields(body)
    prompt = fields.required("prompt")
    return _call(fields, place_of(prompt), prompt, settings)


def within_indent(text: str, least: int) -> str:
    """Up to the first line (not the cursor's own) that is indented less."""
    lines = text.split("\n")
    for number, line in enumerate(lines[1:], 1):
        if line.strip() and len(line) - len(line.lstrip(" \t")) < least:
            return "\n".join(lines[:number])
    return text


def picked(reply: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The fields at these paths, under the paths' own names; those that aren't there are left out."""
    found: dict[str, Any] = {}
    for path in paths:
        value: Any = reply
        for key in path.split("/"):
            value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT:
            found[path] = value
    return found


def timings(completion: Completion) -> dict[str, Any]:
    spent = completion.timings
    computed = completion.prompt_tokens - completion.cached_tokens
    return {
        "cache_n": completion.cached_tokens,
        **_rate("prompt", computed, spent.prefill_ms),
        **_rate("predicted", completion.completion_tokens, spent.decode_ms),
    }


_ABSENT = object()


def _stop_type(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return "limit"
    return "eos" if completion.stopped_by is None else "word"


def _rate(name: str, number: int, ms: float) -> dict[str, Any]:
    return {
        f"{name}_n": number,
        f"{name}_ms": ms,
        f"{name}_per_token_ms": ms / number if number else 0.0,
        f"{name}_per_second": number * 1e3 / ms if ms else 0.0,
    }


def _call(fields: Fields, place: Place, prompt: str, settings: Settings) -> LlamaCall:
    limit = fields.limit("n_predict")
    seed = fields.integer("seed")
    sampling = Sampling(
        max_tokens=fields.limit("max_tokens") if limit is None else limit,
        temperature=fields.temperature(),
        top_p=fields.top_p(),
        top_k=fields.top_k(),
        seed=seed if seed is not None and seed >= 0 else None,
        stop=fields.stops(),
        max_decode_ms=_time_limit(fields),
    )
    return LlamaCall(
        request=request_at(place, sampling, fields, settings),
        model=fields.text("model") or "",
        num_choices=choices_of(fields, "n_cmpl"),
        is_stream=fields.flag("stream") or False,
        prompt=prompt,
        min_indent=fields.count("n_indent") or 0,
        response_fields=fields.texts("response_fields"),
    )


def _time_limit(fields: Fields) -> int | None:
    """0 and less is none."""
    limit = fields.milliseconds("t_max_predict_ms")
    return limit if limit is not None and limit > 0 else None


def _extras(fields: Fields) -> tuple[Snippet, ...]:
    items = [(item.text("filename") or "tmp", item.required("text")) for item in fields.items("input_extra")]
    return tuple(editor_snippet(name, text, rank) for rank, (name, text) in enumerate(reversed(items)))


def props(facts: ServerFacts) -> dict[str, Any]:
    return {
        "default_generation_settings": {
            "n_ctx": facts.max_context,
            "params": {"n_predict": facts.max_new_tokens, "temperature": 0.0},
        },
        "total_slots": facts.max_running,
        "model_alias": facts.model,
        "model_path": facts.model,
        "modalities": {"vision": False, "audio": False},
        "chat_template": "",
        "build_info": f"homespun {facts.version}",
    }


def slots(facts: ServerFacts) -> list[dict[str, Any]]:
    """Which completion is in which is nobody's business, so the busy ones come first."""
    return [
        {"id": n, "n_ctx": facts.max_context, "is_processing": n < facts.num_running} for n in range(facts.max_running)
    ]

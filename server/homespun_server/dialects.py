"""The wire formats: JSON bodies to requests, completions to JSON. Pure; all a client can get wrong is said here.

`/v1/completions` speaks two: OpenAI's (`prompt`, `suffix`) and Tabby's (`segments`). Unknown fields are left alone,
since real clients send more than either documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args

from homespun_core.config import Settings
from homespun_core.types import Completion, CompletionRequest, Trigger

MAX_STOPS = 16
_MAX_STOP_CHARS = 256
_MAX_NAME_CHARS = 256
_MAX_TEMPERATURE = 2.0


class BadRequestError(Exception):
    """A body that makes no sense. The message is one line and never repeats what was sent."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAICall:
    request: CompletionRequest
    model: str
    stream: bool
    include_usage: bool
    echo: bool
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TabbyCall:
    request: CompletionRequest
    mode: str | None
    return_snippets: bool


def parse_body(raw: bytes) -> Mapping[str, Any]:
    """The JSON object in a body; raises BadRequestError for anything else."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRequestError("the body is nested too deeply", code="invalid_json") from None
    except ValueError:
        raise BadRequestError("the body is not valid JSON in UTF-8", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object", code="invalid_json")
    return body


def is_tabby(body: Mapping[str, Any]) -> bool:
    return body.get("segments") is not None


def openai_call(body: Mapping[str, Any], settings: Settings) -> OpenAICall:
    extra = _object(body, "homespun")
    stream_options = _object(body, "stream_options")
    prompt = _prompt(body)
    _refuse_unsupported(body)
    return OpenAICall(
        request=CompletionRequest(
            prefix=prompt,
            suffix=_text(body, "suffix") or "",
            path=_text(extra, "path", "homespun.path"),
            language=_text(extra, "language", "homespun.language"),
            repo=_text(extra, "repo", "homespun.repo"),
            max_new_tokens=_count(body, "max_tokens", settings.max_new_tokens),
            deadline_ms=settings.completion_deadline_ms,
            temperature=_temperature(body),
            seed=_integer(body, "seed"),
            stop=_stops(body),
            raw=_flag(extra, "raw", "homespun.raw"),
            client=_name(extra, "client", "homespun.client"),
            user=_name(extra, "user", "homespun.user"),
            trigger=_trigger(extra),
        ),
        model=_text(body, "model") or "",
        stream=_flag(body, "stream"),
        include_usage=_flag(stream_options, "include_usage", "stream_options.include_usage"),
        echo=_flag(body, "echo"),
        prompt=prompt,
    )


def tabby_call(body: Mapping[str, Any], settings: Settings) -> TabbyCall:
    segments = _object(body, "segments")
    prefix = _text(segments, "prefix", "segments.prefix")
    if prefix is None:
        raise BadRequestError("segments.prefix is required", param="segments.prefix", code="missing_field")
    return TabbyCall(
        request=CompletionRequest(
            prefix=prefix,
            suffix=_text(segments, "suffix", "segments.suffix") or "",
            path=_text(segments, "filepath", "segments.filepath"),
            language=_text(body, "language"),
            repo=_text(segments, "git_url", "segments.git_url"),
            max_new_tokens=settings.max_new_tokens,
            deadline_ms=settings.completion_deadline_ms,
            temperature=_temperature(body),
            seed=_integer(body, "seed"),
            user=_name(body, "user", "user"),
        ),
        mode=_text(body, "mode"),
        return_snippets=_flag(_object(body, "debug_options"), "return_snippets", "debug_options.return_snippets"),
    )


def openai_reply(
    call: OpenAICall, completion: Completion, *, request_id: str, created: int, model: str
) -> dict[str, Any]:
    text = call.prompt + completion.text if call.echo else completion.text
    reply = _openai_object(request_id, created, model, [_choice(text, completion.finish_reason)])
    return reply | {"usage": usage(completion)} | note(completion)


def openai_chunk(text: str, finish_reason: str | None, *, request_id: str, created: int, model: str) -> dict[str, Any]:
    return _openai_object(request_id, created, model, [_choice(text, finish_reason)])


def openai_usage_chunk(completion: Completion, *, request_id: str, created: int, model: str) -> dict[str, Any]:
    return _openai_object(request_id, created, model, []) | {"usage": usage(completion)}


def tabby_reply(call: TabbyCall, completion: Completion, *, request_id: str) -> dict[str, Any]:
    reply: dict[str, Any] = {"id": request_id, "choices": [{"index": 0, "text": completion.text}]}
    if call.mode is not None:
        reply["mode"] = "standard"
    if call.return_snippets:
        found = [{"filepath": s.path, "body": s.text, "score": s.score} for s in completion.snippets]
        reply["debug_data"] = {"snippets": found}
    return reply | note(completion)


def error_body(message: str, *, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "code": code, "param": param}}


def note(completion: Completion) -> dict[str, Any]:
    """What a completion went without, and why it is empty, for clients that want to know."""
    said: dict[str, Any] = {"degraded": list(completion.degraded), "hidden_by": completion.hidden_by}
    told = {name: value for name, value in said.items() if value}
    return {"homespun": told} if told else {}


def usage(completion: Completion) -> dict[str, Any]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
    }


def _openai_object(request_id: str, created: int, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": request_id, "object": "text_completion", "created": created, "model": model, "choices": choices}


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "finish_reason": finish_reason, "logprobs": None}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _prompt(body: Mapping[str, Any]) -> str:
    value = body.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        raise BadRequestError("prompt is required (or Tabby's segments)", param="prompt", code="missing_field")
    if not isinstance(value, str):
        raise BadRequestError(
            "prompt must be one text; token ids and several prompts are not supported", param="prompt"
        )
    return _clean(value)


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name in ("n", "best_of"):
        if body.get(name) not in (None, 1):
            raise BadRequestError(f"{name} must be 1: one completion is made", param=name, code="unsupported_value")
    if body.get("logprobs") not in (None, 0):
        raise BadRequestError("logprobs are not supported; leave it out", param="logprobs", code="unsupported_value")


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    values: Sequence[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    if value is not None and not isinstance(value, str | list):
        raise BadRequestError("stop must be a text or a list of texts", param="stop")
    if len(values) > MAX_STOPS:
        raise BadRequestError(f"stop has {len(values)} texts; at most {MAX_STOPS} are allowed", param="stop")
    if not all(isinstance(v, str) and 0 < len(v) <= _MAX_STOP_CHARS for v in values):
        raise BadRequestError(f"each stop must be a text of 1 to {_MAX_STOP_CHARS} characters", param="stop")
    return tuple(_clean(v) for v in values)


def _temperature(body: Mapping[str, Any]) -> float:
    """0 when absent: an editor wants the likeliest text, and the same one twice."""
    value = body.get("temperature")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TEMPERATURE:
        raise BadRequestError(f"temperature must be a number from 0 to {_MAX_TEMPERATURE:g}", param="temperature")
    return float(value) if math.isfinite(value) else 0.0


def _count(body: Mapping[str, Any], name: str, default: int) -> int:
    value = _integer(body, name)
    if value is not None and value < 0:
        raise BadRequestError(f"{name} must not be negative", param=name)
    return default if value is None else value


def _trigger(extra: Mapping[str, Any]) -> Trigger:
    value = _text(extra, "trigger", "homespun.trigger") or "typed"
    for known in get_args(Trigger):
        if value == known:
            return cast(Trigger, known)
    raise BadRequestError(f"homespun.trigger must be one of {', '.join(get_args(Trigger))}", param="homespun.trigger")


def _integer(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise BadRequestError(f"{name} must be a whole number", param=name)
    return value


def _text(body: Mapping[str, Any], name: str, shown: str | None = None) -> str | None:
    value = body.get(name)
    if not isinstance(value, str | None):
        raise BadRequestError(f"{shown or name} must be a text", param=shown or name)
    return None if value is None else _clean(value)


def _name(body: Mapping[str, Any], name: str, shown: str) -> str | None:
    value = _text(body, name, shown)
    if value is not None and len(value) > _MAX_NAME_CHARS:
        raise BadRequestError(
            f"{shown} has {len(value)} characters; at most {_MAX_NAME_CHARS} are allowed", param=shown
        )
    return value


def _flag(body: Mapping[str, Any], name: str, shown: str | None = None) -> bool:
    value = body.get(name)
    if not isinstance(value, bool | None):
        raise BadRequestError(f"{shown or name} must be true or false", param=shown or name)
    return bool(value)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict | None):
        raise BadRequestError(f"{name} must be an object", param=name)
    return value or {}


def _clean(text: str) -> str:
    r"""JSON may hold half a surrogate pair (`"\ud83d"`, an emoji cut in two), which is no text; it becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

"""The dialects' bodies in JSON Schema, for `/openapi.json`. `fields` reads them; schemathesis holds both together.

Fields that clients send and nothing here depends on (`min_p`, `cache_prompt`, `keep_alive`) are not listed: they are
left alone, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from homespun_core.types import Trigger
from homespun_server.dialects.calls import MAX_CHOICES
from homespun_server.dialects.fields import MAX_NAME_CHARS, MAX_STOP_CHARS, MAX_STOPS, MAX_TEMPERATURE
from homespun_server.dialects.openai import MAX_LOGPROBS, MAX_PROMPTS
from homespun_server.dialects.refusals import Dialect

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
_NAME: Schema = {"type": "string", "maxLength": MAX_NAME_CHARS}
_STOP: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARS}


def listed(item: Schema, **limits: int) -> Schema:
    return {"type": "array", "items": item, **limits}


def either(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def optional(schema: Schema) -> Schema:
    """null is as good as absent."""
    return either(schema, {"type": "null"})


def body(required: dict[str, Schema], **others: Schema) -> Schema:
    """What a client sends: `others` may be left out or null."""
    properties = required | {name: optional(schema) for name, schema in others.items()}
    return {"type": "object", "properties": properties, "required": list(required)}


def reply(**fields: Schema) -> Schema:
    """What it gets: all of them, always."""
    return {"type": "object", "properties": fields, "required": list(fields)}


_PIECE = body({"path": TEXT, "text": TEXT})
HOMESPUN = body(
    {},
    path=TEXT,
    language=TEXT,
    repo=TEXT,
    commit={"type": "string", "pattern": "^(?:[0-9a-f]{40}|[0-9a-f]{64})$"},
    client=_NAME,
    user=_NAME,
    trigger={"enum": list(get_args(Trigger))},
    raw=FLAG,
    snippets=listed(_PIECE),
) | {"description": "What Homespun understands beyond the dialect."}
_TEMPERATURE: Schema = {"type": "number", "minimum": 0, "maximum": MAX_TEMPERATURE}
_TOP_P: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_STOPS = either(_STOP, listed(_STOP, maxItems=MAX_STOPS))
_CHOICES: Schema = {"type": "integer", "minimum": 1, "maximum": MAX_CHOICES}

_OPENAI = body(
    {"prompt": either(TEXT, listed(TEXT, minItems=1, maxItems=MAX_PROMPTS))},
    suffix=TEXT,
    max_tokens=COUNT,
    max_completion_tokens=COUNT,
    temperature=_TEMPERATURE,
    top_p=_TOP_P,
    seed=WHOLE,
    stop=_STOPS,
    logprobs={"type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS},
    n=_CHOICES,
    best_of={"const": 1},
    model=TEXT,
    stream=FLAG,
    stream_options=body({}, include_usage=FLAG),
    echo=FLAG,
    homespun=HOMESPUN,
)
_SILENT = {"properties": {"logprobs": {"type": "null"}}}
OPENAI_BODY = _OPENAI | {"anyOf": [_SILENT, {"properties": {"echo": {"enum": [None, False]}}}]}
_GATHERED = listed(body({"filepath": TEXT, "body": TEXT}))
TABBY_BODY = body(
    {
        "segments": body(
            {"prefix": TEXT},
            suffix=TEXT,
            filepath=TEXT,
            git_url=TEXT,
            declarations=_GATHERED,
            relevant_snippets_from_changed_files=_GATHERED,
            relevant_snippets_from_recently_opened_files=_GATHERED,
        )
    },
    language=TEXT,
    user=_NAME,
    temperature=_TEMPERATURE,
    seed=WHOLE,
    mode=TEXT,
    debug_options=body({}, return_snippets=FLAG),
    homespun=HOMESPUN,
)
OPENAI_OR_TABBY_BODY = either(OPENAI_BODY, TABBY_BODY)
MISTRAL_BODY = body(
    {"prompt": TEXT},
    suffix=TEXT,
    max_tokens=COUNT,
    temperature=_TEMPERATURE,
    top_p=_TOP_P,
    random_seed=WHOLE,
    stop=_STOPS,
    model=TEXT,
    stream=FLAG,
    homespun=HOMESPUN,
)
_LLAMA: dict[str, Schema] = {
    "n_predict": WHOLE,
    "max_tokens": WHOLE,
    "n_cmpl": _CHOICES,
    "n_indent": COUNT,
    "temperature": _TEMPERATURE,
    "top_p": _TOP_P,
    "top_k": WHOLE,
    "seed": WHOLE,
    "stop": _STOPS,
    "t_max_predict_ms": NUMBER,
    "response_fields": listed(TEXT),
    "model": TEXT,
    "stream": FLAG,
    "homespun": HOMESPUN,
}
INFILL_BODY = body(
    {"input_prefix": TEXT, "input_suffix": TEXT},
    prompt=TEXT,
    input_extra=listed(body({"text": TEXT}, filename=TEXT)),
    **_LLAMA,
)
LLAMA_BODY = body({"prompt": TEXT}, **_LLAMA)
OLLAMA_BODY = body(
    {},
    model=TEXT,
    prompt=TEXT,
    suffix=TEXT,
    stream=FLAG,
    options=body({}, num_predict=WHOLE, temperature=_TEMPERATURE, top_p=_TOP_P, top_k=WHOLE, seed=WHOLE, stop=_STOPS),
    homespun=HOMESPUN,
)
OLLAMA_SHOW_BODY = body({})
TGI_BODY = body(
    {"inputs": TEXT},
    stream=FLAG,
    parameters=body(
        {},
        max_new_tokens=COUNT,
        temperature=_TEMPERATURE,
        top_p=_TOP_P,
        top_k=WHOLE,
        do_sample=FLAG,
        seed=COUNT,
        stop=_STOPS,
        stop_sequences=_STOPS,
        best_of={"const": 1},
        details=FLAG,
        return_full_text=FLAG,
    ),
    homespun=HOMESPUN,
)

_USAGE = reply(prompt_tokens=COUNT, completion_tokens=COUNT, total_tokens=COUNT)
_LOGPROBS = reply(
    tokens=listed(TEXT),
    token_logprobs=listed(NUMBER),
    top_logprobs=listed({"type": "object", "additionalProperties": NUMBER}),
    text_offset=listed(COUNT),
)
_FINISHED: Schema = {"enum": ["stop", "length"]}
OPENAI_REPLY = reply(
    id=TEXT,
    object={"const": "text_completion"},
    created=COUNT,
    model=TEXT,
    choices=listed(reply(text=TEXT, index=COUNT, finish_reason=_FINISHED, logprobs=optional(_LOGPROBS)), minItems=1),
    usage=_USAGE,
)
TABBY_REPLY = reply(id=TEXT, choices=listed(reply(index={"const": 0}, text=TEXT), minItems=1, maxItems=1))
OPENAI_OR_TABBY_REPLY = either(OPENAI_REPLY, TABBY_REPLY)
_MESSAGE = reply(role={"const": "assistant"}, content=TEXT)
MISTRAL_REPLY = reply(
    id=TEXT,
    object={"const": "chat.completion"},
    created=COUNT,
    model=TEXT,
    choices=listed(reply(index=COUNT, message=_MESSAGE, finish_reason=_FINISHED), minItems=1, maxItems=1),
    usage=_USAGE,
)
_LLAMA_REPLY: Schema = {
    "type": "object",
    "description": "The fields of response_fields alone, if that is given.",
    "properties": {"content": TEXT, "stop": {"const": True}, "tokens_predicted": COUNT, "timings": {"type": "object"}},
}
LLAMA_REPLY = either(_LLAMA_REPLY, listed(_LLAMA_REPLY))
OLLAMA_REPLY = reply(
    model=TEXT,
    created_at=TEXT,
    response=TEXT,
    done={"const": True},
    done_reason={"enum": ["stop", "length", "load"]},
    prompt_eval_count=COUNT,
    eval_count=COUNT,
    total_duration=COUNT,
)
_TGI_REPLY = reply(generated_text=TEXT)
TGI_REPLY = either(_TGI_REPLY, listed(_TGI_REPLY))

MODEL = reply(id=TEXT, object={"const": "model"}, created=COUNT, owned_by=TEXT, max_model_len=COUNT)
MODELS = reply(object={"const": "list"}, data=listed(MODEL))
TABBY_VERSION = reply(build_date=TEXT, build_timestamp=TEXT, git_sha=TEXT, git_describe=TEXT)
TABBY_HEALTH = reply(
    model=TEXT,
    device=TEXT,
    arch=TEXT,
    cpu_info=TEXT,
    cpu_count=COUNT,
    cuda_devices=listed(TEXT),
    version=TABBY_VERSION,
)
TABBY_MODELS = reply(completion=listed(TEXT), chat={"type": "null"}, embedding={"type": "null"})
TABBY_SETTING = reply(disable_client_side_telemetry=FLAG)
LLAMA_HEALTH = reply(status={"const": "ok"})
LLAMA_PROPS = reply(default_generation_settings=reply(n_ctx=COUNT), total_slots=COUNT, model_path=TEXT, build_info=TEXT)
LLAMA_SLOTS = listed(reply(id=COUNT, n_ctx=COUNT, is_processing=FLAG))
_OLLAMA_MODEL = reply(name=TEXT, model=TEXT, size=COUNT, digest=TEXT, details={"type": "object"})
OLLAMA_MODELS = reply(models=listed(_OLLAMA_MODEL))
OLLAMA_SHOW = reply(template=TEXT, capabilities=listed(TEXT), details={"type": "object"}, model_info={"type": "object"})
OLLAMA_VERSION = reply(version=TEXT)
TGI_INFO = reply(model_id=TEXT, max_input_length=COUNT, max_total_tokens=COUNT, version=TEXT)

_OPENAI_ERROR = reply(message=TEXT, type=TEXT, code=TEXT, param=optional(TEXT))
ERRORS: Mapping[Dialect, Schema] = {
    "openai": reply(error=_OPENAI_ERROR),
    "mistral": reply(object={"const": "error"}, detail=TEXT, **_OPENAI_ERROR["properties"]),
    "llama.cpp": reply(error=reply(code=WHOLE, message=TEXT, type=TEXT)),
    "ollama": reply(error=TEXT),
    "tgi": reply(error=TEXT, error_type={"enum": ["validation", "overloaded", "generation"]}),
}

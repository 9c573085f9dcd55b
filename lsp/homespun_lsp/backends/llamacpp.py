"""llama.cpp's own server. It knows its model's control tokens and puts them around what it is given, the prefix first;
models that learned it the other way round answer nonsense then, and get their prompt whole (`templates`)."""

from __future__ import annotations

from homespun_lsp.backends.exchange import Answer, Ask, Call, mapping, text_in
from homespun_lsp.backends.templates import fill_in, stops

_MAX_PREDICT_MS = 500
"""From the first line on, as llama.vscode has it: longer texts come when there is time for them."""


def call(ask: Ask) -> Call:
    """The line before the cursor goes in by itself, behind the control token of the middle, to be gone on with."""
    query = ask.query
    body = {
        "n_predict": ask.max_tokens,
        "t_max_predict_ms": _MAX_PREDICT_MS,
        "stop": query.stop,
        "temperature": 0,
        "cache_prompt": True,
        "stream": False,
    }
    if ask.template is not None:
        prompt = fill_in(ask.template, query.prefix, query.suffix)
        return Call(path="/completion", body=body | {"prompt": prompt, "stop": [*query.stop, *stops(ask.template)]})
    above, newline, line = query.prefix.rpartition("\n")
    where = {"input_prefix": above + newline, "prompt": line, "input_suffix": query.suffix}
    return Call(path="/infill", body=body | where)


def answer(body: object) -> Answer:
    reply = mapping(body)
    return Answer(text_in(reply["content"]), is_truncated=reply.get("stop_type") == "limit")

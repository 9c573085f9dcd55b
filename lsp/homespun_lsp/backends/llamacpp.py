"""llama.cpp's own server. It knows its model's control tokens and puts them around what it is given."""

from __future__ import annotations

from homespun_lsp.backends.exchange import Answer, Ask, Call, mapping, text_in

_MAX_PREDICT_MS = 500
"""From the first line on, as llama.vscode has it: longer texts come when there is time for them."""


def call(ask: Ask) -> Call:
    """The line before the cursor goes in by itself, behind the control token of the middle, to be gone on with."""
    above, newline, line = ask.query.prefix.rpartition("\n")
    body = {
        "input_prefix": above + newline,
        "prompt": line,
        "input_suffix": ask.query.suffix,
        "n_predict": ask.max_tokens,
        "t_max_predict_ms": _MAX_PREDICT_MS,
        "stop": ask.query.stop,
        "temperature": 0,
        "cache_prompt": True,
        "stream": False,
    }
    return Call(path="/infill", body=body)


def answer(body: object) -> Answer:
    reply = mapping(body)
    return Answer(text_in(reply["content"]), is_truncated=reply.get("stop_type") == "limit")

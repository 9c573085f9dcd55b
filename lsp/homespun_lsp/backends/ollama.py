"""Ollama. It has a template for each model; where that one knows no suffix, the option `fim` makes up for it."""

from __future__ import annotations

from homespun_lsp.backends.exchange import Answer, Ask, Call, mapping, text_in
from homespun_lsp.backends.templates import fill_in, stops


def call(ask: Ask) -> Call:
    query = ask.query
    options: dict[str, object] = {"num_predict": ask.max_tokens, "temperature": 0, "stop": query.stop}
    body: dict[str, object] = {"model": ask.model, "stream": False}
    if ask.template is None:
        body |= {"prompt": query.prefix, "suffix": query.suffix, "options": options}
    else:
        prompt = fill_in(ask.template, query.prefix, query.suffix)
        body |= {"prompt": prompt, "raw": True, "options": options | {"stop": [*query.stop, *stops(ask.template)]}}
    return Call(path="/api/generate", body=body)


def answer(body: object) -> Answer:
    reply = mapping(body)
    return Answer(text_in(reply["response"]), is_truncated=reply.get("done_reason") == "length")

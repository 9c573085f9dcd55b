"""A Homespun server: OpenAI's completions, with what personalises them."""

from __future__ import annotations

from homespun_core.types import CLIENT_HEADER
from homespun_lsp.backends.exchange import Answer, Ask, Call, first_choice, mapping, text_in


def call(ask: Ask) -> Call:
    query = ask.query
    about = {"client": ask.client, "user": ask.user, **query.about}
    body: dict[str, object] = {
        "prompt": query.prefix,
        "suffix": query.suffix,
        "max_tokens": ask.max_tokens,
        "temperature": 0,
        "homespun": {name: value for name, value in about.items() if value},
    }
    if query.stop:
        body["stop"] = query.stop
    # Also in front of the body, which a server under load doesn't read of everybody.
    return Call(path="/v1/completions", body=body, headers={CLIENT_HEADER: ask.client})


def answer(body: object) -> Answer:
    text = text_in(first_choice(body)["text"])
    id = mapping(body).get("id")
    return Answer(text if text.strip() else "", id if isinstance(id, str) else None)

"""Mistral's fill-in-the-middle endpoint, which Codestral is asked through."""

from __future__ import annotations

from homespun_lsp.backends.exchange import Answer, Ask, Call, first_choice, mapping, text_in
from homespun_lsp.backends.openai import prefix_and_suffix, without_absent

_MODEL = "codestral-latest"


def call(ask: Ask) -> Call:
    return Call(path="/v1/fim/completions", body=without_absent(prefix_and_suffix(ask, ask.model or _MODEL)))


def answer(body: object) -> Answer:
    choice = first_choice(body)
    return Answer(text_in(mapping(choice["message"])["content"]), is_truncated=choice.get("finish_reason") == "length")

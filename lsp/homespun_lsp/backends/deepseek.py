"""DeepSeek's beta endpoint: OpenAI's shape at a path of its own."""

from __future__ import annotations

from homespun_lsp.backends import openai
from homespun_lsp.backends.exchange import Ask, Call

_MODEL = "deepseek-chat"


def call(ask: Ask) -> Call:
    body = openai.prefix_and_suffix(ask, ask.model or _MODEL)
    return Call(path="/beta/completions", body=openai.without_absent(body))


answer = openai.answer

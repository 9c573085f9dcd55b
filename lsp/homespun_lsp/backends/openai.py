"""OpenAI's legacy completions: vLLM, LM Studio, text-generation-inference, LocalAI, …

vLLM ignores `suffix`, so the models we know by their names get a prompt with their own control tokens (`templates`).
"""

from __future__ import annotations

from collections.abc import Mapping

from homespun_lsp.backends.exchange import Answer, Ask, Call, first_choice, text_in
from homespun_lsp.backends.templates import fill_in, stops

_MAX_STOPS = 4
"""OpenAI refuses more."""


def call(ask: Ask) -> Call:
    body = prefix_and_suffix(ask, ask.model)
    if ask.template is not None:
        prompt = fill_in(ask.template, ask.query.prefix, ask.query.suffix)
        body |= {"prompt": prompt, "suffix": None, "stop": [*ask.query.stop, *stops(ask.template)][:_MAX_STOPS]}
    return Call(path="/v1/completions", body=without_absent(body))


def answer(body: object) -> Answer:
    choice = first_choice(body)
    return Answer(text_in(choice["text"]), is_truncated=choice.get("finish_reason") == "length")


def without_absent(body: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in body.items() if value is not None}


def prefix_and_suffix(ask: Ask, model: str) -> dict[str, object]:
    return {
        "model": model or None,
        "prompt": ask.query.prefix,
        "suffix": ask.query.suffix,
        "max_tokens": ask.max_tokens,
        "stop": ask.query.stop or None,
        "temperature": 0,
        "stream": False,
    }

"""Tabby's server, which brings its own post-processing and retrieval."""

from __future__ import annotations

from homespun_lsp.backends.exchange import Answer, Ask, Call, first_choice, text_in


def call(ask: Ask) -> Call:
    query = ask.query
    segments = {"prefix": query.prefix, "suffix": query.suffix, "filepath": query.path, "git_url": query.repo}
    known = {name: value for name, value in segments.items() if value is not None}
    return Call(path="/v1/completions", body={"language": query.language, "segments": known, "temperature": 0.0})


def answer(body: object) -> Answer:
    return Answer(text_in(first_choice(body)["text"]))

"""What the playground asks for and shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from homespun_core.languages import language_of_path
from homespun_core.types import CompletionRequest, SearchQuery, Snippet
from homespun_indexer.lexical import terms_of, words
from homespun_indexer.search import term_weights, window
from homespun_server.explained import Explained

_MAX_SHARED = 8
_ARMS = {
    "usage": "looks like what is being written",
    "definition": "defines a name in reach",
    "editor": "sent by the editor",
}
EXAMPLE = {"path": "", "prefix": "def add(a: int, b: int) -> int:\n    return ", "suffix": "\n", "repository": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A snippet and why it was chosen."""

    snippet: Snippet
    arm: str
    shared: Sequence[str]
    """Words it has in common with the lines around the cursor, those that weigh most first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the comparison: a value for each rung of the ladder."""

    title: str
    values: Sequence[str]


def request_of(form: Mapping[str, str]) -> CompletionRequest:
    path, repo = form.get("path", "").strip(), form.get("repository")
    return request_at(path or None, form.get("prefix", ""), form.get("suffix", ""), repo or None)


def request_at(path: str | None, prefix: str, suffix: str, repo: str | None) -> CompletionRequest:
    language = language_of_path(path) if path else None
    return CompletionRequest(
        prefix=prefix.replace("\r\n", "\n"),
        suffix=suffix.replace("\r\n", "\n"),
        path=path,
        language=language.name if language else None,
        repo=repo,
        trigger="invoked",
    )


def as_json(request: CompletionRequest, ladder: Sequence[Explained]) -> dict[str, Any]:
    """What the page shows, for programs."""
    last = ladder[-1]
    return {
        "path": request.path,
        "repository": last.repository,
        "prompt_version": last.prompt_version,
        "arms": [_arm(rung) for rung in ladder],
        "compared": [asdict(row) for row in compared(ladder)],
        "snippets": [
            {
                "path": one.snippet.path,
                "start_line": one.snippet.start_line,
                "score": one.snippet.score,
                "why": one.arm,
                "shared": list(one.shared),
                "text": one.snippet.text,
            }
            for one in chosen(request, last.completion.snippets)
        ],
        "prompt_tokens": last.completion.prompt_tokens,
        "prompt": [asdict(piece) for piece in last.prompt],
        "opening": last.opening,
    }


def _arm(rung: Explained) -> dict[str, Any]:
    made = rung.completion
    return {
        "title": rung.layers.title,
        "layers": asdict(rung.layers),
        "text": made.text,
        "finish_reason": made.finish_reason,
        "adapter": made.adapter and made.adapter.rpartition("/")[2],
        "degraded": list(made.degraded),
        "timings": asdict(made.timings) | {"total_ms": rung.total_ms},
        "stats": asdict(rung.stats) if rung.stats else None,
    }


def chosen(request: CompletionRequest, snippets: Sequence[Snippet]) -> list[Chosen]:
    """In the order of the prompt reversed: best first."""
    query = SearchQuery(prefix=request.prefix, suffix=request.suffix, path=request.path, language=request.language)
    weights = term_weights(window(query))
    return [
        Chosen(snippet=s, arm=_ARMS.get(s.source, s.source), shared=_shared(weights, s.text))
        for s in reversed(snippets)
    ]


def _shared(weights: Mapping[str, float], text: str) -> list[str]:
    found = {word: max((weights.get(term, 0.0) for term in terms_of(word)), default=0.0) for word in words(text)}
    known = sorted((word for word in found if found[word] > 0), key=lambda word: (-found[word], -len(word), word))
    return known[:_MAX_SHARED]


def compared(ladder: Sequence[Explained]) -> list[Row]:
    """Times and counts of all rungs, side by side."""
    timings = [rung.completion.timings for rung in ladder]
    stats = [rung.stats for rung in ladder]
    version = ladder[-1].prompt_version
    tried = [] if version is None else [Row(title="prompt version", values=[version] * len(ladder))]
    return [
        *tried,
        Row(title="adapter", values=[(rung.completion.adapter or "none").rpartition("/")[2] for rung in ladder]),
        Row(title="snippets", values=[str(len(rung.completion.snippets)) for rung in ladder]),
        Row(title="tokens in the prompt", values=[f"{rung.completion.prompt_tokens:,}" for rung in ladder]),
        Row(title="tokens decoded", values=[f"{s.completion_tokens:,}" if s else "–" for s in stats]),
        Row(title="steps of the model", values=[f"{s.num_steps:,}" if s else "–" for s in stats]),
        Row(title="drafts: accepted of proposed", values=[_drafts(rung) for rung in ladder]),
        Row(title="finding snippets", values=[f"{t.retrieve_ms:.0f} ms" for t in timings]),
        Row(title="waiting", values=[f"{t.queue_ms:.0f} ms" for t in timings]),
        Row(title="reading the prompt", values=[f"{t.prefill_ms:.0f} ms" for t in timings]),
        Row(title="decoding", values=[f"{t.decode_ms:.0f} ms" for t in timings]),
        Row(title="all together", values=[f"{rung.total_ms:.0f} ms" for rung in ladder]),
        Row(title="went without", values=[", ".join(rung.completion.degraded) or "nothing" for rung in ladder]),
    ]


def _drafts(rung: Explained) -> str:
    return f"{rung.stats.accepted_tokens} of {rung.stats.drafted_tokens}" if rung.stats else "–"

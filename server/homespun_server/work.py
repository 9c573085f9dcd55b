"""One completion on its way: what is known of it, what is remembered, and what is logged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homespun_core.languages import language_of_path
from homespun_core.prompt import Prompt
from homespun_core.types import Completion, CompletionRequest, Snippet
from homespun_server.admission import Allowance
from homespun_server.assembly import Assembly, is_decided
from homespun_server.engine.protocol import EngineRequest, EngineStats, Priority, Token
from homespun_server.explained import Layers
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.features import features
from homespun_server.live import LiveRepository
from homespun_server.prompts import Prompting


@dataclass(slots=True, kw_only=True)
class Work:
    """One completion on its way."""

    request: CompletionRequest
    repository: LiveRepository | None
    priority: Priority
    allowed: Allowance
    prompting: Prompting
    assembly: Assembly
    has_crlf: bool
    started: float
    deadline: float
    retrieve_ms: float = 0.0
    prompt: Prompt = field(default_factory=lambda: Prompt(ids=(), snippets=()))
    adapter: str | None = None
    asked: EngineRequest | None = None
    """What the engine was asked for last."""
    stats: EngineStats | None = None
    judged: str = ""
    """The whole lines that were last found not to decide the completion."""
    degraded: list[str] = field(default_factory=list)
    """As in `Completion`."""
    tokens: list[Token] = field(default_factory=list)
    num_spelling: int = 0
    """So many of them, the first ones, spell what was typed of a word: how likely they were says nothing."""
    first_token_at: float = 0.0
    is_unsure: bool = False
    """Whether `min_confidence` ended it."""
    is_late: bool = False
    """Whether `max_decode_ms` ended it."""
    explains: Layers | None = None
    """Only so much is used, and nothing that was computed before; None: as served."""

    @property
    def tenant(self) -> str:
        """Whoever may read this repository; with accounts each of them alone, since what they type isn't in it yet."""
        if self.explains is not None:
            return f"explained/{self.started}"
        return "/".join(filter(None, (self.repository.id if self.repository else "", self.request.account)))

    @property
    def neighbours(self) -> str:
        """Who shares the snippets that stay at a place: of a tenant, those whose prompts are of one version."""
        version = self.prompting.version
        return self.tenant if version is None else f"{self.tenant}\0{version}"

    @property
    def sent(self) -> tuple[Snippet, ...]:
        """What the client has beside the file, where that counts."""
        return self.request.snippets if self.prompting.settings.editor_context else ()

    def has_no_time_left(self) -> bool:
        """Asked after each token; counted from the first one, and only once there is a whole line."""
        if self.request.max_decode_ms is None:
            return False
        now = time.monotonic()
        self.first_token_at = self.first_token_at or now
        return "\n" in self.assembly.text and (now - self.first_token_at) * 1e3 >= self.request.max_decode_ms

    def shown(self, text: str) -> str:
        """With the line ends of the client's file."""
        return text.replace("\n", "\r\n") if self.has_crlf else text


def decided(work: Work) -> bool:
    """Asked once for each line that is complete: a suffix can be long."""
    request, text = work.request, work.assembly.text
    lines = text[: text.rfind("\n") + 1]
    if request.raw or lines == work.judged:
        return False
    work.judged = lines
    return is_decided(request.prefix, lines, request.suffix, request.language)


def is_opportunity(work: Work) -> bool:
    """Whether somebody may see it: not what only prepares a place, is raw, or was replaced by a newer request. (One
    that is "cancelled" was complete before the model ended it.)"""
    is_replaced = work.stats is not None and work.stats.finish_reason == "superseded"
    return work.priority != "warm" and not work.request.raw and not is_replaced


def fact_of(request_id: str, work: Work, completion: Completion) -> CompletionFact:
    request, repository = work.request, work.repository
    latency_ms = (time.monotonic() - work.started) * 1e3
    logprobs = [token.logprob for token in work.tokens[work.num_spelling :]]
    return CompletionFact(
        id=request_id,
        time=time.time() - latency_ms / 1e3,
        user=(request.whose or "").replace("\0", ""),
        repository=repository.id if repository else None,
        language=(request.language or "")[:64].replace("\0", "") or None,
        adapter=work.adapter.rpartition("/")[2] if work.adapter else None,
        characters=len(completion.text),
        first_line=len(completion.text.partition("\n")[0]),
        latency_ms=latency_ms,
        features=features(request, completion, logprobs, is_invoked=work.priority == "invoked"),
        editor=request.editor,
        prompt_version=work.prompting.mark,
        is_ahead=work.priority == "ahead",
    )


def language_at(path: str | None) -> str | None:
    """For clients that don't say it."""
    found = language_of_path(path) if path else None
    return found.name if found else None


def relative(path: str | None, repository: LiveRepository | None) -> str | None:
    """As in training: from the repository's root, `/`-separated."""
    if path is None:
        return None
    path = path.replace("\\", "/").removeprefix("file://")
    root = repository.identity if repository else None
    if root and root.startswith("/") and path.startswith(f"{root}/"):
        return path[len(root) + 1 :]
    return path.lstrip("/") or None


def _index_stands(work: Work) -> str | None:
    """Whether it is of the commit that the client's working tree stands at: the first thing to know where somebody
    misses their own code."""
    reader = work.repository.reader if work.repository else None
    if reader is None or work.request.commit is None:
        return None
    return "same" if reader.manifest.sources.get("commit") == work.request.commit else "other"


def fields_of(request_id: str, work: Work, outcome: str) -> Mapping[str, Any]:
    stats, version = work.stats, work.prompting.version
    return {
        "id": request_id,
        "repo": work.repository.id if work.repository else None,
        "adapter": work.adapter,
        "outcome": outcome,
        "prompt": len(work.prompt.ids),
        "cached": stats.cached_tokens if stats else 0,
        "new": stats.completion_tokens if stats else 0,
        "snippets": len(work.prompt.snippets),
        "index": _index_stands(work),
        "retrieve_ms": work.retrieve_ms,
        "queue_ms": stats.queue_ms if stats else 0.0,
        "prefill_ms": stats.prefill_ms if stats else 0.0,
        "decode_ms": stats.decode_ms if stats else 0.0,
        "total_ms": (time.monotonic() - work.started) * 1e3,
        **({} if version is None else {"prompt_version": version}),
    }

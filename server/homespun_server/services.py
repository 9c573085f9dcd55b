"""From a completion request to a completion: choose the repository, retrieve, build the prompt, decode, post-process.

What fails on the way costs quality or speed, not the answer: first the snippets go, then the adapter, and at last the
completion is empty. A full queue is the one thing that is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from homespun_core.config import Settings
from homespun_core.errors import ConfigError, HomespunError
from homespun_core.fim import FimFormat
from homespun_core.logs import with_fields
from homespun_core.postprocess import finish
from homespun_core.prompt import Prompt, PromptBuilder, PromptLimits
from homespun_core.types import (
    Completion,
    CompletionRequest,
    ScoredToken,
    SearchQuery,
    Snippet,
    Timings,
    Tokenizer,
)
from homespun_server.admission import Allowance, allowance, token_budget
from homespun_server.assembly import Assembly, is_decided, scored
from homespun_server.drafts import Recent, drafter
from homespun_server.engine.protocol import Draft, Engine, EngineBusyError, EngineRequest, EngineStats, Priority, Token
from homespun_server.engine.spelling import Vocabulary
from homespun_server.explained import Explained, Layers, pieces
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.features import features
from homespun_server.metrics import Metrics, outcome_of
from homespun_server.retrieval import Retriever
from homespun_server.snapshots import LiveRepository, pick
from homespun_server.snippets import merged
from homespun_server.tracing import Trace

logger = logging.getLogger(__name__)

_MIN_PROMPT_TOKENS = 64
_MAX_TENANTS = 1_000
_DATASTORE_PAYS_MS = 3.0
"""A lookup for a draft takes 0.15 to 0.33 ms a step, and saves 1 to 4 % of the steps."""


class Repositories(Protocol):
    """Where a completer looks up what is live."""

    def visible_to(self, readable: frozenset[str] | None) -> tuple[LiveRepository, ...]:
        """What somebody may be served who may read these (ids; None is all)."""
        ...


@dataclass(slots=True, kw_only=True)
class _Work:
    """One completion on its way."""

    request: CompletionRequest
    repository: LiveRepository | None
    priority: Priority
    allowed: Allowance
    assembly: Assembly
    has_crlf: bool
    started: float
    deadline: float
    retrieve_ms: float = 0.0
    prompt: Prompt = field(default_factory=lambda: Prompt(ids=(), snippets=()))
    adapter: str | None = None
    stats: EngineStats | None = None
    judged: str = ""
    """The whole lines that were last found not to decide the completion."""
    degraded: list[str] = field(default_factory=list)
    """As in `Completion`."""
    tokens: list[Token] = field(default_factory=list)
    first_token_at: float = 0.0
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


class Completer:
    def __init__(
        self,
        *,
        engine: Engine,
        tokenizer: Tokenizer,
        format: FimFormat,
        repositories: Repositories,
        settings: Settings,
        metrics: Metrics,
        record: Callable[[CompletionFact], None] | None = None,
        judged: Callable[[CompletionFact], CompletionFact] = lambda fact: fact,
        trace: Trace = lambda fields: None,
    ) -> None:
        """`record` takes what is remembered of each completion, after `judged` added what the show/hide filter says;
        `trace` what is logged of it.

        Raises ConfigError when the model's context has no room for a prompt and max_new_tokens."""
        self._engine, self._tokenizer, self._format = engine, tokenizer, format
        self._repositories, self._settings, self._metrics = repositories, settings, metrics
        self._record, self._judged, self._trace = record, judged, trace
        room = engine.max_context - settings.max_new_tokens
        if room < _MIN_PROMPT_TOKENS:
            raise ConfigError(
                f"max_new_tokens: {settings.max_new_tokens} leaves {max(0, room)} of the model's"
                f" {engine.max_context} tokens for the prompt; lower it"
            )
        limits = PromptLimits(max_tokens=min(settings.max_prompt_tokens, room))
        self._builder = PromptBuilder(
            tokenizer=tokenizer, format=format, limits=limits, is_healing=engine.can_constrain
        )
        self._vocabulary = Vocabulary(tokenizer.spelled)
        self._retriever = Retriever(deadline_ms=settings.retrieve_deadline_ms)
        self._recent: OrderedDict[str, Recent] = OrderedDict()
        """By tenant, the last to complete last."""

    def close(self) -> None:
        self._retriever.close()

    async def complete(self, request: CompletionRequest, request_id: str) -> Completion:
        """Raises EngineBusyError when too many wait; anything else ends in a completion."""
        async with aclosing(self.stream(request, request_id)) as parts:
            async for part in parts:
                if isinstance(part, Completion):
                    return part
        raise AssertionError("a stream ends with its completion")

    async def stream(self, request: CompletionRequest, request_id: str) -> AsyncGenerator[str | Completion]:
        """The text in parts that are never taken back, then the completion. Closing the iterator cancels the work.

        Post-processing may drop everything until the end is known: its text comes as one part, `raw` text as decoded.
        """
        work = self._begin(request)
        outcome = "cancelled"
        try:
            await self._prepare(work)
            num_sent = 0
            async with aclosing(self._decode(work)) as texts:
                async for text in texts:
                    if request.raw and len(text) > num_sent:
                        yield work.shown(text[num_sent:])
                        num_sent = len(text)
            completion = self._filtered(request_id, work, self._completion(work))
            rest = work.shown(work.assembly.text[num_sent:]) if request.raw else completion.text
            if rest:
                yield rest
            outcome = outcome_of(completion)
            self._metrics.completed(completion, time.monotonic() - work.started)
            for reason in completion.degraded:
                self._metrics.degraded.labels(reason).inc()
            yield completion
        except EngineBusyError:
            outcome = "shed"
            self._metrics.shed.labels("queue").inc()
            raise
        finally:
            if outcome in ("cancelled", "shed"):
                self._metrics.completions.labels(outcome).inc()
            fields = _fields(request_id, work, outcome)
            logger.info("completion", extra=with_fields(**fields))
            self._trace(fields)

    async def explain(self, request: CompletionRequest, layers: Layers) -> Explained:
        """The same with these layers alone, neither remembered nor counted as a completion. Nothing kept from earlier
        requests is used, so that times compare. Raises EngineBusyError."""
        work = self._begin(request)
        work.explains = layers
        await self._prepare(work)
        async for _ in self._decode(work):
            pass
        self._recent.pop(work.tenant, None)
        return Explained(
            layers=layers,
            completion=self._completion(work),
            prompt=pieces(work.prompt.ids, self._tokenizer.spelled, self._format.ids),
            opening=work.prompt.opening,
            repository=work.repository.name or work.repository.id if work.repository else None,
            stats=work.stats,
            total_ms=(time.monotonic() - work.started) * 1e3,
        )

    def _begin(self, request: CompletionRequest) -> _Work:
        settings, now = self._settings, time.monotonic()
        repository = pick(self._repositories.visible_to(request.readable), request.repo)
        priority: Priority = request.trigger if request.max_new_tokens else "warm"
        prefix, suffix = request.prefix.replace("\r\n", "\n"), request.suffix.replace("\r\n", "\n")
        wanted = min(request.max_new_tokens, settings.max_new_tokens)
        allowed = allowance(
            self._engine.load(),
            target_ms=settings.target_ms,
            priority=priority,
            snippets=settings.snippet_count,
            max_new_tokens=wanted if request.raw else token_budget(suffix, wanted),
        )
        return _Work(
            request=replace(
                request,
                prefix=prefix,
                suffix=suffix,
                path=_relative(request.path, repository),
                max_new_tokens=allowed.max_new_tokens,
            ),
            repository=repository,
            priority=priority,
            allowed=allowed,
            assembly=Assembly(self._tokenizer.decode, [stop.replace("\r\n", "\n") for stop in request.stop]),
            has_crlf="\r\n" in request.prefix or "\r\n" in request.suffix,
            started=now,
            deadline=now + min(request.deadline_ms, settings.completion_deadline_ms) / 1e3,
            degraded=list(allowed.reasons),
        )

    async def _prepare(self, work: _Work) -> None:
        request, repository = work.request, work.repository
        snippets = await self._snippets(work)
        work.retrieve_ms = (time.monotonic() - work.started) * 1e3
        work.prompt = self._builder.build(
            prefix=request.prefix,
            suffix=request.suffix,
            path=request.path,
            language=request.language,
            repo=repository.name if repository else None,
            snippets=snippets,
        )
        work.assembly.opening = work.prompt.opening

    async def _snippets(self, work: _Work) -> tuple[Snippet, ...]:
        request, repository = work.request, work.repository
        if repository is None or repository.reader is None or not self._settings.retrieval:
            return merged(request.snippets, ())
        query = SearchQuery(prefix=request.prefix, suffix=request.suffix, path=request.path, language=request.language)
        if work.explains is not None:  # however long it takes: what is found is to be seen
            limit = work.allowed.snippets if work.explains.snippets else 0
            return tuple(await asyncio.to_thread(repository.reader.search, query, limit)) if limit else ()
        found = await self._retriever.search(work.tenant, repository.reader, query, work.allowed.snippets)
        if found.outcome in ("timeout", "error"):
            work.degraded.append(f"retrieval_{found.outcome}")
        return merged(request.snippets, found.snippets)

    async def _decode(self, work: _Work) -> AsyncGenerator[str]:
        """The settled text after each token. When the engine fails, less is tried, as long as nothing was written."""
        if not work.allowed.uses_model:
            self._copy(work)
            return
        for reason, attempt in self._attempts(work):
            work.adapter = attempt.adapter
            work.assembly.restart()
            work.tokens.clear()
            if reason is not None:
                work.degraded.append(reason)
            try:
                async with aclosing(self._run(work, attempt)) as texts:
                    async for text in texts:
                        yield text
                return
            except EngineBusyError:
                raise
            except HomespunError as error:
                logger.warning("decoding failed: %s", error)
                if work.assembly.text:
                    break
        work.degraded.append("engine")

    def _copy(self, work: _Work) -> None:
        """What stands in the repository wherever the last tokens do; nothing where that isn't certain."""
        reader = work.repository.reader if work.repository else None
        prompt, limit = work.prompt, work.request.max_new_tokens + work.prompt.num_opening
        for token in reader.agreed(prompt.ids, limit) if reader else ():
            work.assembly.add(token)
            if work.assembly.is_stopped:
                break

    def _attempts(self, work: _Work) -> Iterator[tuple[str | None, EngineRequest]]:
        """What to try, best first, with the name of what the next one goes without."""
        request, repository = work.request, work.repository
        full = EngineRequest(
            ids=work.prompt.ids,
            max_new_tokens=request.max_new_tokens,
            adapter=self._adapter(work),
            deadline=work.deadline,
            temperature=request.temperature,
            seed=request.seed,
            end_ids=frozenset(self._format.end_ids),
            constraint=self._vocabulary.beginning(opening) if (opening := work.prompt.opening.encode()) else None,
            draft=self._draft(work),
            tenant=work.tenant,
            client=request.client,
            priority=work.priority,
            num_alternatives=request.logprobs or 0,
        )
        yield None, full
        if full.adapter is not None:
            for other in dict.fromkeys((repository.adapter if repository else None, None)):
                if other != full.adapter:
                    yield "adapter", replace(full, adapter=other)

    def _adapter(self, work: _Work) -> str | None:
        is_wanted = work.explains is None or work.explains.adapter
        return work.repository.adapter_for(work.request.whose) if work.repository and is_wanted else None

    def _draft(self, work: _Work) -> Draft:
        reader, layers = work.repository.reader if work.repository else None, work.explains
        pays = self._engine.load().step_ms >= _DATASTORE_PAYS_MS if layers is None else layers.datastore
        return drafter(reader.draft if reader and pays else None, self._recent_of(work.tenant))

    def _recent_of(self, tenant: str) -> Recent:
        recent = self._recent.setdefault(tenant, Recent())
        self._recent.move_to_end(tenant)
        if len(self._recent) > _MAX_TENANTS:
            self._recent.popitem(last=False)
        return recent

    async def _run(self, work: _Work, attempt: EngineRequest) -> AsyncGenerator[str]:
        assembly, stream = work.assembly, self._engine.submit(attempt)
        try:
            async for token in stream:
                assembly.add(token.id)
                work.tokens.append(token)
                yield assembly.settled
                if assembly.is_stopped or _is_decided(work):
                    assembly.is_stopped = True
                    break
                if work.has_no_time_left():
                    work.is_late = True
                    break
        finally:
            await stream.aclose()
            work.stats = stream.stats
            if work.stats.has_lost_drafter:
                work.degraded.append("speculation")
            self._recent_of(work.tenant).add(work.prompt.ids, assembly.ids)

    def _completion(self, work: _Work) -> Completion:
        request, stats, text = work.request, work.stats, work.assembly.text
        has_limit = stats is not None and stats.finish_reason in ("length", "deadline")
        is_cut = (has_limit or work.is_late) and not work.assembly.is_stopped
        if stats is not None and stats.finish_reason == "superseded":
            text = ""  # nobody looks at it any more
        elif not request.raw:
            text = finish(request.prefix, text, request.suffix, truncated=is_cut, language=request.language)
        if stats is not None:
            for kind in ("prompt", "cached", "completion", "drafted", "accepted"):
                self._metrics.tokens.labels(kind).inc(getattr(stats, f"{kind}_tokens"))
        return Completion(
            text=work.shown(text),
            finish_reason="length" if is_cut else "stop",
            prompt_tokens=len(work.prompt.ids),
            cached_tokens=stats.cached_tokens if stats else 0,
            # Those that spell the opening again aren't the client's affair, who gave a limit.
            completion_tokens=min(stats.completion_tokens, request.max_new_tokens) if stats else 0,
            snippets=work.prompt.snippets,
            adapter=work.adapter,
            timings=Timings(
                retrieve_ms=work.retrieve_ms,
                queue_ms=stats.queue_ms if stats else 0.0,
                prefill_ms=stats.prefill_ms if stats else 0.0,
                decode_ms=stats.decode_ms if stats else 0.0,
            ),
            degraded=tuple(work.degraded),
            tokens=self._scored(work, text),
        )

    def _scored(self, work: _Work, text: str) -> tuple[ScoredToken, ...]:
        if work.request.logprobs is None:
            return ()
        tokens = scored(work.tokens, self._tokenizer.decode, work.prompt.opening, text)
        return tuple(replace(token, text=work.shown(token.text)) for token in tokens)

    def _filtered(self, request_id: str, work: _Work, completion: Completion) -> Completion:
        """Remembered, and hidden if the filter says so: what is remembered is what would have been shown."""
        if not _is_opportunity(work):
            return completion
        fact = self._judged(_fact(request_id, work, completion))
        if self._record is not None:
            self._record(fact)
        return replace(completion, text="", tokens=(), hidden_by="filter") if fact.verdict == "hide" else completion


def _is_decided(work: _Work) -> bool:
    """Asked once for each line that is complete: a suffix can be long."""
    request, text = work.request, work.assembly.text
    lines = text[: text.rfind("\n") + 1]
    if request.raw or lines == work.judged:
        return False
    work.judged = lines
    return is_decided(request.prefix, lines, request.suffix, request.language)


def _is_opportunity(work: _Work) -> bool:
    """Whether somebody may see it: not what only prepares a place, is raw, or was replaced by a newer request. (One
    that is "cancelled" was complete before the model ended it.)"""
    is_replaced = work.stats is not None and work.stats.finish_reason == "superseded"
    return work.priority != "warm" and not work.request.raw and not is_replaced


def _fact(request_id: str, work: _Work, completion: Completion) -> CompletionFact:
    request, repository = work.request, work.repository
    latency_ms = (time.monotonic() - work.started) * 1e3
    logprobs = [token.logprob for token in work.tokens[work.prompt.num_opening :]]
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
        is_ahead=work.priority == "ahead",
    )


def _relative(path: str | None, repository: LiveRepository | None) -> str | None:
    """As in training: from the repository's root, `/`-separated."""
    if path is None:
        return None
    path = path.replace("\\", "/").removeprefix("file://")
    root = repository.identity if repository else None
    if root and root.startswith("/") and path.startswith(f"{root}/"):
        return path[len(root) + 1 :]
    return path.lstrip("/") or None


def _index_stands(work: _Work) -> str | None:
    """Whether it is of the commit that the client's working tree stands at: the first thing to know where somebody
    misses their own code."""
    reader = work.repository.reader if work.repository else None
    if reader is None or work.request.commit is None:
        return None
    return "same" if reader.manifest.sources.get("commit") == work.request.commit else "other"


def _fields(request_id: str, work: _Work, outcome: str) -> Mapping[str, Any]:
    stats = work.stats
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
    }

"""From a completion request to a completion: choose the repository, retrieve, build the prompt, decode, post-process.

What fails on the way costs quality or speed, not the answer: first the snippets go, then the adapter, and at last the
completion is empty. A full queue is the one thing that is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from homespun_core.config import Settings
from homespun_core.errors import ConfigError, HomespunError
from homespun_core.fim import FimFormat
from homespun_core.logs import with_fields
from homespun_core.postprocess import finish
from homespun_core.prompt import PromptBuilder, PromptLimits, heals
from homespun_core.types import (
    Completion,
    CompletionRequest,
    Part,
    ScoredToken,
    SearchQuery,
    Snippet,
    Timings,
    Tokenizer,
)
from homespun_server.admission import allowance, token_budget
from homespun_server.assembly import Assembly, is_unsure, scored
from homespun_server.attempts import Attempts, Repositories
from homespun_server.engine.protocol import (
    AdapterLoadingError,
    Engine,
    EngineBusyError,
    EngineRequest,
    Priority,
)
from homespun_server.explained import Explained, Layers, pieces
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.keeping import Keeping
from homespun_server.live import pick
from homespun_server.metrics import Metrics, outcome_of
from homespun_server.prompts import Prompts
from homespun_server.retrieval import Retriever
from homespun_server.rollout.prompts import Trial
from homespun_server.shadow.shadowing import Shadow, Silent, ms_per_token
from homespun_server.snippets import merged
from homespun_server.telling import Telling
from homespun_server.tracing import Trace
from homespun_server.work import Work, decided, fact_of, fields_of, is_opportunity, language_at, relative

logger = logging.getLogger(__name__)

_MIN_PROMPT_TOKENS = 64
_SHADOW_S = 30.0


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
        shadow: Shadow | None = None,
        keeping: Keeping | None = None,
        trial: Trial | None = None,
    ) -> None:
        """`record` takes what is remembered of each completion, after `judged` added what the show/hide filter says;
        `trace` what is logged of it; `shadow` has a candidate complete the same, for nobody to see;
        `keeping` is where an admin wants whole completions kept; `trial` has other prompts for some users.

        Raises ConfigError when the model's context has no room for a prompt and max_new_tokens, or it can't heal."""
        self._engine, self._tokenizer, self._format = engine, tokenizer, format
        self._repositories, self._settings, self._metrics = repositories, settings, metrics
        self._record, self._judged, self._trace, self._shadow = record, judged, trace, shadow
        self._keeping = keeping
        room = engine.max_context - settings.max_new_tokens
        if room < _MIN_PROMPT_TOKENS:
            raise ConfigError(
                f"max_new_tokens: {settings.max_new_tokens} leaves {max(0, room)} of the model's"
                f" {engine.max_context} tokens for the prompt; lower it"
            )
        is_healing = heals(settings.token_healing, format.family, tokenizer, can_constrain=engine.can_constrain)

        def build(own: Settings) -> PromptBuilder:
            limits = PromptLimits(max_tokens=min(own.max_prompt_tokens, room))
            return PromptBuilder(tokenizer=tokenizer, format=format, limits=limits, is_healing=is_healing)

        self._prompts = Prompts(settings, trial or Trial(), build)
        self._retriever = Retriever(deadline_ms=settings.retrieve_deadline_ms)
        self._attempts = Attempts(engine, tokenizer, format, repositories, settings)

    def close(self) -> None:
        self._retriever.close()

    async def complete(self, request: CompletionRequest, request_id: str) -> Completion:
        """Raises EngineBusyError when too many wait; anything else ends in a completion."""
        async with aclosing(self.stream(request, request_id)) as parts:
            async for part in parts:
                if isinstance(part, Completion):
                    return part
        raise AssertionError("a stream ends with its completion")

    async def stream(self, request: CompletionRequest, request_id: str) -> AsyncGenerator[Part | Completion]:
        """The text in parts that are never taken back, then the completion. Closing the iterator cancels the work.

        Post-processing may drop everything until the end is known: its text comes as one part, `raw` text as decoded.
        """
        work = self._begin(request)
        outcome = "cancelled"
        try:
            if work.priority != "warm" or work.allowed.uses_model:
                await self._prepare(work)
            told = Telling()
            async with aclosing(self._decode(work)) as texts:
                async for text in texts:
                    if request.raw and (part := told.next(work.shown(text), self._certain(work, text))) is not None:
                        yield part
            made = self._completion(work)
            completion = self._filtered(request_id, work, made)
            if (part := told.rest(*self._whole(work, completion))) is not None:
                yield part
            outcome = self._counted(work, completion)
            if self._shadow is not None:
                self._shadow.consider(work, made, self._silently)
            yield completion
        except EngineBusyError:
            outcome = "shed"
            if work.priority != "warm":
                self._metrics.shed.labels("queue").inc()
            raise
        finally:
            if work.priority == "warm":
                self._metrics.prepared.labels(outcome).inc()
            elif outcome in ("cancelled", "shed"):
                self._metrics.completions.labels(outcome).inc()
            fields = fields_of(request_id, work, outcome)
            logger.info("completion", extra=with_fields(**fields))
            self._trace(fields)

    def _counted(self, work: Work, completion: Completion) -> str:
        if work.priority == "warm":
            return "prepared" if work.allowed.uses_model else "left"
        self._metrics.completed(completion, time.monotonic() - work.started)
        for reason in completion.degraded:
            self._metrics.degraded.labels(reason).inc()
        return outcome_of(completion)

    async def explain(self, request: CompletionRequest, layers: Layers) -> Explained:
        """The same with these layers alone, neither remembered nor counted as a completion. Nothing kept from earlier
        requests is used, so that times compare. Raises EngineBusyError."""
        work = self._begin(request)
        work.explains = layers
        await self._prepare(work)
        async for _ in self._decode(work):
            pass
        self._attempts.forget(work)
        return Explained(
            layers=layers,
            completion=self._completion(work),
            prompt=pieces(work.prompt.ids, self._tokenizer.spelled, self._format.ids),
            opening=work.prompt.opening,
            repository=work.repository.name or work.repository.id if work.repository else None,
            prompt_version=work.prompting.version,
            stats=work.stats,
            total_ms=(time.monotonic() - work.started) * 1e3,
        )

    async def _silently(self, work: Work, adapter: str) -> Silent:
        """The same prompt once more with another adapter, when nothing else is to be done. Raises HomespunError."""
        assert work.asked is not None
        other = replace(
            work,
            priority="warm",
            assembly=Assembly(self._tokenizer.decode, [stop.replace("\r\n", "\n") for stop in work.request.stop]),
            tokens=[],
            degraded=[],
            stats=None,
            judged="",
            is_unsure=False,
        )
        other.assembly.opening = work.prompt.opening
        deadline = time.monotonic() + _SHADOW_S
        attempt = replace(
            work.asked, adapter=adapter, priority="warm", client=None, deadline=deadline, waits_for_adapter=True
        )
        async for _ in self._run(other, attempt):
            pass
        request, is_cut = work.request, other.stats is not None and other.stats.finish_reason == "length"
        text = finish(request.prefix, other.assembly.text, request.suffix, truncated=is_cut, language=request.language)
        return Silent(text=text, ms_per_token=ms_per_token(other))

    def _begin(self, request: CompletionRequest) -> Work:
        settings, now = self._settings, time.monotonic()
        prompting = self._prompts.of(request.whose)
        repository = pick(self._repositories.visible_to(request.readable), request.repo)
        priority: Priority = request.trigger if request.max_new_tokens else "warm"
        prefix, suffix = request.prefix.replace("\r\n", "\n"), request.suffix.replace("\r\n", "\n")
        wanted = min(request.max_new_tokens, settings.max_new_tokens)
        path = relative(request.path, repository)
        allowed = allowance(
            self._engine.load(),
            target_ms=settings.target_ms,
            priority=priority,
            snippets=prompting.settings.snippet_count,
            max_new_tokens=wanted if request.raw else token_budget(prefix, suffix, wanted),
        )
        return Work(
            request=replace(
                request,
                prefix=prefix,
                suffix=suffix,
                path=path,
                language=request.language or language_at(path),
                max_new_tokens=allowed.max_new_tokens,
            ),
            repository=repository,
            priority=priority,
            allowed=allowed,
            prompting=prompting,
            assembly=Assembly(self._tokenizer.decode, [stop.replace("\r\n", "\n") for stop in request.stop]),
            has_crlf="\r\n" in request.prefix or "\r\n" in request.suffix,
            started=now,
            deadline=now + min(request.deadline_ms, settings.completion_deadline_ms) / 1e3,
            degraded=list(allowed.reasons),
        )

    async def _prepare(self, work: Work) -> None:
        request, repository = work.request, work.repository
        snippets = await self._snippets(work)
        work.retrieve_ms = (time.monotonic() - work.started) * 1e3
        work.prompt = work.prompting.builder.build(
            prefix=request.prefix,
            suffix=request.suffix,
            path=request.path,
            language=request.language,
            repo=repository.name if repository else None,
            snippets=snippets,
        )
        work.assembly.opening = work.prompt.opening

    async def _snippets(self, work: Work) -> tuple[Snippet, ...]:
        request, repository, settings = work.request, work.repository, work.prompting.settings
        if repository is None or repository.reader is None or not settings.retrieval:
            return merged(work.sent, (), 0)
        query = SearchQuery(prefix=request.prefix, suffix=request.suffix, path=request.path, language=request.language)
        if work.explains is not None:  # however long it takes: what is found is to be seen
            limit = work.allowed.snippets if work.explains.snippets else 0
            return tuple(await asyncio.to_thread(repository.reader.search, query, limit)) if limit else ()
        found = await self._retriever.search(work.neighbours, repository.reader, query, work.allowed.snippets)
        if found.outcome in ("partial", "timeout", "error"):
            work.degraded.append(f"retrieval_{found.outcome}")
        if found.is_fewer:
            work.degraded.append("fewer_snippets")
        return merged(work.sent, found.snippets, work.allowed.snippets)

    async def _decode(self, work: Work) -> AsyncGenerator[str]:
        """The settled text after each token. When the engine fails, less is tried, as long as nothing was written."""
        if not work.allowed.uses_model:
            self._copy(work)
            return
        for attempt in self._attempts.of(work):
            work.adapter, work.asked = attempt.adapter, attempt
            work.assembly.restart()
            work.tokens.clear()
            try:
                async with aclosing(self._run(work, attempt)) as texts:
                    async for text in texts:
                        yield text
                return
            except EngineBusyError:
                raise
            except AdapterLoadingError:
                missing = "adapter_loading"
            except HomespunError as error:
                logger.warning("decoding failed: %s", error)
                if work.assembly.text:
                    break
                missing = "adapter"
            if attempt.adapter is not None and missing not in work.degraded:
                work.degraded.append(missing)
        work.degraded.append("engine")

    def _copy(self, work: Work) -> None:
        """What stands in the repository wherever the last tokens do; nothing where that isn't certain."""
        reader = work.repository.reader if work.repository else None
        prompt, limit = work.prompt, work.request.max_new_tokens + work.prompt.num_opening
        for token in reader.agreed(prompt.ids, limit) if reader and limit > prompt.num_opening else ():
            work.assembly.add(token)
            if work.assembly.is_stopped:
                break

    async def _run(self, work: Work, attempt: EngineRequest) -> AsyncGenerator[str]:
        assembly, stream = work.assembly, self._engine.submit(attempt)
        unspelled = work.prompt.opening.encode()
        try:
            async for token in stream:
                work.tokens.append(token)
                if unspelled:
                    unspelled = unspelled[len(self._tokenizer.spelled[token.id] or unspelled) :]
                    work.num_spelling = len(work.tokens)
                if self._is_unsure(work):
                    work.is_unsure = True
                    assembly.end_at_line()
                    break
                assembly.add(token.id)
                yield assembly.settled
                if assembly.is_stopped or decided(work):
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
            self._attempts.remember(work, assembly.ids)

    def _is_unsure(self, work: Work) -> bool:
        """Somebody who asks by hand gets what there is, and what is drawn is unlikely on purpose."""
        if work.request.raw or work.request.temperature or work.priority == "invoked":
            return False
        logprobs = [token.logprob for token in work.tokens[work.num_spelling :]]
        return is_unsure(logprobs, self._settings.min_confidence)

    def _completion(self, work: Work) -> Completion:
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
            hidden_by="confidence" if work.is_unsure and not text else None,
            tokens=self._scored(work, text),
            stopped_by=next((s for s in request.stop if s.replace("\r\n", "\n") == work.assembly.stop), None),
        )

    def _scored(self, work: Work, text: str) -> tuple[ScoredToken, ...]:
        if work.request.logprobs is None:
            return ()
        tokens = scored(work.tokens, self._tokenizer.decode, work.prompt.opening, text)
        return tuple(replace(token, text=work.shown(token.text)) for token in tokens)

    def _certain(self, work: Work, text: str) -> tuple[ScoredToken, ...] | None:
        """Of the last token, more may yet belong to the text. None where nobody asked for tokens."""
        return None if work.request.logprobs is None else self._scored(work, text)[:-1]

    def _whole(self, work: Work, completion: Completion) -> tuple[str, tuple[ScoredToken, ...]]:
        """What a stream has told in the end. What is replaced has no text, but of raw text some may be told."""
        if not work.request.raw:
            return completion.text, completion.tokens
        text = work.assembly.text
        return work.shown(text), self._scored(work, text)

    def _filtered(self, request_id: str, work: Work, completion: Completion) -> Completion:
        """Remembered, and hidden if the filter says so: what is remembered is what would have been shown."""
        if not is_opportunity(work):
            return completion
        fact = self._judged(fact_of(request_id, work, completion))
        if self._record is not None:
            self._record(fact)
        if fact.verdict == "hide":
            return replace(completion, text="", tokens=(), hidden_by="filter")
        if self._keeping is not None:
            self._keeping.consider(fact, work, completion, work.prompting.builder)
        return completion

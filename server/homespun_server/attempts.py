"""What the engine is asked for, best first: with the adapter that somebody is served, drafts and voices of the code."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from homespun_core.config import Settings
from homespun_core.fim import FimFormat, line_ends
from homespun_core.types import Tokenizer
from homespun_server.drafts import Recent, drafter
from homespun_server.engine.protocol import Draft, Engine, EngineRequest, Mix
from homespun_server.engine.spelling import Vocabulary
from homespun_server.live import LiveRepository
from homespun_server.mixing import Around, mixer
from homespun_server.work import Work

_MAX_TENANTS = 1_000
_DATASTORE_PAYS_MS = 3.0
"""A lookup for a draft takes 0.15 to 0.33 ms a step, and saves 1 to 4 % of the steps."""


class Repositories(Protocol):
    """Where a completer looks up what is live."""

    def visible_to(self, readable: frozenset[str] | None) -> tuple[LiveRepository, ...]:
        """What somebody may be served who may read these (ids; None is all)."""
        ...

    def own_adapter(
        self, account: str | None, repository: LiveRepository, readable: frozenset[str] | None
    ) -> str | None:
        """Somebody's own, by its name in the engine; None where they have none."""
        ...


class Attempts:
    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, format: FimFormat, repositories: Repositories, settings: Settings
    ) -> None:
        self._engine, self._tokenizer, self._repositories = engine, tokenizer, repositories
        self._mixes, self._end_ids = settings.mixing, frozenset(format.end_ids)
        self._ends = np.array(sorted(line_ends(format, tokenizer, len(tokenizer.spelled))), dtype=np.int64)
        self._vocabulary = Vocabulary(tokenizer.spelled)
        self._recent: OrderedDict[str, Recent] = OrderedDict()
        """By tenant, the last to complete last."""

    def of(self, work: Work) -> Iterator[EngineRequest]:
        """Who types has another adapter's text now rather than the right one's too late."""
        request, repository = work.request, work.repository
        full = EngineRequest(
            ids=work.prompt.ids,
            max_new_tokens=request.max_new_tokens,
            adapter=self._adapter(work),
            deadline=work.deadline,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed,
            end_ids=self._end_ids,
            constraint=self._vocabulary.beginning(opening) if (opening := work.prompt.opening.encode()) else None,
            draft=self._draft(work),
            mix=self._mix(work),
            tenant=work.tenant,
            client=request.client if work.priority != "warm" else None,  # it ends nothing that somebody waits for
            user=request.account or None,
            priority=work.priority,
            num_alternatives=request.logprobs or 0,
            waits_for_adapter=work.explains is not None or work.priority == "warm",
        )
        yield full
        if full.adapter is not None:
            for other in dict.fromkeys((repository.adapter if repository else None, None)):
                if other != full.adapter:
                    yield replace(full, adapter=other)

    def remember(self, work: Work, written: Sequence[int]) -> None:
        """What was written may be written again, to whoever may read it."""
        self._recent_of(work.tenant).add(work.prompt.ids, written)

    def forget(self, work: Work) -> None:
        self._recent.pop(work.tenant, None)

    def _adapter(self, work: Work) -> str | None:
        is_wanted, request = work.explains is None or work.explains.adapter, work.request
        if work.repository is None or not is_wanted:
            return None
        own = self._repositories.own_adapter(request.account, work.repository, request.readable)
        return own or work.repository.adapter_for(request.whose)

    def _draft(self, work: Work) -> Draft:
        reader, layers = work.repository.reader if work.repository else None, work.explains
        pays = self._engine.load().step_ms >= _DATASTORE_PAYS_MS if layers is None else layers.datastore
        return drafter(reader.draft if reader and pays else None, self._recent_of(work.tenant))

    def _mix(self, work: Work) -> Mix | None:
        reader = work.repository.reader if work.repository else None
        request, is_wanted = work.request, work.explains.datastore if work.explains else self._mixes
        if not (is_wanted and request.max_new_tokens) or request.temperature > 0:
            return None
        beside = (snippet.text for snippet in work.sent)
        around = Around.cursor(self._tokenizer, request.prefix, request.suffix, work.prompt.opening, beside)
        return mixer(around, reader.continuations if reader else None, self._ends)

    def _recent_of(self, tenant: str) -> Recent:
        recent = self._recent.setdefault(tenant, Recent())
        self._recent.move_to_end(tenant)
        if len(self._recent) > _MAX_TENANTS:
            self._recent.popitem(last=False)
        return recent

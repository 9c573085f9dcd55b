"""Writes facts to the database beside the requests: they never wait for it, and a slow or broken one loses facts, not
completions."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy.exc import SQLAlchemyError

from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.retention import Retention
from homespun_server.feedback.store import FeedbackStore

logger = logging.getLogger(__name__)

_MAX_WAITING = 10_000
_MAX_HELD = 2_000
_MAX_BATCH = 500
_GATHER_S = 0.2
"""Facts of so long are written together: a transaction waits for the disk."""
_SWEEP_S = 3_600.0


class Recorder:
    def __init__(
        self,
        store: FeedbackStore,
        *,
        kept: Retention,
        on_lost: Callable[[str, int], None],
        on_sweep: Callable[[FeedbackStore], None] = lambda store: None,
    ) -> None:
        """`on_lost(reason, number)` is called for facts that are not written: `full`, `failed`, `unknown`; `on_sweep`
        each hour, in its thread."""
        self.store, self._kept, self._on_lost, self._on_sweep = store, kept, on_lost, on_sweep
        self._waiting: queue.Queue[Fact] = queue.Queue(_MAX_WAITING)
        self._held: dict[str, CompletionFact] = {}
        """What was made ahead and nobody has told of yet, oldest first."""
        self._is_closing = threading.Event()
        self._swept = -_SWEEP_S
        self._thread = threading.Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def record(self, fact: Fact) -> None:
        """Returns at once, whatever the database does."""
        if isinstance(fact, CompletionFact) and fact.is_ahead:
            self._hold(fact)
            return
        if isinstance(fact, Event) and (held := self._held.pop(fact.completion, None)):
            self._put(held)
        self._put(fact)

    def _hold(self, fact: CompletionFact) -> None:
        self._held[fact.id] = fact
        if len(self._held) > _MAX_HELD:
            self._held.pop(next(iter(self._held)), None)

    def _put(self, fact: Fact) -> None:
        try:
            self._waiting.put_nowait(fact)
        except queue.Full:
            self._on_lost("full", 1)

    def close(self) -> None:
        """What was recorded until now is written first."""
        self._is_closing.set()
        self._thread.join()
        self.store.close()

    def _run(self) -> None:
        while not (self._is_closing.is_set() and self._waiting.empty()):
            self._sweep()
            self._write(self._batch())

    def _batch(self) -> list[Fact]:
        self._is_closing.wait(_GATHER_S)
        facts: list[Fact] = []
        while len(facts) < _MAX_BATCH and not self._waiting.empty():
            facts.append(self._waiting.get_nowait())
        return facts

    def _write(self, facts: Sequence[Fact]) -> None:
        if not facts:
            return
        try:
            if num_unknown := self.store.write(facts):
                self._on_lost("unknown", num_unknown)
        except SQLAlchemyError as error:
            logger.warning("%d facts are lost: the database fails (%s)", len(facts), type(error).__name__)
            self._on_lost("failed", len(facts))

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < _SWEEP_S:
            return
        self._swept = time.monotonic()
        try:
            self.store.forget_due(self._kept)
            self._on_sweep(self.store)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("feedback can't be swept (%s)", type(error).__name__)

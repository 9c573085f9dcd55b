"""Writes facts to the database beside the requests: they never wait for it, and a slow or broken one loses facts, not
completions."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.keeping import Whole
from homespun_server.feedback.kept import Kept
from homespun_server.feedback.retention import Retention
from homespun_server.feedback.store import FeedbackStore

logger = logging.getLogger(__name__)

_MAX_WAITING = 10_000
_MAX_HELD = 2_000
_MAX_WHOLE = 1_000
"""Some 40 MB; editors tell within seconds what they show."""
_MAX_BATCH = 500
_GATHER_S = 0.2
"""Facts of so long are written together: a transaction waits for the disk."""
_SWEEP_S = 3_600.0


class Recorder:
    def __init__(
        self,
        store: FeedbackStore,
        *,
        retention: Retention,
        on_lost: Callable[[str, int], None],
        on_sweep: Callable[[FeedbackStore], None] = lambda store: None,
        kept: Callable[[Whole], Kept | None] = lambda whole: None,
    ) -> None:
        """`on_lost(reason, number)` is called for facts that are not written: `full`, `failed`, `unknown`; `on_sweep`
        each hour, in its thread, and there too `kept`, which says what is written of a whole completion."""
        self.store, self._retention, self._on_lost, self._on_sweep = store, retention, on_lost, on_sweep
        self._kept = kept
        self.num_kept: Mapping[str, int] = {}
        """Whole completions in the database, by repository."""
        self._whole: OrderedDict[str, Whole] = OrderedDict()
        """Those that nobody is known to have seen yet, oldest first."""
        self._waiting: queue.Queue[Fact | Whole] = queue.Queue(_MAX_WAITING)
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
        if isinstance(fact, Event) and fact.kind in ("shown", "accepted"):
            whole = self._whole.get(fact.completion)
            if whole is not None and fact.user in ("", whole.user):
                self._put(self._whole.pop(fact.completion))

    def hold(self, whole: Whole) -> None:
        """Written once somebody is known to have seen it; else it is gone when others need the room."""
        self._whole[whole.id] = whole
        if len(self._whole) > _MAX_WHOLE:
            self._whole.popitem(last=False)

    def _hold(self, fact: CompletionFact) -> None:
        self._held[fact.id] = fact
        if len(self._held) > _MAX_HELD:
            self._held.pop(next(iter(self._held)), None)

    def _put(self, fact: Fact | Whole) -> None:
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

    def _batch(self) -> list[Fact | Whole]:
        self._is_closing.wait(_GATHER_S)
        facts: list[Fact | Whole] = []
        while len(facts) < _MAX_BATCH and not self._waiting.empty():
            facts.append(self._waiting.get_nowait())
        return facts

    def _write(self, found: Sequence[Fact | Whole]) -> None:
        if not found:
            return
        facts = [fact for fact in found if not isinstance(fact, Whole)]
        try:
            whole = [row for fact in found if isinstance(fact, Whole) and (row := self._row(fact))]
            if num_unknown := self.store.write(facts, whole):
                self._on_lost("unknown", num_unknown)
            if whole:
                self.num_kept = self.store.num_kept()
        except Exception as error:  # a job loop: whatever it is, facts that come later are to be written
            logger.warning("%d facts are lost: writing them fails (%s)", len(facts), type(error).__name__)
            logger.debug("writing facts", exc_info=True)
            self._on_lost("failed", len(facts))

    def _row(self, whole: Whole) -> Kept | None:
        """A completion that can't be made fit to be written, whatever its text does, takes nothing else with it."""
        try:
            return self._kept(whole)
        except Exception as error:  # the same
            logger.warning("completion %s isn't kept: %s", whole.id, type(error).__name__)
            logger.debug("keeping a completion", exc_info=True)
            self._on_lost("failed", 1)
            return None

    def _sweep(self) -> None:
        if time.monotonic() - self._swept < _SWEEP_S:
            return
        self._swept = time.monotonic()
        try:
            self._on_sweep(self.store)
            self.num_kept = self.store.num_kept()
            self.store.forget_due(self._retention)
        except Exception as error:  # the same
            logger.warning("feedback can't be swept (%s)", type(error).__name__)
            logger.debug("sweeping", exc_info=True)

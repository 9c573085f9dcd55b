"""The filter that is live, for requests: looks for a new one at each, which costs one `stat`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from homespun_core import storage
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.filter.publishing import live
from homespun_server.feedback.filter.verdicts import Filter, verdict

logger = logging.getLogger(__name__)


class LiveFilter:
    def __init__(self, parent: Path, *, may_hide: bool) -> None:
        self._parent, self._may_hide = parent, may_hide
        self._filter: Filter | None = None
        self._seen: tuple[int, int] | None = None
        """The pointer as it was when it was last followed."""

    def judged(self, fact: CompletionFact) -> CompletionFact:
        """With what the live filter says of it, if there is one and anything could be shown."""
        filter = self.now()
        if filter is None or not fact.characters:
            return fact
        may_hide = self._may_hide and not fact.features.get("is_invoked")
        said = verdict(filter, fact.features, completion=fact.id, language=fact.language, may_hide=may_hide)
        return replace(fact, verdict=said, probability=round(filter.probability(fact.features), 4))

    def now(self) -> Filter | None:
        seen = self._pointer()
        if seen != self._seen:
            self._seen, self._filter = seen, self._followed()
        return self._filter

    def _pointer(self) -> tuple[int, int] | None:
        try:
            found = (self._parent / storage.CURRENT).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _followed(self) -> Filter | None:
        filter = live(self._parent)
        if filter is None:
            return None
        logger.info("show/hide filter %s is live%s", filter.version, "" if self._may_hide else ", and only watched")
        return filter

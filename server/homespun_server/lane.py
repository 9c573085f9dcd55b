"""How many completions may be on their way at once. More are refused before their body is read.

Under ten times the load that a machine can serve, reading and looking up what will be refused took all of the event
loop: 675 requests a second had answers after everybody had hung up, and none before (benchmarks/LOG.md). Everything
that isn't a completion passes: the console, health and metrics answer while completions don't.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from homespun_core.config import Settings
from homespun_core.types import CLIENT_HEADER
from homespun_server.access.principal import Principal
from homespun_server.connections import within
from homespun_server.engine.vllm.wire import CONCURRENCY, urls_of
from homespun_server.refused import refused

BODY_S = 3.0
"""For a completion's body: who holds a place and sends nothing keeps somebody else out."""
_WAIT = {"Retry-After": "1"}
_MAX_CLIENT = 64
_PAUSE_S = 10.0
_TURN_S = 60.0


def places_of(settings: Settings) -> int:
    """Completions on their way at most. vLLM servers do most of the work of theirs: twice what they take at a time.

    Here, six for each core: with three, 20 developers on two cores were refused before any completion got smaller.
    With many more each takes so long that people have typed on (benchmarks/LOG.md).
    """
    if settings.max_requests:
        return settings.max_requests
    servers = urls_of(settings.vllm_urls)
    if servers:
        return 2 * (CONCURRENCY * len(servers) + settings.max_queue)
    return 6 * len(os.sched_getaffinity(0))


class Turns:
    """People whose turn it is: who was let in, until they pause, or somebody else has waited long enough.

    What they type next costs a few tokens, since their prompt is in the engine's cache; anybody else's is computed
    from its first token. Letting in whoever comes at random would make nearly all of them somebody else.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns: dict[str, tuple[float, float]] = {}
        """When it began and when they were last let in."""

    def __contains__(self, user: str) -> bool:
        began, last = self._turns.get(user, (-_TURN_S, -_PAUSE_S))
        now = self._clock()
        return now < began + _TURN_S and now < last + _PAUSE_S

    def __len__(self) -> int:
        return len(self._turns)

    def let_in(self, user: str) -> None:
        now = self._clock()
        if user in self:
            self._turns[user] = (self._turns[user][0], now)
        else:
            self._turns = {other: turn for other, turn in self._turns.items() if other in self} | {user: (now, now)}


class Places:
    """Somebody may hold as many as are free: alone half of them, and one that asks for everything leaves the others
    theirs (dynamic thresholds, as in switches: Choudhury and Hahne, 1998). Who can't be told apart may hold them all.
    """

    def __init__(self, number: int) -> None:
        self.free, self.held = number, Counter[str]()

    def has_one(self, user: str) -> bool:
        return self.free > (self.held[user] if user else 0)

    def move(self, user: str, number: int) -> None:
        """To the user; back, where it is below zero."""
        self.free -= number
        self.held[user] += number
        if not self.held[user]:
            del self.held[user]


class Held:
    """The places of one request: one, and more where it has several completions made beside one another."""

    def __init__(self, places: Places, aside: Places, user: str) -> None:
        """`aside`: those of requests that nobody waits for."""
        self._places, self._aside, self._user, self._number = places, aside, user, 0

    def take(self, number: int) -> int:
        """How many of so many there were."""
        before = self._number
        while self._number < before + number and self._places.has_one(self._user):
            self._places.move(self._user, 1)
            self._number += 1
        return self._number - before

    def make_way(self) -> bool:
        """For who waits: leaves their places to them, for one aside. False when there is none."""
        self.release()
        self._places = self._aside
        return self.take(1) == 1

    def release(self) -> None:
        self._places.move(self._user, -self._number)
        self._number = 0


class Lane:
    """Behind the gate, so that a place is only for somebody who may ask. `on_refused` counts. Whose turn it isn't comes
    in while a third as many people as there are places are inside."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], places: int, on_refused: Callable[[], None]) -> None:
        self._app, self._routes, self._on_refused = app, tuple(routes), on_refused
        self._few = max(1, places // 3)
        self._places, self._aside = Places(places), Places(self._few)
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_completion(scope):
            await self._app(scope, receive, send)
            return
        user = _who(scope)
        held = Held(self._places, self._aside, user)
        if not (self._may_come(user) and held.take(1)):
            self._on_refused()
            await refusal(scope["path"])(scope, receive, send)
            return
        self._turns.let_in(user)
        scope["state"]["places"] = held
        try:
            await self._app(scope, within(BODY_S, receive), send)
        finally:
            held.release()

    def _may_come(self, user: str) -> bool:
        return not user or len(self._places.held) < self._few or user in self._turns

    def _is_completion(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)


def _who(scope: Scope) -> str:
    """The account; without one the name that an editor gives itself, which keeps those apart that are fair, and makes
    nobody worse off than before. Not the address: behind a proxy all have the same."""
    principal = scope["state"]["principal"]
    assert isinstance(principal, Principal)
    client = Headers(scope=scope).get(CLIENT_HEADER, "")
    return principal.user or (f" {client}" if 0 < len(client) <= _MAX_CLIENT else "")  # no account begins with a blank


def refusal(path: str) -> Response:
    message = "too many completions are on their way; try again in a second"
    return refused(path, 429, message, "rate_limit_error", "too_many_requests", headers=_WAIT)

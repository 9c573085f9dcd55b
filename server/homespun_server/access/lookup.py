"""Whose a token is: remembered in memory, and forgotten within a second after anybody's rights were changed.

Every change counts a version up in the database, which a thread reads every second; what was read before it is read
again. While the database can't be reached, who is known goes on for a minute and who isn't is told to come back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, update
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.errors import ServiceError
from homespun_server.access import reading
from homespun_server.access.decisions import Guarded, principal_for
from homespun_server.access.principal import BREAK_GLASS, Principal
from homespun_server.access.records import Credential, Person
from homespun_server.access.tables import tokens
from homespun_server.access.tokens import parsed

logger = logging.getLogger(__name__)

Find = Callable[[Connection], Credential | None]
"""Looks a credential up in the database."""
Repositories = Callable[[], tuple[Guarded, ...]]
"""The same tuple while nothing has changed."""

POLL_S = 1.0
TRUST_S = 60.0
"""So long a person who is known is believed while the database can't be asked."""
_PATIENCE_S = 3.0
_UNKNOWN = "accounts can't be checked: the database can't be reached; try again in a moment"
_USED_S = 30.0
_MAX_KNOWN = 10_000
_MAX_STRANGERS = 500
"""Credentials that are nobody's. Kept apart, so that guesses push nobody out who is known."""


@dataclass(slots=True)
class _Known:
    """What the database said of a credential, at a version of it."""

    version: int
    credential: Credential | None
    person: Person | None
    principal: Principal | None = None
    decided_on: tuple[Guarded, ...] | None = None
    decided_until: float = math.inf
    """A grant ends then."""


class Lookup:
    def __init__(
        self,
        engine: Engine,
        repositories: Repositories,
        *,
        is_open: bool = False,
        api_token: str = "",
        poll_s: float = POLL_S,
        trust_s: float = TRUST_S,
    ) -> None:
        """Asks the database whether there are accounts; raises SQLAlchemyError when it can't."""
        self._engine, self._repositories, self._is_open = engine, repositories, is_open
        self._api_token = api_token.encode()
        self._poll_s, self._trust_s = poll_s, trust_s
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._strangers: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._written_at = time.monotonic()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="access")
        self._stop = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="access", daemon=True)
        self.has_accounts = False
        self._version = -1
        self.look()

    def start(self) -> None:
        self._follower.start()

    def close(self) -> None:
        self._stop.set()
        if self._follower.is_alive():
            self._follower.join(_PATIENCE_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.unheard_s < self._poll_s + _PATIENCE_S:
            self._write_used()

    @property
    def unheard_s(self) -> float:
        """Since the database answered."""
        return time.monotonic() - self._heard_at

    def look(self) -> None:
        """What follows is decided by what the database says now."""
        with self._lock, self._engine.connect() as connection:
            version, has_accounts = reading.version(connection), reading.has_accounts(connection)
            self._version, self.has_accounts = version, has_accounts
            self._heard_at = time.monotonic()

    async def bearer(self, text: str) -> Principal | None:
        """Whose token it is; None when it is nobody's. Raises ServiceError while that can't be known."""
        if self._api_token and secrets.compare_digest(text.encode("utf-8", "replace"), self._api_token):
            return BREAK_GLASS
        token = parsed(text)
        if token is None:
            return None

        def find(connection: Connection) -> Credential | None:
            found = reading.credential_of(connection, token)
            if found is None or not secrets.compare_digest(found[1], token.digest):
                return None
            return found[0]

        principal = await self.find(f"token {text}", find)
        if principal is not None:
            self._used[principal.credential] = time.time()
        return principal

    async def find(self, key: str, find: Find) -> Principal | None:
        """Whoever has the credential that `find` finds; `key` is what was shown, and only its digest is remembered.

        None when it is nobody's, has expired, or its user may do nothing any more. Raises ServiceError while that can't
        be known.
        """
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        known = self._known.get(digest) or self._strangers.get(digest)
        if known is None or known.version < self._version or known.decided_until <= time.time():
            known = await self._read(digest, find)
        elif self.unheard_s > self._trust_s:
            raise ServiceError(_UNKNOWN)
        return self._principal(known)

    async def _read(self, digest: bytes, find: Find) -> _Known:
        loop = asyncio.get_running_loop()
        try:
            answer = loop.run_in_executor(self._threads, self._read_now, find)
            known = await asyncio.wait_for(answer, _PATIENCE_S)
        except (SQLAlchemyError, TimeoutError) as error:
            logger.warning("accounts can't be checked: the database fails (%s)", type(error).__name__)
            raise ServiceError(_UNKNOWN) from None
        self._known.pop(digest, None)
        if known.credential is not None:
            _keep(self._known, digest, known, _MAX_KNOWN)
        else:
            _keep(self._strangers, digest, known, _MAX_STRANGERS)
        return known

    def _read_now(self, find: Find) -> _Known:
        """The version first: what is changed while we read is read again."""
        with self._engine.connect() as connection:
            version = reading.version(connection)
            credential = find(connection)
            person = None if credential is None else reading.person(connection, credential.user)
        known = _Known(version, credential, person)
        self._principal(known)  # already here: with many repositories and grants it takes milliseconds
        return known

    def _principal(self, known: _Known) -> Principal | None:
        credential, person, now = known.credential, known.person, time.time()
        if credential is None or person is None or not person.user.active:
            return None
        if credential.expires is not None and credential.expires <= now:
            return None
        guarded = self._repositories()
        if known.principal is None or known.decided_on is not guarded or known.decided_until <= now:
            known.principal = principal_for(person, credential, guarded, self._is_open, now)
            ends = [grant.expires for grant in person.grants if grant.expires is not None and grant.expires > now]
            known.decided_on, known.decided_until = guarded, min(ends, default=math.inf)
        return known.principal

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self.look()
                if time.monotonic() - self._written_at > _USED_S:
                    self._write_used()
            except SQLAlchemyError as error:
                logger.warning("accounts: the database fails (%s)", type(error).__name__)
            except Exception:  # a job loop: one bad round must not end the following
                logger.exception("looking for changes of accounts failed")

    def _write_used(self) -> None:
        """When tokens were last used; what can't be written is lost."""
        used: Mapping[str, float]
        used, self._used = self._used, {}
        self._written_at = time.monotonic()
        try:
            with self._engine.begin() as connection:
                for id, at in sorted(used.items()):  # in one order everywhere: another server may write them too
                    connection.execute(update(tokens).where(tokens.c.id == id).values(last_used=at))
        except SQLAlchemyError as error:
            logger.warning("when tokens were used is lost: the database fails (%s)", type(error).__name__)


def _keep(store: OrderedDict[bytes, _Known], digest: bytes, known: _Known, most: int) -> None:
    store[digest] = known
    store.move_to_end(digest)
    if len(store) > most:
        store.popitem(last=False)

"""Asks servers for completions: each file's own. Never raises: without an answer there is no suggestion, and one line
says why."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import uuid4

from homespun_lsp.backends.exchange import Answer, Ask
from homespun_lsp.connection import NOTHING, Connection
from homespun_lsp.context import Query
from homespun_lsp.options import Options
from homespun_lsp.servers import Server, server_of
from homespun_lsp.signin.place import notice
from homespun_lsp.status import PAUSED, State, Status
from homespun_lsp.user import user_id

_MAX_REMEMBERED = 1_000
_PASSING = frozenset((State.OFFLINE, State.STARTING, State.BUSY))
_PATIENCE = " Suggestions resume by themselves."


class CompletionClient:
    def __init__(self, say: Callable[[str, bool], None], announce: Callable[[Status], None]) -> None:
        """`say(line, is_problem)` is called when a server stops or resumes answering, not for every request;
        `announce` when the status of the server asked last has changed."""
        self._say, self._announce = say, announce
        self._name = uuid4().hex
        """Of this editor, for the server."""
        self.editor = ""
        """Its name, as it says itself."""
        self._connections: OrderedDict[Server, Connection] = OrderedDict()
        """The one used last is the last."""
        self._told: dict[Server, Status] = {}
        self._noticed: dict[Server, tuple[str, ...]] = {}
        self._makers: OrderedDict[str, Connection] = OrderedDict()
        """Who made a completion, by its id."""
        self._closing: set[asyncio.Task[None]] = set()
        self.status = Status(state=State.CONNECTING)

    @property
    def current(self) -> Connection | None:
        """The one used last."""
        return next(reversed(self._connections.values()), None)

    def standings(self) -> list[Status]:
        """Of all servers in use."""
        return [connection.status for connection in self._connections.values()]

    def use(self, options: Options) -> Connection | None:
        """From now on this server is the one whose status is shown. None when nothing is to be asked."""
        if not options.enable:
            self._show(PAUSED)
            return None
        connection = self._connection(server_of(options))
        self._show(connection.status)
        return connection

    def keep_only(self, servers: Collection[Server]) -> None:
        """These are all there are by now; the others are closed, and nothing more is said of them."""
        for server in self._connections.keys() - set(servers):
            self._told.pop(server, None)
            task = asyncio.create_task(self._connections.pop(server).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def is_away(self, options: Options) -> bool:
        """Whether asking is in vain for now, unless by hand."""
        connection = self._connections.get(server_of(options))
        return connection is not None and not connection.is_worth_asking

    async def complete(self, query: Query, options: Options) -> Answer:
        """Cancelling ends the request on the server too."""
        connection = self.use(options)
        if connection is None:
            return NOTHING
        user = user_id() if options.send_events else None
        ask = Ask(query=query, max_tokens=query.max_tokens(options.max_tokens), client=self._name, user=user)
        answer = await connection.complete(ask, timeout_ms=options.timeout_ms)
        if answer.id is not None and options.send_events:
            self._remember(answer.id, connection)
        return answer

    async def prepare(self, query: Query, options: Options) -> None:
        """Has the server compute the query's prompt. Cancelling ends that on the server too."""
        connection = self.use(options)
        if connection is not None:
            ask = Ask(query=query, max_tokens=0, client=self._name)
            await connection.prepare(ask, timeout_ms=options.timeout_ms)

    async def tell(self, events: Sequence[Mapping[str, object]]) -> bool:
        """What became of completions, each to the server that made it. False when all should be told again later:
        servers count what they get twice once. Of those whose maker isn't known nothing is told."""
        for_each: dict[Connection, list[Mapping[str, object]]] = {}
        for event in events:
            maker = self._makers.get(str(event["completion"]))
            if maker is not None:
                for_each.setdefault(maker, []).append(event)
        done = [await maker.tell("/v1/homespun/events", {"events": told}) for maker, told in for_each.items()]
        return all(done)

    def tell_no_more(self) -> None:
        """Of what was made so far."""
        self._makers.clear()

    async def close(self) -> None:
        connections = list(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(connection.close() for connection in connections), *self._closing)

    def _connection(self, server: Server) -> Connection:
        connection = self._connections.get(server)
        if connection is None:
            connection = self._connections[server] = Connection(server, self._noted, self.editor)
            self._told[server] = connection.status
        self._connections.move_to_end(server)
        connection.open()
        return connection

    def _remember(self, id: str, connection: Connection) -> None:
        self._makers[id] = connection
        if len(self._makers) > _MAX_REMEMBERED:
            self._makers.popitem(last=False)

    def _noted(self, connection: Connection) -> None:
        """One line when it changes; that all is well at the start needs none."""
        status, before = connection.status, self._told.get(connection.server)
        self._told[connection.server] = status
        if status.state is not State.READY:
            self._say(f"Homespun: {status.message}.{_PATIENCE if status.state in _PASSING else ''}", True)
        elif before is not None and before.state is not State.CONNECTING:
            self._say(f"Homespun: {status.server} answers again.", False)
        if connection.keeps and self._noticed.get(connection.server) != connection.keeps:
            self._noticed[connection.server] = connection.keeps
            self._say(f"Homespun: {notice(str(status.server), connection.keeps)}.", False)
        if connection is self.current and self.status.state is not State.PAUSED:
            self._show(status)

    def _show(self, status: Status) -> None:
        if status != self.status:
            self.status = status
            self._announce(status)

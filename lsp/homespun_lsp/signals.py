"""Tells the server what became of its completions: ids, kinds and counts, never text. Losing some is harmless."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

Send = Callable[[Sequence[Mapping[str, object]]], Awaitable[bool]]

_GATHER_S = 1.0
_RETRY_S = 30.0
_FAREWELL_S = 1.0
"""Editors wait for the answer to `shutdown`."""
_MAX_WAITING = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    completion: str
    kind: str
    characters: int
    at: float


class Signals:
    def __init__(self, send: Send) -> None:
        """`send` must not raise; it gets batches, a moment after their first event, and returns whether they are done
        with. If not they are sent again later, the newest 200; the server counts what it gets twice once."""
        self._send = send
        self._waiting: dict[tuple[str, str], _Signal] = {}
        """By completion and kind, of which one is enough, with the larger count; oldest first."""
        self._sending: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def note(self, completion: str, kind: str, characters: int = 0) -> None:
        signal = _Signal(completion=completion, kind=kind, characters=characters, at=time.monotonic())
        before = self._waiting.get((completion, kind), signal)
        self._waiting[completion, kind] = replace(before, characters=max(before.characters, characters))
        if len(self._waiting) > _MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._later())

    async def close(self) -> None:
        """One more try, which doesn't keep the editor waiting."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                await self._flush()
        if self._sending is not None:
            self._sending.cancel()

    async def _later(self) -> None:
        wait_s = _GATHER_S
        while self._waiting:
            await asyncio.sleep(wait_s)
            wait_s = _GATHER_S if await self._flush() else _RETRY_S

    async def _flush(self) -> bool:
        async with self._turn:
            signals, now = list(self._waiting.values()), time.monotonic()
            is_done = not signals or await self._send([_as_json(signal, now) for signal in signals])
            for signal in signals if is_done else ():
                if self._waiting.get((signal.completion, signal.kind)) is signal:  # not changed while it was sent
                    del self._waiting[signal.completion, signal.kind]
            return is_done


def _as_json(signal: _Signal, now: float) -> Mapping[str, object]:
    age_ms = int((now - signal.at) * 1e3)
    return {
        "completion": signal.completion,
        "kind": signal.kind,
        "characters": signal.characters,
        "age_ms": age_ms,
    }

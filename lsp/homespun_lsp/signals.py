"""Tells the server what became of its completions: ids, kinds and counts, never text. Losing some is harmless."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Send = Callable[[Sequence[Mapping[str, object]]], Awaitable[None]]

_GATHER_S = 1.0
_MAX_WAITING = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signal:
    completion: str
    kind: str
    characters: int
    at: float


class Signals:
    def __init__(self, send: Send) -> None:
        """`send` must not raise; it gets batches, a moment after their first event."""
        self._send = send
        self._waiting: deque[_Signal] = deque(maxlen=_MAX_WAITING)
        self._sending: asyncio.Task[None] | None = None

    def note(self, completion: str, kind: str, characters: int = 0) -> None:
        self._waiting.append(_Signal(completion=completion, kind=kind, characters=characters, at=time.monotonic()))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._later())

    async def flush(self) -> None:
        now, signals = time.monotonic(), list(self._waiting)
        self._waiting.clear()
        if signals:
            await self._send([_as_json(signal, now) for signal in signals])

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        await self.flush()

    async def _later(self) -> None:
        await asyncio.sleep(_GATHER_S)
        await self.flush()


def _as_json(signal: _Signal, now: float) -> Mapping[str, object]:
    age_ms = int((now - signal.at) * 1e3)
    return {
        "completion": signal.completion,
        "kind": signal.kind,
        "characters": signal.characters,
        "age_ms": age_ms,
    }

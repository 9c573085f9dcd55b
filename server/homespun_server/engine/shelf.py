"""The weights that can be asked for by name: as many in memory as there is room for, the others by their path."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from homespun_core.errors import HomespunError, ModelError, ServiceError
from homespun_server.engine.decoders.formats import Format
from homespun_server.engine.decoders.protocol import Decoder
from homespun_server.engine.protocol import AdapterLoadingError

_FRESH_S = 10.0
"""What was loaded for nobody stays so long, for whoever asked to ask again: while others are in use, it would be the
only one to drop."""


class Source(Protocol):
    """Where decoders come from; `source.ModelSource` is one. Used by several threads."""

    @property
    def format(self) -> Format: ...

    @property
    def device(self) -> torch.device: ...

    def decoder(self, adapter: Path | None) -> Decoder:
        """A new one; None is the base model. Raises ModelError, also when it computes no finite numbers."""
        ...


@dataclass(slots=True, eq=False)
class Adapter:
    """The base model is one too, without a path. Changed by its shelf only."""

    path: Path | None
    decoder: Decoder | None
    """None while it isn't in memory."""
    error: HomespunError | None = None
    """Why it couldn't be loaded again."""
    is_loading: bool = False
    is_removed: bool = False
    num_users: int = 0
    last_used: int = 0

    @property
    def num_bytes(self) -> int:
        return self.decoder.num_bytes if self.decoder is not None else 0


class Shelf:
    """Thread-safe. on_load: called when weights came into memory or couldn't; on_drop: with weights that left it.

    Both are called by any thread, without a lock held.
    """

    def __init__(
        self, source: Source, max_bytes: int, on_load: Callable[[], None], on_drop: Callable[[Decoder], None]
    ) -> None:
        """Loads the base model; takes seconds. Raises ModelError."""
        self._source, self._max_bytes, self._on_load, self._on_drop = source, max_bytes, on_load, on_drop
        self.base = self._source.decoder(None)
        self._base = Adapter(None, self.base)
        self._adapters: dict[str, Adapter] = {}
        self._lock = threading.Lock()
        self._clock = itertools.count(1)
        self._fresh: Adapter | None = None
        self._fresh_until = 0.0
        self.num_loads = 0
        """Of weights that had been put out of memory."""
        self._loaders: list[threading.Thread] = []
        self._loading = threading.Lock()
        """Weights are made one set at a time: each takes several times its size in memory until it is there."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def find(self, name: str | None) -> Adapter:
        found = self._base if name is None else self._adapters.get(name)
        if found is None:
            raise ModelError(f"adapter {name!r} is not loaded")
        return found

    def has_room(self) -> bool:
        """Whether weights that somebody holds leave room for others; how much those need that aren't there yet, nobody
        knows."""
        with self._lock:
            held = [one for one in self._adapters.values() if one.num_users]
            return all(one.decoder for one in held) and sum(one.num_bytes for one in held) < self._max_bytes

    def add(self, name: str, path: Path) -> None:
        """Builds the weights in the caller's thread. Raises ModelError."""
        if self._is_known(name, path):
            return
        with self._loading:
            decoder = self._source.decoder(path)
        adapter = Adapter(path, decoder, last_used=next(self._clock))
        with self._lock:
            if not self._is_known(name, path):  # somebody else was quicker
                self._adapters[name] = adapter
        self._shrink()

    def remove(self, name: str) -> None:
        """Those who hold it may go on."""
        with self._lock:
            adapter = self._adapters.pop(name, None)
            if adapter is not None:
                adapter.is_removed = True
        self._shrink(adapter)

    def hold(self, adapter: Adapter, *, waits: bool = True) -> None:
        """Weights that somebody holds stay in memory; those that aren't there are on their way after this.

        Who doesn't wait for them holds nothing: AdapterLoadingError, or why they couldn't be loaded the last time.
        """
        with self._lock:
            adapter.last_used = next(self._clock)
            error = adapter.error
            if adapter.decoder is None and not adapter.is_loading:
                self._begin_to_load(adapter)
            if adapter.decoder is None and not waits:
                raise error or AdapterLoadingError(f"adapter {adapter.path} is being loaded; ask again in a second")
            adapter.num_users += 1
            self._fresh = None if self._fresh is adapter else self._fresh

    def _begin_to_load(self, adapter: Adapter) -> None:
        adapter.is_loading, adapter.error = True, None
        self.num_loads += 1
        loader = threading.Thread(target=self._load, args=[adapter], name="adapter-loader", daemon=True)
        self._loaders = [thread for thread in self._loaders if thread.is_alive()]
        self._loaders.append(loader)
        loader.start()

    def leave(self, adapter: Adapter) -> None:
        with self._lock:
            adapter.num_users -= 1
        if adapter is not self._base:
            self._shrink(adapter)

    def close(self) -> None:
        """Waits for what is being loaded."""
        for loader in self._loaders:
            loader.join()

    def _is_known(self, name: str, path: Path) -> bool:
        known = self._adapters.get(name)
        if known is not None and known.path != path:
            raise ModelError(f"adapter {name!r} is loaded from {known.path}; unload it before loading {path}")
        return known is not None

    def _load(self, adapter: Adapter) -> None:
        error: HomespunError | None = ServiceError(f"adapter {adapter.path} failed to load; see the server's log")
        decoder = None
        try:
            with self._loading:
                decoder = self._source.decoder(adapter.path)
            error = None
        except HomespunError as known:
            error = known
        finally:  # whatever happened, those who wait for it must hear
            with self._lock:
                adapter.decoder, adapter.error, adapter.is_loading = decoder, error, False
                if decoder is not None and not adapter.num_users:
                    self._fresh, self._fresh_until = adapter, time.monotonic() + _FRESH_S
            self._shrink(adapter)
            self._on_load()

    def _shrink(self, left: Adapter | None = None) -> None:
        """Drop what nobody holds: first `left`, if its name is gone, then the least recently used while there is too
        much."""
        with self._lock:
            fresh = self._fresh if time.monotonic() < self._fresh_until else None
            idle = [one for one in self._in_memory() if not one.num_users and one is not fresh]
            excess = sum(one.num_bytes for one in self._adapters.values()) - self._max_bytes
            dropped = [left] if left is not None and left.is_removed and not left.num_users else []
            # One stays, however large: a budget that no adapter fits in would load one for every request.
            for one in sorted(idle, key=lambda one: one.last_used)[: max(0, len(self._in_memory()) - 1)]:
                if excess > 0:
                    excess -= one.num_bytes
                    dropped.append(one)
            decoders = [one.decoder for one in dropped if one.decoder is not None]
            for one in dropped:
                one.decoder = None
        for decoder in decoders:
            self._on_drop(decoder)

    def _in_memory(self) -> list[Adapter]:
        return [one for one in self._adapters.values() if one.decoder is not None]

"""An engine that tells all it could know: whatever a request, an adapter or a cache brings near a model comes out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from homespun_core.types import Tokenizer
from homespun_server.engine.protocol import EngineLoad, EngineRequest, EngineStats, Generation, Token

_CANARY = re.compile(r"canary_[a-z_]+[a-z]")
_IDLE = EngineLoad(num_running=0, num_waiting=0, wait_ms=0.0, step_ms=10.0)
"""So slow that the datastore is asked for drafts."""
_MAX_DRAFTED = 64


def canaries(text: str) -> set[str]:
    return set(_CANARY.findall(text))


class GossipEngine:
    """Says the canaries in the prompt, in all earlier prompts and completions of the same tenant (what a KV cache could
    give away), in what it is drafted or told to expect, and the one of its adapter."""

    max_context = 100_000
    dtype = "float32"
    device = "cpu"
    can_constrain = False
    num_waiting = num_adapter_loads = 0

    def __init__(self, tokenizer: Tokenizer, canary_of: Callable[[str], str]) -> None:
        """`canary_of`: what an adapter of that name gives away."""
        self._tokenizer, self._canary_of = tokenizer, canary_of
        self._heard: defaultdict[str, set[str]] = defaultdict(set)
        self._adapters: set[str] = set()
        self.num_asked = 0
        self.is_crowded = False

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._adapters)

    def load(self) -> EngineLoad:
        return replace(_IDLE, wait_ms=100_000.0) if self.is_crowded else _IDLE

    def submit(self, request: EngineRequest) -> GossipStream:
        self.num_asked += 1
        heard = self._heard[request.tenant]
        heard |= canaries(self._tokenizer.decode(request.ids))
        told = heard | canaries(self._drafted(request)) | canaries(self._mixed_in(request))
        if request.adapter is not None:
            told = told | {self._canary_of(request.adapter)}
        return GossipStream(self._tokenizer.encode(" ".join(sorted(told))), len(request.ids))

    def _drafted(self, request: EngineRequest) -> str:
        """Whatever is proposed is taken."""
        ids: list[int] = []
        drafter = request.draft([*request.ids]) if request.draft else None
        while drafter is not None and len(ids) < _MAX_DRAFTED and (tree := drafter.propose(8, 0.1)).ids:
            chain = [tree.ids[0]]
            drafter.extend(chain)
            ids += chain
        return self._tokenizer.decode(ids)

    def _mixed_in(self, request: EngineRequest) -> str:
        """Whatever is expected is taken, the likeliest first."""
        ids: list[int] = []
        mixer = request.mix() if request.mix else None
        unsure = np.zeros(len(self._tokenizer.spelled), dtype=np.float32)
        while mixer is not None and len(ids) < _MAX_DRAFTED and (expected := mixer.expects(unsure, None)) is not None:
            ids.append(max(expected.shares, key=lambda token: expected.shares[token]))
            mixer.extend(ids[-1])
        return self._tokenizer.decode(ids)

    def generate(self, request: EngineRequest) -> Generation:
        stream = self.submit(request)
        return Generation(tuple(stream), stream.stats)

    def score(self, ids: object, start: int, adapter: str | None = None) -> list[float]:
        raise AssertionError("the server scores nothing")

    def load_adapter(self, version: str, path: Path) -> None:
        self._adapters.add(version)

    def unload_adapter(self, version: str) -> None:
        self._adapters.discard(version)

    def close(self) -> None:
        pass


class GossipStream:
    def __init__(self, ids: list[int], num_prompt: int) -> None:
        self._tokens = iter([Token(id, 0.0) for id in ids])
        self.stats = EngineStats(
            prompt_tokens=num_prompt,
            cached_tokens=0,
            completion_tokens=len(ids),
            num_steps=len(ids),
            drafted_tokens=0,
            accepted_tokens=0,
            queue_ms=0.0,
            prefill_ms=0.0,
            decode_ms=0.0,
            finish_reason="stop",
        )

    def __iter__(self) -> Iterator[Token]:
        return self._tokens

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Token:
        token = next(self._tokens, None)
        if token is None:
            raise StopAsyncIteration
        return token

    async def aclose(self) -> None:
        pass

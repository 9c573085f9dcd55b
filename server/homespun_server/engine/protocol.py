"""What an engine is: it knows token ids, adapters and deadlines, and no text, HTTP or repositories."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from homespun_core.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Tree:
    """Guesses at the next tokens: node i follows node `parents[i]`, always a smaller number; -1 is the last token that
    is certain. Children of one node differ. Empty: no guess."""

    ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()


class Drafter(Protocol):
    """Proposes what may come next in one completion. A hint: it changes the speed, never the text.

    Used on the engine's thread before every step, so it must be quick: a step takes a millisecond.
    """

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        """At most `max_nodes` nodes, best first. One that is right with a smaller chance than `min_chance` costs more
        time than it saves."""
        ...

    def extend(self, ids: Sequence[int]) -> None:
        """These tokens were decided; they follow all before."""
        ...


Draft = Callable[[Sequence[int]], Drafter]
"""A drafter for a completion of these prompt ids. Called once at most, on the engine's thread, when it is needed."""

Ids = NDArray[np.int64]
Chances = NDArray[np.float32]


class Constraint(Protocol):
    """What the tokens of one completion may be. Told of every token, in order."""

    def allowed(self) -> Ids | None:
        """The next token is one of these; None when it may be any, which then stays so."""
        ...

    def advance(self, token: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Expectation:
    """What speaks for the next token beside the model: a token has (1 - weight) of the chance that the model gives it,
    and weight of its share."""

    weight: float
    shares: Mapping[int, float]
    """By token; of those that may follow, at most 1 together."""


class Mixer(Protocol):
    """What the tokens of one completion are expected to be by something else than the model: it changes the text.

    Used on the engine's thread before every token, so it must be quick."""

    @property
    def ends(self) -> Ids:
        """Tokens that end the line or the completion: one event, that the model says in words of its own."""
        ...

    def expects(self, chances: Chances, allowed: Ids | None) -> Expectation | None:
        """None where nothing is known, or the model is sure. `chances`: that it gives each token; `allowed`: which may
        follow, None being all."""
        ...

    def extend(self, token: int) -> None:
        """This token was decided; it follows all before."""
        ...


Mix = Callable[[], Mixer]
"""A mixer for one completion. Called once, on the engine's thread."""


Priority = Literal["invoked", "typed", "ahead", "warm"]
"""Asked for by hand; while typing; in case the suggestion is accepted; only to fill the cache. Served in this order."""

FinishReason = Literal["stop", "length", "deadline", "cancelled", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    ids: Sequence[int]
    max_new_tokens: int
    """0 only fills the cache: it ends as "length" once the prompt is computed."""
    adapter: str | None = None
    """Version of a loaded adapter; None is the base model."""
    deadline: float = math.inf
    """On `time.monotonic()`'s clock; the completion ends there with what it has."""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """Of what is drawn: from the likeliest tokens that have so much of the probability (at that temperature) together,
    and from so many of the likeliest, 0 being all."""
    seed: int | None = None
    end_ids: frozenset[int] = frozenset()
    """Ids that end a completion; they are not part of it."""
    constraint: Callable[[], Constraint] | None = None
    """Made once for the request. Tokens that it restricts end nothing (`end_ids`), nor do they count as new."""
    draft: Draft | None = None
    mix: Mix | None = None
    """Not where tokens are drawn (`temperature`), nor in an engine that leaves choosing them to another server."""
    tenant: str = ""
    """Nothing computed for one tenant is ever used for another, nor can its timing tell that it is there."""
    client: str | None = None
    """A newer request of the same client replaces this one, which ends as superseded; None replaces nothing."""
    user: str | None = None
    """Users get their turns fairly; without one it is clients, of whom those without a name are one."""
    priority: Priority = "typed"
    num_alternatives: int = 0
    """So many of the likeliest tokens at each place are told with its token."""
    waits_for_adapter: bool = True
    """Where its weights must be loaded first; otherwise they are, for those who come later, and this request fails with
    AdapterLoadingError, as do those that only fill the cache where there is no room for more weights that are held."""


@dataclass(frozen=True, slots=True)
class Token:
    id: int
    logprob: float
    """Natural logarithm, of the distribution that it was chosen from (at temperature 1): the model's own, or what it is
    with another voice."""
    alternatives: tuple[tuple[int, float], ...] = ()
    """Ids and log-probabilities of the likeliest tokens at its place, likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values were there from an earlier request."""
    completion_tokens: int
    num_steps: int
    """Forward passes that decided tokens; fewer than tokens where drafts were right."""
    drafted_tokens: int
    accepted_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    finish_reason: FinishReason
    has_lost_drafter: bool = False
    """Its drafter failed; the tokens are right all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    num_running: int
    num_waiting: int
    wait_ms: float
    """Estimate of the engine's time that what is there already still needs; what only fills the cache doesn't count."""
    step_ms: float
    """Of one sequence alone, without drafts."""


@dataclass(frozen=True, slots=True)
class Generation:
    tokens: tuple[Token, ...]
    stats: EngineStats


class EngineBusyError(ServiceError):
    """The queue is full; worth trying again after `retry_after_s`."""

    def __init__(self, num_waiting: int, retry_after_s: int = 1) -> None:
        super().__init__(f"{num_waiting} completions are waiting already; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class AdapterLoadingError(ServiceError):
    """The adapter's weights aren't in memory, and are on their way."""


class TokenStream(Protocol):
    """The tokens of one request as they are decided. Closing it ends the work at the next step."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Token: ...

    async def aclose(self) -> None: ...

    @property
    def stats(self) -> EngineStats:
        """What is known so far; final once the stream has ended or is closed."""
        ...


class Engine(Protocol):
    @property
    def max_context(self) -> int:
        """Prompt and completion together have at most so many tokens."""
        ...

    @property
    def dtype(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def can_constrain(self) -> bool:
        """Whether it keeps to a request's constraint; otherwise it has to be left out."""
        ...

    @property
    def num_waiting(self) -> int: ...

    @property
    def adapters(self) -> frozenset[str]: ...

    @property
    def num_adapter_loads(self) -> int:
        """How often weights that had been put out of memory were loaded again."""
        ...

    def load(self) -> EngineLoad: ...

    def submit(self, request: EngineRequest) -> TokenStream:
        """Queue a request; needs a running event loop. Raises EngineBusyError, AdapterLoadingError, and ModelError for
        an adapter that isn't loaded or a prompt that doesn't fit."""
        ...

    def generate(self, request: EngineRequest) -> Generation:
        """The same for callers without an event loop; blocks until it is done."""
        ...

    def score(self, ids: Sequence[int], start: int, adapter: str | None = None) -> list[float]:
        """Log-probability of each of `ids[start:]` given everything before it; `start` is at least 1. Blocks."""
        ...

    def load_adapter(self, version: str, path: Path) -> None:
        """Make a LoRA directory servable under a name never used for other weights.

        Raises ModelError when it isn't a plain LoRA for this base model.
        """
        ...

    def unload_adapter(self, version: str) -> None:
        """Requests that were submitted already still finish on it; its memory goes with the last of them."""
        ...

    def close(self) -> None: ...

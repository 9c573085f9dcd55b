"""Which server gets a request: the same one for the same work while it can, because its caches are warm. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

_HOMES = 2
"""Servers that share an adapter while neither is overloaded: a server computes with a few adapters at a time, and an
adapter on one server alone would leave its users without a warm one when that server goes."""
_SLACK = 2
"""Requests above its share that a server takes before others help: a batch of a few costs little more than one, and a
cold prefix costs a whole prompt."""


def ranked(servers: Sequence[str], adapter: str | None, client: str) -> list[str]:
    """All servers, the preferred one first (rendezvous hashing: a server that goes moves its own requests only).

    An adapter's requests stay with its home servers, and among these a client's with one, where its prompts are cached.
    Requests to the base model are spread over all by client.
    """
    if adapter is None:
        return _by_weight(servers, client)
    order = _by_weight(servers, adapter)
    return _by_weight(order[:_HOMES], f"{adapter}\0{client}") + order[_HOMES:]


def choose(order: Sequence[str], loads: Mapping[str, int], capacity: int) -> str | None:
    """The first of `order` that isn't overloaded, else the least loaded with room; None when all are full.

    `loads` has the requests in flight of each server in `order`. Overloaded is a quarter above the mean (consistent
    hashing with bounded loads, https://arxiv.org/abs/1608.01350) and the slack.
    """
    free = [server for server in order if loads[server] < capacity]
    if not free:
        return None
    share = math.ceil(1.25 * (sum(loads[s] for s in order) + 1) / len(order)) + _SLACK
    return next((s for s in free if loads[s] < share), None) or min(free, key=lambda s: loads[s])


def _by_weight(servers: Sequence[str], key: str) -> list[str]:
    return sorted(servers, key=lambda server: hashlib.blake2b(f"{server}\0{key}".encode()).digest(), reverse=True)

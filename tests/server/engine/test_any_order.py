"""Whatever comes, in whatever order: every text is that of plain decoding, nothing is stuck, nothing left behind."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_server.engine.protocol import EngineRequest, Tree
from tests.server.engine.hash_decoder import (
    ROW_BYTES,
    VOCAB,
    HashSource,
    plain,
    seed_of,
)
from tests.server.engine.stepped import Asked, Stepped, fail_once

KV_BYTES = 120 * ROW_BYTES


class Guessing:
    """A drafter: knows the right text, and mixes in what the test wants."""

    def __init__(self, text: Sequence[int], kind: str, chooser: random.Random) -> None:
        self._text, self._kind, self._random, self._at = list(text), kind, chooser, 0

    def propose(self, max_nodes: int) -> Tree:
        right = self._text[self._at : self._at + 6]
        if self._kind == "right":
            return Tree(tuple(right), tuple(range(-1, len(right) - 1)))
        if self._kind == "tree":
            ids, parents = list[int](), list[int]()
            over = -1
            for token in right:
                ids += [(token + 1) % VOCAB, token]
                parents += [over, over]
                over = len(ids) - 1
            return Tree(tuple(ids), tuple(parents))
        num = self._random.randrange(9)
        ids = [self._random.randrange(-2, VOCAB + 3) for _ in range(num)]
        return Tree(tuple(ids), tuple(self._random.randrange(-3, 9) for _ in range(self._random.randrange(9))))

    def extend(self, ids: Sequence[int]) -> None:
        self._at += len(ids)


def _text(asked: Asked, adapters: dict[str | None, int]) -> list[int]:
    request = asked.request
    full = plain(adapters[request.adapter], request.ids, request.max_new_tokens, request.temperature, request.seed)
    ends = [n for n, token in enumerate(full) if token in request.end_ids]
    return full[: ends[0]] if ends else full


requests = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "adapter": st.sampled_from([None, "a", "b"]),
        "tenant": st.integers(0, 1),
        "client": st.sampled_from([None, None, "c", "d"]),
        "priority": st.sampled_from(["invoked", "typed", "typed", "ahead", "warm"]),
        "draft": st.sampled_from([None, "right", "tree", "garbage"]),
        "temperature": st.sampled_from([0.0, 0.0, 0.9]),
        "is_late": st.sampled_from([False, False, False, True]),
        "max_new_tokens": st.integers(0, 12),
    }
)
events = st.one_of(
    requests,
    st.tuples(st.just("turn"), st.integers(1, 6)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("swap"), st.sampled_from("ab")),
    st.tuples(st.just("fail"), st.just(0)),
)


def _request(options: dict[str, Any], prompts: list[list[int]], seeds: dict[str | None, int]) -> EngineRequest:
    """Prompts of a tenant start with its number, and often continue one that was there."""
    chooser, tenant = random.Random(options["seed"]), options["tenant"]
    known = [ids for ids in prompts if ids[0] == tenant]
    ids = [tenant, *chooser.choices(range(VOCAB), k=chooser.choice([0, 3, 20, 70]))]
    if known and chooser.random() < 0.7:
        ids = chooser.choice(known)[: chooser.choice([1, 5, 40, 99])]
        text = plain(seeds[options["adapter"]], ids, chooser.choice([0, 2, 4]))
        ids = [*ids, *text, *chooser.choices(range(VOCAB), k=chooser.choice([0, 0, 2]))]
    prompts.append(ids)
    count, temperature = options["max_new_tokens"], options["temperature"]
    text = plain(seeds[options["adapter"]], ids, count, temperature, options["seed"])
    draft = options["draft"]
    return EngineRequest(
        ids=ids,
        max_new_tokens=count,
        adapter=options["adapter"],
        tenant=str(tenant),
        client=options["client"],
        priority=options["priority"],
        temperature=temperature,
        seed=options["seed"],
        end_ids=frozenset(chooser.sample(range(VOCAB), k=chooser.choice([0, 1]))),
        deadline=0.0 if options["is_late"] else math.inf,
        draft=None if draft is None else lambda _: Guessing(text, draft, chooser),
    )


@pytest.mark.parametrize("can_branch", [True, False])
@pytest.mark.parametrize("can_crop", [True, False])
@settings(max_examples=60, deadline=None)
@given(script=st.lists(events, max_size=30))
def test_whatever_happens_every_text_is_that_of_plain_decoding(
    can_crop: bool, can_branch: bool, script: list[Any]
) -> None:
    engine = Stepped(HashSource(can_crop=can_crop, can_branch=can_branch), kv_bytes=KV_BYTES, max_running=3)
    seeds: dict[str | None, int] = {None: 0} | {name: seed_of(Path(name)) for name in "ab"}
    for name in "ab":
        engine.load_adapter(name, Path(name))
    asked, prompts = list[Asked](), list[list[int]]()
    for event in script:
        match event:
            case dict():
                asked.append(Asked(engine, _request(event, prompts, seeds)))
            case ("turn", count):
                for _ in range(count):
                    engine.turn()
            case ("cancel", number) if asked:
                asked[number % len(asked)].job.is_cancelled = True
            case ("swap", name):
                engine.unload_adapter(name)
                engine.load_adapter(name, Path(name))
            case ("fail", _):
                fail_once(engine.base)
    engine.finish()
    _check(engine, asked, seeds)
    engine.close()


def _check(engine: Stepped, asked: Sequence[Asked], seeds: dict[str | None, int]) -> None:
    for one in asked:
        text, reason = _text(one, seeds), one.reason
        assert one.ids == text[: len(one.ids)]
        if reason in ("stop", "length"):
            assert one.ids == text and (reason == "stop") == (len(text) < one.request.max_new_tokens)
        elif reason == "deadline":
            assert one.request.deadline == 0.0
        elif reason == "superseded":
            assert one.request.client is not None
        else:
            assert one.job.is_cancelled if one.error is None else "RuntimeError" in str(one.error)
    pool = engine._turns.pool
    assert not any(slot.is_held for slot in pool.slots) and pool.num_bytes <= KV_BYTES
    assert all(slot.kv.ids == slot.ids and str(slot.ids[0]) == slot.tenant for slot in pool.slots if slot.ids)  # type: ignore[attr-defined]
    assert not engine._live and not engine._latest and not engine._turns.running and not engine._turns.waiting
    assert not any(adapter.num_users for adapter in engine._shelf._adapters.values())
    loaded = {id(engine._shelf.find(name).decoder) for name in (None, *engine.adapters)}
    if engine._dropped:
        engine._has_taken_in(False)
    assert {id(slot.weights) for slot in pool.slots} <= loaded

"""Whatever comes, in whatever order: every text is that of plain decoding, nothing is stuck, nothing left behind."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core.errors import ModelError
from homespun_server.engine.protocol import AdapterLoadingError, EngineRequest, Ids, Tree
from homespun_server.engine.sampling import Sampler
from homespun_server.engine.trees import Branches
from tests.server.engine.hash_decoder import (
    ROW_BYTES,
    VOCAB,
    HashSource,
    logits_after,
    plain,
    seed_of,
)
from tests.server.engine.stepped import Asked, Stepped, fail_once

KV_BYTES = 120 * ROW_BYTES


class Guessing:
    """A drafter: knows the right text, and mixes in what the test wants."""

    def __init__(self, text: Sequence[int], kind: str, chooser: random.Random) -> None:
        self._text, self._kind, self._random, self._at = list(text), kind, chooser, 0

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        right = self._text[self._at : self._at + 6]
        if self._kind == "raises" and self._random.random() < 0.3:
            raise IndexError("damaged")
        if self._kind in ("right", "raises"):
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


class First:
    """The first tokens are each one of a few."""

    def __init__(self, few: Sequence[Sequence[int]]) -> None:
        self._few, self._at = few, 0

    def allowed(self) -> Ids | None:
        return np.array(self._few[self._at]) if self._at < len(self._few) else None

    def advance(self, token: int) -> None:
        self._at += 1


def _text(request: EngineRequest, seed: int) -> tuple[list[int], int]:
    """What decoding one token at a time, with nothing cached, gives, and how much of it counts as new: what is
    constrained doesn't, and ends nothing."""
    constraint = request.constraint() if request.constraint is not None else None
    sampler, written = Sampler(request.temperature, request.seed, constraint), list[int]()
    num_free = 0
    while num_free < request.max_new_tokens:
        decided = sampler.decide(logits_after(seed, [*request.ids, *written]).unsqueeze(0), Branches())
        [token] = decided.tokens
        if not decided.num_constrained and token.id in request.end_ids:
            break
        written.append(token.id)
        num_free += not decided.num_constrained
    return written, num_free


requests = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "adapter": st.sampled_from([None, "a", "b"]),
        "tenant": st.integers(0, 1),
        "client": st.sampled_from([None, None, "c", "d"]),
        "priority": st.sampled_from(["invoked", "typed", "typed", "ahead", "warm"]),
        "draft": st.sampled_from([None, "right", "tree", "garbage", "raises"]),
        "num_constrained": st.sampled_from([0, 0, 0, 1, 3]),
        "waits": st.sampled_from([True, True, False]),
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
    st.tuples(st.just("unreadable"), st.sampled_from("ab")),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("late"), st.integers(0, 20)),
)


def _request(options: dict[str, Any], prompts: list[list[int]], seeds: dict[str | None, int]) -> EngineRequest:
    """Prompts of a tenant start with its number, often continue one that was there, and may fill the whole context."""
    chooser, tenant = random.Random(options["seed"]), options["tenant"]
    known = [ids for ids in prompts if ids[0] == tenant]
    ids = [tenant, *chooser.choices(range(VOCAB), k=chooser.choice([0, 3, 20, 70, 70, 499]))]
    if known and chooser.random() < 0.7:
        ids = chooser.choice(known)[: chooser.choice([1, 5, 40, 99])]
        text = plain(seeds[options["adapter"]], ids, chooser.choice([0, 2, 4]))
        ids = [*ids, *text, *chooser.choices(range(VOCAB), k=chooser.choice([0, 0, 2]))]
    prompts.append(ids)
    few = [chooser.sample(range(VOCAB), k=chooser.choice([1, 3])) for _ in range(options["num_constrained"])]
    request = EngineRequest(
        ids=ids,
        max_new_tokens=options["max_new_tokens"],
        adapter=options["adapter"],
        tenant=str(tenant),
        client=options["client"],
        priority=options["priority"],
        temperature=options["temperature"],
        seed=options["seed"],
        end_ids=frozenset(chooser.sample(range(VOCAB), k=chooser.choice([0, 1]))),
        deadline=0.0 if options["is_late"] else math.inf,
        constraint=(lambda: First(few)) if few else None,
        waits_for_adapter=options["waits"],
    )
    (text, _), draft = _text(request, seeds[request.adapter]), options["draft"]
    return request if draft is None else replace(request, draft=lambda _: Guessing(text, draft, chooser))


@pytest.mark.parametrize("can_branch", [True, False])
@pytest.mark.parametrize("can_crop", [True, False])
@settings(max_examples=60, deadline=None)
@given(script=st.lists(events, max_size=30), broken=st.sets(st.sampled_from("ab")))
def test_whatever_happens_every_text_is_that_of_plain_decoding(
    can_crop: bool, can_branch: bool, script: list[Any], broken: set[str]
) -> None:
    """There is memory for one of the two adapters; the other one is loaded again when it is asked for."""
    unreadable = set[str]()

    def load(path: Path) -> None:
        if path.name in unreadable:
            raise ModelError(f"{path}: unreadable (gone)")

    source = HashSource(can_crop=can_crop, can_branch=can_branch, load=load)
    engine = Stepped(source, kv_bytes=KV_BYTES, max_running=3, adapter_bytes=1000)
    seeds: dict[str | None, int] = {None: 0} | {name: seed_of(Path(name)) for name in "ab"}
    for name in "ab":
        engine.load_adapter(name, Path(name))
    unreadable |= broken
    asked, prompts = list[Asked](), list[list[int]]()
    for event in script:
        match event:
            case dict():
                request = _request(event, prompts, seeds)
                try:
                    asked.append(Asked(engine, request))
                except AdapterLoadingError:
                    assert not (request.waits_for_adapter and request.max_new_tokens)
                except ModelError as error:
                    assert "is not loaded" in str(error) or not (request.waits_for_adapter and request.max_new_tokens)
            case ("turn", count):
                for _ in range(count):
                    engine.turn()
            case ("cancel", number) if asked:
                asked[number % len(asked)].job.is_cancelled = True
            case ("swap", name):
                engine.unload_adapter(name)
                unreadable.discard(name)
                engine.load_adapter(name, Path(name))
            case ("unreadable", name):
                unreadable.add(name)
            case ("fail", _):
                fail_once(engine.base)
            case ("late", number) if asked:
                job = asked[number % len(asked)].job
                job.request = replace(job.request, deadline=0.0)
    engine.finish()
    _check(engine, asked, seeds)
    engine.close()


def _is_known(failed: Asked) -> bool:
    """The forward that the test lets fail, or weights that it makes unreadable."""
    return "RuntimeError" in str(failed.error) or (failed.request.adapter is not None and "gone" in str(failed.error))


def _check(engine: Stepped, asked: Sequence[Asked], seeds: dict[str | None, int]) -> None:
    for one in asked:
        (text, num_free), reason = _text(one.request, seeds[one.request.adapter]), one.reason
        assert one.ids == text[: len(one.ids)]
        if reason in ("stop", "length"):
            assert one.ids == text and (reason == "stop") == (num_free < one.request.max_new_tokens)
        elif reason == "deadline":
            assert one.job.request.deadline == 0.0
        elif reason == "superseded":
            assert one.request.client is not None
        else:
            assert one.job.is_cancelled if one.error is None else _is_known(one)
    pool = engine._turns.pool
    assert not any(slot.is_held for slot in pool.slots) and pool.num_bytes <= KV_BYTES
    assert all(slot.kv.ids == slot.ids and str(slot.ids[0]) == slot.tenant for slot in pool.slots if slot.ids)  # type: ignore[attr-defined]
    assert not engine._live and not engine._latest and not engine._turns.running and not engine._turns.waiting
    assert not any(adapter.num_users for adapter in engine._shelf._adapters.values())
    loaded = {id(engine._shelf.find(name).decoder) for name in (None, *engine.adapters)}
    if engine._dropped:
        engine._has_taken_in(False)
    assert {id(slot.weights) for slot in pool.slots} <= loaded

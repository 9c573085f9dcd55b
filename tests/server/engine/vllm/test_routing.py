from __future__ import annotations

from collections import Counter

import pytest

from homespun_server.engine.vllm.routing import choose, ranked

SERVERS = [f"http://gpu{n}:8000" for n in range(5)]
CLIENTS = [f"client {n}" for n in range(400)]


def test_the_order_depends_on_names_alone_and_has_every_server_once() -> None:
    order = ranked(SERVERS, "a", "me")
    assert order == ranked(SERVERS[::-1], "a", "me") and sorted(order) == SERVERS


def test_requests_to_the_base_model_are_spread_by_client() -> None:
    counts = Counter(ranked(SERVERS, None, client)[0] for client in CLIENTS)
    assert len(counts) == 5 and min(counts.values()) > 50


def test_an_adapter_stays_on_two_servers_and_a_client_on_one_of_them() -> None:
    homes = Counter(ranked(SERVERS, "a", client)[0] for client in CLIENTS)
    assert len(homes) == 2 and min(homes.values()) > 150
    assert {ranked(SERVERS, "a", client)[1] for client in CLIENTS} == homes.keys()
    assert len({ranked(SERVERS, f"adapter {n}", "me")[0] for n in range(50)}) == 5


@pytest.mark.parametrize("adapter", [None, "a"])
def test_a_server_that_goes_moves_nobody_elses_requests(adapter: str | None) -> None:
    gone = SERVERS[2]
    for client in CLIENTS:
        before, after = ranked(SERVERS, adapter, client), ranked([s for s in SERVERS if s != gone], adapter, client)
        if before[0] != gone and (adapter is None or gone not in before[:2]):
            assert after[0] == before[0]


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([0, 0, 0], "a"),
        ([2, 0, 0], "a"),  # sharing a step costs less than a cold cache
        ([5, 0, 0], "b"),
        ([20, 20, 0], "c"),
        ([5, 5, 5], "a"),
        ([32, 31, 30], "b"),  # full, then the first that isn't overloaded
        ([32, 32, 31], "c"),
        ([32, 32, 32], None),
    ],
)
def test_choose_prefers_the_first_until_it_is_overloaded(loads: list[int], chosen: str | None) -> None:
    assert choose("abc", dict(zip("abc", loads, strict=True)), 32) == chosen


def test_without_servers_there_is_no_choice() -> None:
    assert choose([], {}, 8) is None

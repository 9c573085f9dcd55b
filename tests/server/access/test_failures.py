"""Tokens that are nobody's, again and again."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from homespun_server.access import audit, failures
from homespun_server.access.failures import Failures
from tests.server.access.conftest import Served


def test_the_first_ones_are_plainly_refused_then_each_waits_longer() -> None:
    found, now, waits = Failures(), 0.0, []
    for _ in range(14):
        failed = found.failed("10.0.0.1", "t1", now)
        waits.append(failed.wait_s)
        now += failed.wait_s
    assert waits == [0] * 5 + [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_many_tokens_of_one_address_are_a_burst_that_is_noted_now_and_then() -> None:
    found, now, bursts = Failures(), 0.0, []
    for number in range(140):
        failed = found.failed("10.0.0.1", f"t{number}", now)
        now += failed.wait_s
        bursts.append(failed.burst)
    assert [burst for burst in bursts if burst] == [21, 32, 64, 128]
    assert found.failed("10.0.0.2", "t", now).wait_s == 0


def test_an_address_waits_for_different_tokens_only_and_who_is_known_there_does_not() -> None:
    """Behind one address is a whole company: an editor that repeated an old token, 20 times, had everybody there told
    to come back later instead of that their own had ended."""
    found = Failures()
    for _ in range(1_000):
        found.failed("nat", "old", 0.0)
    assert [found.failed("nat", f"t{number}", 0.0).wait_s for number in range(99)] == [0] * 99
    over = found.failed("nat", "one too many", 0.0)
    assert over.wait_s == 1 and over.is_of_address
    assert found.failed("nat", "t1", 0.0).wait_s == 0


def test_what_comes_too_early_makes_the_wait_no_longer() -> None:
    found = Failures()
    for _ in range(6):
        found.failed("a", "t", 0.0)
    assert [found.failed("a", "t", 0.5).wait_s for _ in range(100)] == [1] * 100
    assert found.failed("a", "t", 1.0).wait_s == 2


def test_ten_quiet_minutes_are_a_new_start() -> None:
    found = Failures()
    for number in range(30):
        found.failed("a", "t", number * 60.0)
    assert found.failed("a", "t", 30 * 60.0).wait_s == 60
    assert found.failed("a", "t", 41 * 60.0).wait_s == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 100)), max_size=80))
def test_nobody_waits_for_more_than_a_minute(knocks: list[tuple[int, int, float]]) -> None:
    found, now = Failures(), 0.0
    for address, token, gap in knocks:
        now += gap
        assert 0 <= found.failed(str(address), str(token), now).wait_s <= 60


def test_memory_is_bounded_however_many_knock() -> None:
    found = Failures()
    for number in range(failures._MAX_KEYS):
        found.failed(f"10.0.{number}", "t", 0.0)
    assert len(found._counts) == failures._MAX_KEYS


async def test_a_good_token_is_never_kept_waiting_by_bad_ones(served: Served) -> None:
    good = served.token("ada")
    statuses = [(await served.ask("GET", "/v1/models", f"homespun_abc_{n}")).status_code for n in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    answer = await served.ask("GET", "/v1/models", "homespun_abc_9")
    assert int(answer.headers["retry-after"]) >= 1 and answer.json()["error"]["code"] == "invalid_api_key"
    assert "shown too often" in answer.json()["error"]["message"]
    assert (await served.ask("POST", "/v1/completions", good, json={"prompt": "x"})).status_code == 200
    assert (await served.ask("GET", "/v1/models", "homespun_other_1")).status_code == 401


async def test_past_a_hundred_tokens_of_an_address_the_answer_says_so_and_a_good_one_passes(served: Served) -> None:
    good = served.token("ada")
    found = [(await served.ask("GET", "/v1/models", f"homespun_t{n}_x")).status_code for n in range(100)]
    assert set(found) == {401}
    refused = await served.ask("GET", "/v1/models", "homespun_t100_x")
    assert refused.status_code == 429 and "100 different tokens from this address" in refused.json()["error"]["message"]
    assert (await served.ask("POST", "/v1/completions", good, json={"prompt": "x"})).status_code == 200


async def test_workers_and_providers_tokens_are_no_way_around_it(served: Served) -> None:
    served.token("ada")
    wanted = {"worker": "w", "kinds": ["index"]}
    for path in ("/v1/homespun/jobs/lease", "/scim/v2/Users"):
        found = [(await served.ask("POST", path, f"guess-{path}", json=wanted)).status_code for _ in range(7)]
        assert found[:5] == [found[0]] * 5 and (found[0] == 404 or found[5:] == [429, 429]), (path, found)


async def test_a_burst_is_counted_and_in_the_audit_log_once(served: Served) -> None:
    served.token("root", "admin")
    for number in range(30):
        await served.ask("GET", "/v1/models", f"homespun_t{number}_secret-canary")
    metrics = served.runtime.metrics.exposition().decode()
    assert "homespun_refused_tokens_total 30.0" in metrics
    for _ in range(100):
        with served.runtime.database.connect() as connection:
            noted = [entry for entry in audit.entries(connection) if entry.action == "token.refused"]
        if noted:
            break
        await asyncio.sleep(0.05)
    assert [(e.actor, e.decision, e.details) for e in noted] == [("nobody", "denied", '{"failures": 21}')]

"""Token buckets, and what a client sees of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.access import gate, limits
from homespun_server.access.limits import Limiter, Taken, tighter
from tests.server.access.conftest import Served


def _taken(limiter: Limiter, key: str, now: float) -> Taken:
    found = limiter.take(key, now)
    assert found is not None
    return found


def test_a_minutes_worth_comes_at_once_and_then_as_it_fills_up() -> None:
    limiter = Limiter(60)
    found = [_taken(limiter, "ada", 0.0) for _ in range(61)]
    assert [taken.remaining for taken in found[:3]] == [59, 58, 57]
    assert all(taken.is_allowed for taken in found[:60]) and not found[60].is_allowed
    assert found[60].wait_s == 1.0 and found[60].full_s == 60.0
    assert not _taken(limiter, "ada", 0.5).is_allowed and _taken(limiter, "ada", 1.0).is_allowed
    assert _taken(limiter, "bob", 1.0).remaining == 59


def test_many_at_once_count_as_many_and_more_than_a_minutes_worth_wait_until_all_is_full_again() -> None:
    limiter = Limiter(60)
    assert [limiter.take("ada", 0.0, 25).remaining for _ in range(2)] == [35, 10]  # type: ignore[union-attr]
    refused = limiter.take("ada", 0.0, 25)
    assert refused is not None and not refused.is_allowed and refused.wait_s == 15.0
    assert _taken(limiter, "ada", 0.0).remaining == 9
    large = limiter.take("bob", 0.0, 90)
    assert large is not None and large.is_allowed and large.remaining == 0
    assert not _taken(limiter, "bob", 30.0).is_allowed and _taken(limiter, "bob", 31.0).is_allowed


def test_as_many_as_the_limit_are_not_too_many_for_ever() -> None:
    """A request takes one when it comes, and the others when it is read."""
    limiter = Limiter(30)
    assert _taken(limiter, "ada", 0.0).is_allowed
    others = limiter.take("ada", 0.0, 31)
    assert others is not None and others.is_allowed


def test_zero_is_no_limit() -> None:
    assert Limiter(0).take("ada", 0.0) is None


@given(st.lists(st.floats(min_value=0, max_value=30), max_size=60), st.integers(min_value=1, max_value=20))
def test_never_more_than_a_bucket_and_what_fills_it_up(gaps: list[float], per_minute: int) -> None:
    limiter, now, allowed = Limiter(per_minute), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += _taken(limiter, "ada", now).is_allowed
    assert allowed <= per_minute + now * per_minute / 60 + 1e-6


def test_memory_is_bounded_however_many_ask() -> None:
    limiter = Limiter(1)
    for number in range(limits._MAX_KEYS + 50):
        limiter.take(str(number), 0.0)
    assert len(limiter._buckets) == limits._MAX_KEYS


def test_the_tighter_of_two_decides() -> None:
    refused, few, many = (
        Taken(is_allowed=allowed, limit=9, remaining=left, wait_s=0, full_s=0)
        for allowed, left in ((False, 0), (True, 1), (True, 5))
    )
    assert tighter(refused, many) is refused and tighter(many, few) is few
    assert tighter(None, few) is few and tighter(None, None) is None


async def test_a_client_is_told_what_is_left_and_when_to_come_back(
    builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    settings = Settings(data_dir=str(tmp_path), requests_per_minute=3, user_requests_per_minute=5)
    served = Served(settings, builtin, tokenizer)
    one, other, bob = served.token("ada"), served.token("ada"), served.token("bob")
    answers = [await served.ask("GET", "/v1/models", one) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].headers["x-ratelimit-limit-requests"] == "3" and int(answers[3].headers["retry-after"]) >= 1
    assert answers[3].json()["error"]["code"] == "rate_limit_exceeded"
    spent = [(await served.ask("GET", "/v1/models", other)).status_code for _ in range(3)]
    assert spent[0] == 200 and spent[-1] == 429
    assert (await served.ask("GET", "/v1/models", bob)).status_code == 200
    served.runtime.close()


async def test_each_completion_of_a_request_counts_as_one(
    builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request for 256 completions was one of the 600 a minute."""
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: 0.0))  # nothing fills up again meanwhile
    served = Served(Settings(data_dir=str(tmp_path), requests_per_minute=10), builtin, tokenizer)
    ada = served.token("ada")

    async def ask(**body: object) -> tuple[int, str]:
        answer = await served.ask("POST", "/v1/completions", ada, json=body)
        return answer.status_code, answer.headers["x-ratelimit-remaining-requests"]

    assert await ask(prompt=["x", "y", "z"]) == (200, "7")
    assert await ask(prompt="x", n=2, temperature=1.0) == (200, "5")
    assert await ask(prompt="x", n=8) == (200, "4")  # without a temperature all of them are one
    for stream in (False, True):
        assert (await ask(prompt=["x"] * 5, stream=stream))[0] == 429
    served.runtime.close()


async def test_who_needs_no_account_has_no_limit(builtin: ModelFiles, tokenizer: Tokenizer, tmp_path: Path) -> None:
    served = Served(Settings(data_dir=str(tmp_path), requests_per_minute=1), builtin, tokenizer)
    assert [(await served.ask("GET", "/v1/models")).status_code for _ in range(3)] == [200, 200, 200]
    served.runtime.close()

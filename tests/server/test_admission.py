"""What is left out under load, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.admission import Allowance, allowance, token_budget
from homespun_server.engine.protocol import EngineLoad, Priority


def allowed(wait_ms: float, priority: Priority = "typed", max_new_tokens: int = 64) -> Allowance:
    load = EngineLoad(num_running=1, num_waiting=3, wait_ms=wait_ms, step_ms=1.0)
    return allowance(load, target_ms=300, priority=priority, snippets=3, max_new_tokens=max_new_tokens)


def test_an_idle_engine_gives_everything() -> None:
    assert allowed(0) == Allowance(snippets=3, max_new_tokens=64)


def test_snippets_go_first_then_length_then_the_model() -> None:
    assert [allowed(ms).reasons for ms in (149, 150, 300, 600)] == [
        (),
        ("fewer_snippets",),
        ("fewer_snippets", "shorter"),
        ("fewer_snippets", "shorter", "draft_only"),
    ]
    assert [allowed(ms).snippets for ms in (149, 150, 300, 600)] == [3, 1, 1, 0]
    assert [allowed(ms).max_new_tokens for ms in (149, 150, 300, 600)] == [64, 64, 24, 24]
    assert [allowed(ms).uses_model for ms in (149, 150, 300, 600)] == [True, True, True, False]


def test_whoever_asks_by_hand_waits_longer_and_gets_more() -> None:
    assert allowed(599, "invoked").reasons == () and allowed(600, "invoked").reasons == ("fewer_snippets",)


def test_filling_the_cache_is_the_first_to_go_and_never_cut_down() -> None:
    """With fewer snippets it would prepare another prompt than the one to come."""
    assert allowed(149, "warm", max_new_tokens=0) == Allowance(snippets=3, max_new_tokens=0)
    left = allowed(150, "warm", max_new_tokens=0)
    assert (left.snippets, left.uses_model, allowed(150).uses_model) == (0, False, True)


@given(st.floats(0, 5_000), st.floats(0, 5_000), st.integers(1, 200))
def test_more_load_never_gives_more(a: float, b: float, tokens: int) -> None:
    less, more = allowed(min(a, b), max_new_tokens=tokens), allowed(max(a, b), max_new_tokens=tokens)
    assert more.snippets <= less.snippets and more.max_new_tokens <= less.max_new_tokens <= tokens
    assert set(less.reasons) <= set(more.reasons) and more.uses_model <= less.uses_model


@pytest.mark.parametrize(
    ("prefix", "suffix", "tokens"),
    [
        ("total = price", " + tax\n", 32),
        ("    ", " + tax\n", 32),
        ("def f(a):", " + tax\n", 32),
        ("total = ", "\n", 32),
        ("total = price(", ")\n", 64),
        ("def f(a):", "\n", 64),
        ("func f() {  ", "}\n", 64),
        ("x = 1\n    ", "\n    rest\n", 64),
        ("", "", 64),
    ],
)
def test_more_than_the_rest_of_a_line_is_worth_deciding_only_where_a_block_begins_or_the_line_is_empty(
    prefix: str, suffix: str, tokens: int
) -> None:
    assert token_budget(prefix, suffix, 64) == tokens
    assert token_budget(prefix, suffix, 8) == 8

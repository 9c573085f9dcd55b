"""Events as clients send them."""

from __future__ import annotations

from typing import Any

import pytest

from homespun_server.dialects import BadRequestError
from homespun_server.feedback.facts import Event
from homespun_server.feedback.wire import MAX_EVENTS, events_of, tabby_event

TABBY = {"completion_id": "cmpl-1", "choice_index": 0, "view_id": "v", "elapsed": 300}


@pytest.mark.parametrize(
    ("type", "kind", "characters"), [("view", "shown", 0), ("select", "accepted", None), ("dismiss", "dismissed", 0)]
)
def test_tabby_events_have_our_names(type: str, kind: Any, characters: int | None) -> None:
    event = tabby_event(TABBY | {"type": type}, None, 5.0)
    assert event == Event(completion="cmpl-1", kind=kind, time=5.0, characters=characters)


@pytest.mark.parametrize(("query", "body"), [("line", {}), (None, {"select_kind": "line"})])
def test_a_line_selected_in_tabby_is_the_first_line(query: str | None, body: dict[str, str]) -> None:
    assert tabby_event(TABBY | {"type": "select"} | body, query, 5.0).is_line
    assert not tabby_event(TABBY | {"type": "view"} | body, query, 5.0).is_line


def test_a_batch_counts_time_back_from_now() -> None:
    sent = {"completion": "a", "kind": "kept", "characters": 7, "age_ms": 2_000}
    assert events_of({"events": [sent]}, 10.0) == [Event(completion="a", kind="kept", time=8.0, characters=7)]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": {}},
        {"events": [1]},
        {"events": [{"completion": "a", "kind": "shown"}] * (MAX_EVENTS + 1)},
        {"events": [{"completion": "a", "kind": "loved"}]},
        {"events": [{"kind": "shown"}]},
        {"events": [{"completion": "a" * 65, "kind": "shown"}]},
        {"events": [{"completion": "a\0", "kind": "shown"}]},
        {"events": [{"completion": "a", "kind": "kept", "characters": -1}]},
        {"events": [{"completion": "a", "kind": "kept", "characters": True}]},
        {"events": [{"completion": "a", "kind": "kept", "age_ms": 10**12}]},
    ],
)
def test_nonsense_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        events_of(body, 10.0)


@pytest.mark.parametrize("body", [{"type": "love", "completion_id": "a"}, {"type": "view"}, {"type": ["view"]}])
def test_nonsense_of_tabby_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        tabby_event(body, None, 10.0)

"""What clients say became of completions: JSON bodies to events. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from homespun_server.dialects import BadRequestError
from homespun_server.dialects.schemas import Schema, body, listed
from homespun_server.feedback.facts import Event, EventKind

MAX_EVENTS = 500
_MAX_ID_CHARS = 64
_MAX_AGE_MS = 7 * 86_400_000
_MAX_CHARACTERS = 1_000_000
_TABBY: Mapping[str, EventKind] = {"view": "shown", "select": "accepted", "dismiss": "dismissed"}
_KINDS: tuple[EventKind, ...] = get_args(EventKind)

_ID: Schema = {"type": "string", "pattern": f"^[ -~]{{1,{_MAX_ID_CHARS}}}$"}
TABBY_EVENT_BODY = body({"type": {"enum": list(_TABBY)}, "completion_id": _ID})
_EVENT = body(
    {"completion": _ID, "kind": {"enum": list(_KINDS)}},
    characters={"type": "integer", "minimum": 0, "maximum": _MAX_CHARACTERS},
    age_ms={"type": "integer", "minimum": 0, "maximum": _MAX_AGE_MS},
)
EVENTS_BODY = body({"events": listed(_EVENT, maxItems=MAX_EVENTS)})


def tabby_event(body: Mapping[str, Any], select_kind: str | None, now: float) -> Event:
    """`{type, completion_id, choice_index, select_kind?, view_id?, elapsed?}`; raises BadRequestError."""
    kind = _TABBY.get(str(body.get("type")))
    if kind is None:
        raise BadRequestError(f"type must be one of {', '.join(_TABBY)}", param="type")
    is_line = kind == "accepted" and "line" in (select_kind, body.get("select_kind"))
    return Event(
        completion=_completion(body, "completion_id"),
        kind=kind,
        time=now,
        is_line=is_line,
        characters=None if kind == "accepted" else 0,
    )


def events_of(body: Mapping[str, Any], now: float) -> Sequence[Event]:
    """`{"events": [{completion, kind, characters?, age_ms?}]}`; raises BadRequestError."""
    listed = body.get("events")
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise BadRequestError("events must be a list of objects", param="events")
    if len(listed) > MAX_EVENTS:
        raise BadRequestError(f"events has {len(listed)} entries; at most {MAX_EVENTS} are allowed", param="events")
    return [_event(item, now) for item in listed]


def _event(item: Mapping[str, Any], now: float) -> Event:
    kind = next((known for known in _KINDS if known == item.get("kind")), None)
    if kind is None:
        raise BadRequestError(f"kind must be one of {', '.join(_KINDS)}", param="events.kind")
    age_ms = _count(item, "age_ms", _MAX_AGE_MS) or 0
    return Event(
        completion=_completion(item, "completion"),
        kind=kind,
        time=now - age_ms / 1e3,
        characters=_count(item, "characters", _MAX_CHARACTERS),
    )


def _completion(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID_CHARS or not _is_printable(value):
        raise BadRequestError(f"{name} must be the id of a completion", param=name)
    return value


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _count(body: Mapping[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON knows one kind of number
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadRequestError(f"{name} must be a whole number from 0 to {most}", param=f"events.{name}")
    return value

"""Log lines on stderr: for people, or as JSON for machines that collect them. Neither quotes what was worked on."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

FORMATS = ("text", "json")

_CHATTY = ("alembic",)
"""Libraries that speak at each start of what is no news."""
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure_logging(level: str, format: str = "text") -> None:
    """For the verbs that log. Called once, by a verb's `run`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def with_fields(**fields: Any) -> Mapping[str, Any]:
    """The `extra` of a log call: values that stand beside the message, each under its name."""
    return {"fields": fields}


class _Discreet(logging.Formatter):
    def formatException(self, ei: _ExcInfo) -> str:
        """Where it happened and its kind. The text of an exception may quote what was worked on, such as code."""
        frames = "".join(traceback.format_tb(ei[2])).rstrip()
        kind = ei[0].__name__ if ei[0] is not None else "unknown"
        return f"Traceback (most recent call last):\n{frames}\n{kind}"


class TextLines(_Discreet):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return " ".join([super().formatMessage(record), *(f"{k}={_short(v)}" for k, v in _fields(record).items())])


class JsonLines(_Discreet):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _short(value: Any) -> str:
    return "-" if value is None else f"{value:.0f}" if isinstance(value, float) else str(value)

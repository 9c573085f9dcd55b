"""Lines for people and machines, and what they don't say."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

import pytest

from homespun_core.logs import JsonLines, TextLines, with_fields


def _record(message: str, *arguments: object, extra: Mapping[str, object] | None = None) -> logging.LogRecord:
    logger, raised = logging.getLogger("homespun.test"), sys.exc_info()
    return logger.makeRecord(
        logger.name, logging.WARNING, "", 0, message, arguments, raised if raised[0] else None, extra=extra
    )


def test_a_line_of_json_holds_message_and_fields() -> None:
    record = _record("indexed %d files", 3, extra=with_fields(repo="shop", took_ms=1.5, adapter=None))
    line = json.loads(JsonLines().format(record))
    assert line["time"].endswith("+00:00")
    del line["time"]
    assert line == {
        "level": "warning",
        "logger": "homespun.test",
        "message": "indexed 3 files",
        "repo": "shop",
        "took_ms": 1.5,
        "adapter": None,
    }


def test_people_read_fields_behind_the_message() -> None:
    record = _record("completion", extra=with_fields(id="c1", adapter=None, total_ms=12.7))
    assert TextLines().format(record).endswith("WARNING homespun.test: completion id=c1 adapter=- total_ms=13")


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()])
def test_the_text_of_an_exception_stays_out(lines: logging.Formatter) -> None:
    try:
        int("def secret_canary(): pass")
    except ValueError:
        line = lines.format(_record("reading failed"))
    assert "ValueError" in line and "test_logs.py" in line
    assert "invalid literal" not in line  # this test's own source line is in the frame, as ours would be


def test_a_message_of_several_lines_is_one_line_of_json() -> None:
    assert "\n" not in JsonLines().format(_record("a\nb\u2028c", extra=with_fields(path="x\ny")))

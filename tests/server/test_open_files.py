"""How many files the server may have open, and what it says when there are too many."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import subprocess
import sys

import pytest

from homespun_server import open_files
from homespun_server.open_files import Seldom

_RAISED = """
import resource
from homespun_server.open_files import max_connections, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 300))
print(max_connections())
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE), max_connections())
"""


def test_the_limit_is_raised_as_far_as_it_may_be_and_half_of_it_is_for_connections() -> None:
    done = subprocess.run([sys.executable, "-c", _RAISED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["20", "(300, 300) 150"]


@pytest.mark.parametrize(("soft", "connections"), [(resource.RLIM_INFINITY, 32_768), (1 << 30, 32_768), (10, 8)])
def test_no_limit_and_a_tiny_one_have_sensible_halves(
    soft: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert open_files.max_connections() == connections


def test_what_happens_again_and_again_is_said_at_once_and_then_once_a_minute() -> None:
    said, now = list[int](), 100.0
    seldom = Seldom(said.append, clock=lambda: now)
    for now in (100.0, 100.1, 159.9, 160.0, 161.0):  # noqa: B007 - the clock reads it
        seldom()
    assert said == [1, 3]


def test_connections_that_cannot_be_accepted_are_a_line_and_other_errors_stay_what_they_are(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[int]()
    monkeypatch.setattr(open_files, "_not_accepted", Seldom(said.append))
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        for _ in range(2_048):  # what asyncio makes of one look at the listener
            open_files.on_loop_error(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "too many")})
        assert said == [1] and not caplog.records
        open_files.on_loop_error(loop, {"message": "a bug", "exception": ValueError("x")})
    assert [record.getMessage() for record in caplog.records] == ["a bug"]
    loop.close()

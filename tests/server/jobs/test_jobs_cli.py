"""`homespun jobs`: what it shows."""

from __future__ import annotations

from typing import Any

import pytest

from homespun_core.errors import ServiceError
from homespun_server.jobs.cli import render
from homespun_server.jobs.client import AdminClient, ServerAway
from homespun_server.jobs.following import overlap

JOB: dict[str, Any] = {
    "id": 7,
    "state": "queued",
    "kind": "index",
    "repository": "shop-1",
    "created": 10.0,
    "started": None,
    "ended": None,
    "not_before": 10.0,
    "reason": "",
    "words": "",
    "eta_s": None,
    "worker": None,
    "is_unwanted": False,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "index  shop-1"),
        ({"not_before": 60.0, "reason": "no network"}, "again in 40 s: no network"),
        (
            {"state": "running", "worker": "w", "words": "Reading: 5 of 9 files", "eta_s": 3.2},
            "about 3 s left in this step",
        ),
        ({"state": "running", "worker": "w"}, "begins (w)"),
        ({"state": "running", "is_unwanted": True}, "is being stopped"),
        ({"state": "poisoned", "reason": "too little memory"}, "too little memory"),
    ],
)
def test_a_line_says_what_there_is_to_know(change: dict[str, Any], said: str) -> None:
    assert said in render({"jobs": [JOB | change], "workers": []}, now=20.0)


def test_where_nobody_works_it_says_how_to_change_that() -> None:
    assert "homespun worker" in render({"jobs": [], "workers": []}, now=0.0)
    workers = [{"name": "w", "kinds": ["index", "train"]}]
    assert "w (index, train)" in render({"jobs": [], "workers": workers}, now=0.0)


@pytest.mark.parametrize(
    ("before", "now", "new"), [("", "a\nb\n", "a\nb\n"), ("a\nb\n", "a\nb\nc\n", "c\n"), ("a\nb\n", "b\nc\n", "c\n")]
)
def test_a_log_that_is_followed_shows_each_line_once(before: str, now: str, new: str) -> None:
    assert now[overlap(before, now) :] == new


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://host"])
def test_what_is_no_url_is_one_line(url: str) -> None:
    with pytest.raises(ServiceError, match="not the URL of a server") as caught:
        AdminClient(url, "").job(1)
    assert "\n" not in str(caught.value)


def test_without_a_server_it_says_how_to_start_one() -> None:
    with pytest.raises(ServerAway, match="homespun serve"):
        AdminClient("http://127.0.0.1:1", "").job(1)

"""Half of the users try another prompt: the real server, their requests and events over HTTP, and the real command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from homespun_core.loading import load_settings
from homespun_core.prompt_versions import PLAIN
from homespun_server.database.opening import open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tables import completions
from homespun_server.rollout.prompts import Trial
from tests.e2e.command import homespun
from tests.e2e.served import EXPECTED, PREFIX, SUFFIX, served

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CONFIG = """\
min_confidence = 0
target_ms = 60_000

[[prompt]]
name = "bare"
retrieval = false
"""
USERS, TURNS = [f"user {i}" for i in range(40)], 3
TAKEN = {PLAIN: 1, "bare": 3}
"""Of so many turns; every fourth user takes one less."""


def ask(client: httpx.Client, user: str) -> dict[str, Any]:
    about = {"path": "loomworks/invoices.py", "repo": "loomworks", "user": user}
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12, "homespun": about}
    reply = client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def work(client: httpx.Client, arms: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The replies by arm; what was taken is told."""
    replies: dict[str, list[dict[str, Any]]] = {arm: [] for arm in TAKEN}
    events = []
    for number, (user, arm) in enumerate(arms.items()):
        for turn in range(TURNS):
            replies[arm].append(reply := ask(client, user))
            if turn < TAKEN[arm] - (number % 4 == 0):
                events.append({"completion": reply["id"], "kind": "accepted"})
    assert client.post("/v1/homespun/events", json={"events": events}).status_code == 200
    return replies


def a_minute_later(store: FeedbackStore, trial: Trial, arms: dict[str, str]) -> None:
    """Once all is written; the rows are made older, since nobody waits for outcomes that may still change."""
    taken = sum(TAKEN[arm] - (n % 4 == 0) for n, arm in enumerate(arms.values()))
    for _ in range(600):
        found = store.outcomes(None, 0.0, time.time() + 1)
        if len(found) == len(arms) * TURNS and sum(o.is_accepted for o in found) == taken:
            break
        time.sleep(0.1)
    assert {(o.user, o.prompt_version) for o in found} == {(user, trial.mark(arm)) for user, arm in arms.items()}
    with store._engine.begin() as connection:
        connection.execute(update(completions).values(time=completions.c.time - 120))


def test_two_arms_have_two_prompts_and_the_command_says_which_users_were_better_off(tmp_path: Path) -> None:
    (tmp_path / "homespun.toml").write_text(CONFIG)
    trial = Trial(load_settings({}, {}, tmp_path / "homespun.toml").prompts)
    arms = {user: trial.drawn(user) or "" for user in USERS}
    with served(tmp_path) as server:
        store = FeedbackStore(open_database("", tmp_path / "data" / "homespun.db"))
        with httpx.Client(base_url=server.url, timeout=60) as client:
            replies = work(client, arms)
        a_minute_later(store, trial, arms)
        store.close()
        done = homespun("prompts", "--json", "--data-dir=data", cwd=tmp_path)
        told = homespun("prompts", "--data-dir=data", cwd=tmp_path)
    plain, bare = ({r["usage"]["prompt_tokens"] for r in replies[arm]} for arm in (PLAIN, "bare"))
    assert max(bare) < min(plain) - 100
    assert {r["choices"][0]["text"] for r in replies[PLAIN]} == {EXPECTED}
    assert EXPECTED not in {r["choices"][0]["text"] for r in replies["bare"]}
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: arm["opportunities"] for name, arm in found["arms"].items()} == {
        name: TURNS * list(arms.values()).count(name) for name in TAKEN
    }
    assert found["versions"]["bare"]["verdict"] == "better"
    assert "set retrieval = false in the settings and take its [[prompt]] out" in told.stdout

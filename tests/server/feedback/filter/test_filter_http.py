"""The filter before a real server: hidden, explored, invoked, streamed, and only watched."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_server.database.opening import open_database
from homespun_server.feedback.filter.publishing import publish
from homespun_server.feedback.store import FeedbackStore
from homespun_server.routes import answering
from tests.server.feedback.filter.test_live import report
from tests.server.feedback.filter.test_verdicts import DRAWN, FILTER, UNDRAWN
from tests.server.test_http import BODY, Started

ALL_HIDDEN = replace(FILTER, intercept=-50.0)


def _verdicts(data: Path) -> list[str | None]:
    store = FeedbackStore(open_database("", data / "homespun.db"))
    found = [o.verdict for o in store.outcomes(None, 0, until=time.time() + 1)]
    store.close()
    return found


async def test_what_the_filter_hides_is_empty_and_says_why(
    builtin: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(DataDir(tmp_path).filters, ALL_HIDDEN, report())
    settings = Settings(data_dir=str(tmp_path), completion_deadline_ms=60_000, show_filter="auto")
    started = Started(settings, builtin)
    assert started.loaded.wait(60)
    ids = iter([UNDRAWN, f"{UNDRAWN}-tabby", f"{UNDRAWN}-stream", "invoked", DRAWN])
    monkeypatch.setattr(answering, "_new_id", lambda: next(ids))
    tabby = {"language": "python", "segments": {"prefix": BODY["prompt"]}}
    async with started.client() as client:

        async def post(body: dict[str, Any]) -> Any:
            return (await client.post("/v1/completions", json=body)).json()

        hidden, by_tabby = await post(BODY), await post(tabby)
        streamed = (await client.post("/v1/completions", json=BODY | {"stream": True})).text
        invoked, explored = await post(BODY | {"homespun": {"trigger": "invoked"}}), await post(BODY)
        metrics = (await client.get("/metrics")).text
    started.runtime.close()
    for reply in (hidden, by_tabby):
        assert reply["choices"][0]["text"] == "" and reply["homespun"] == {"hidden_by": "filter"}
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert all(not choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert chunks[-1]["homespun"]["hidden_by"] == "filter"
    for reply in (invoked, explored):
        assert reply["choices"][0]["text"] and "homespun" not in reply
    assert 'homespun_completions_total{outcome="hidden"} 3.0' in metrics
    assert _verdicts(tmp_path) == ["hide", "hide", "hide", "would_hide", "explore"]


async def test_by_default_a_filter_is_only_watched(builtin: ModelFiles, tmp_path: Path) -> None:
    publish(DataDir(tmp_path).filters, ALL_HIDDEN, report())
    started = Started(Settings(data_dir=str(tmp_path), completion_deadline_ms=60_000), builtin)
    assert started.loaded.wait(60)
    async with started.client() as client:
        reply = (await client.post("/v1/completions", json=BODY)).json()
    started.runtime.close()
    assert reply["choices"][0]["text"] and "homespun" not in reply
    assert _verdicts(tmp_path) == ["would_hide"]

"""From a suggestion accepted in an editor to an outcome that rollouts are decided on: real processes on both sides."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from homespun_core.outcomes import Outcome
from homespun_core.paths import DataDir
from homespun_lsp.kept import kept_characters
from homespun_server.database.opening import open_database
from homespun_server.feedback.store import FeedbackStore
from tests.e2e.command import running
from tests.lsp.editor import Invoked, editor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_what_is_kept_of_an_accepted_suggestion_arrives_as_an_outcome(tmp_path: Path) -> None:
    """No command is sent: the edits say it."""
    state = tmp_path / "state"
    environ = {"XDG_STATE_HOME": str(state)}
    settings = ("--data-dir=data", "--port=0", "--completion-deadline-ms=60000")
    with running("serve", *settings, cwd=tmp_path) as process:
        url = re.search(r"http://[\d.:]+", process.wait_for("is ready:", 60))
        assert url
        async with editor(serverUrl=url[0], environ=environ, timeoutMs=60_000) as session:
            buffer = session.open("import unittest\n\n\nclass Test(|")
            item = await buffer.ghost(Invoked)
            assert item and isinstance(item.insert_text, str) and len(item.insert_text) > 5
            buffer.insert(item)
            buffer.delete(1)
            buffer.save()
        assert process.interrupt() == 0
    (outcome,) = outcomes(tmp_path)
    assert outcome.is_shown and outcome.is_accepted
    assert outcome.accepted_characters == len(item.insert_text)
    kept = kept_characters(item.insert_text, item.insert_text[:-1])
    assert outcome.kept_characters == kept < len(item.insert_text)
    assert outcome.user == (state / "homespun" / "user").read_text().strip()


def outcomes(directory: Path) -> Sequence[Outcome]:
    store = FeedbackStore(open_database("", DataDir(directory / "data").database))
    try:
        return store.outcomes(None, 0, until=time.time() + 1)
    finally:
        store.close()

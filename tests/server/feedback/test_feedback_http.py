"""From a completion over HTTP, through its events, to outcomes: the real server in process, a real database."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from homespun_core import acceptance, demand
from homespun_core.cli import main
from homespun_core.config import Settings
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_server.database.opening import open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.tables import events, usage_days
from tests.server.test_http import BODY, Started

CODE = "def canary_secret(a, b):\n    return"


def _stored(data: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data.glob("homespun.db*"))


async def test_a_completion_accepted_over_http_is_an_outcome_and_no_code_is_kept(
    builtin: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = Started(Settings(data_dir=str(tmp_path), completion_deadline_ms=60_000), builtin)
    assert started.loaded.wait(60)
    async with started.client() as client:
        body = BODY | {"prompt": CODE, "homespun": {"user": "ann", "language": "python", "path": "secret/canary.py"}}
        made = (await client.post("/v1/completions", json=body)).json()
        warm = await client.post("/v1/completions", json=body | {"max_tokens": 0})
        tabby = {"language": "python", "segments": {"prefix": CODE}, "user": "bob"}
        other = (await client.post("/v1/completions", json=tabby)).json()
        kept = [{"completion": made["id"], "kind": kind, "characters": 2} for kind in ("shown", "accepted", "kept")]
        assert (await client.post("/v1/homespun/events", json={"events": kept})).status_code == 200
        seen = {"type": "select", "completion_id": other["id"], "choice_index": 0}
        assert (await client.post("/v1/events?select_kind=line", json=seen)).status_code == 200
        assert (await client.post("/v1/events", json=seen | {"type": "love"})).status_code == 400
        assert (await client.post("/v1/homespun/events", content=b"x" * 300_000)).status_code == 413
        metrics = (await client.get("/metrics")).text
    started.runtime.close()
    assert warm.status_code == 200 and 'homespun_events_total{kind="accepted"} 2.0' in metrics
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    first, second = store.outcomes(None, 0, until=time.time() + 1)
    store.close()
    assert (first.completion, first.user, first.language, first.kept_characters) == (made["id"], "ann", "python", 2)
    assert (second.user, second.is_accepted) == ("bob", True)
    assert second.accepted_characters == len(other["choices"][0]["text"].partition("\n")[0])
    stored = _stored(tmp_path)
    assert b"canary" not in stored and b"mean_logprob" in stored
    assert main(["feedback", "--data-dir", str(tmp_path), "--forget", "ann"]) == 0
    assert "1 completions of ann" in capsys.readouterr().out


def test_feedback_says_what_came_of_completions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.server.feedback.test_store import fact, told

    words = ["feedback", "--data-dir", str(tmp_path)]
    assert main(words) == 0
    assert "no completions" in capsys.readouterr().out
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    at = time.time() - 100
    store.write([fact("a", at=at), fact("b", at=at), fact("c", at=at), fact("d", at=at)])
    store.write([told("a", "shown", 0), told("b", "shown", 0), told("a", "accepted"), told("a", "kept", 10)])
    store.close()
    assert main(words) == 0
    everything = capsys.readouterr().out.splitlines()[1].split()
    assert everything == ["all", "4", "0%", "2", "1", "(50%)", "2.50"]
    assert main([*words, "--json"]) == 0
    groups = {(g["group"], g["name"]): g for g in json.loads(capsys.readouterr().out)}
    assert groups["language", "python"]["kept_per_opportunity"] == 2.5 and ("adapter", "v1") in groups


def test_what_training_asks_of_feedback_is_counted_for_it(builtin: ModelFiles, tmp_path: Path) -> None:
    from tests.server.feedback.test_store import fact, told

    at = time.time() - 100
    before = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    before.write([fact("a", at=at), fact("b", at=at), fact("c", at=at), told("a", "accepted"), told("b", "shown")])
    before.close()
    started = Started(Settings(data_dir=str(tmp_path)), builtin)
    assert started.loaded.wait(60)
    started.runtime.close()
    assert acceptance.read(DataDir(tmp_path)) == {"shop": {acceptance.week_of(at): (2, 1)}}
    assert demand.read(DataDir(tmp_path)) == {"shop": {"python": 2}}
    assert DataDir(tmp_path).kept_by_file.is_file()


async def test_nothing_is_kept_where_feedback_days_is_0(builtin: ModelFiles, tmp_path: Path) -> None:
    """Nor what was kept under another setting before: it stayed for ever, with nobody to sweep it."""
    from tests.server.feedback.test_store import fact, told

    before = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    before.write([fact("a", at=time.time() - 200_000), fact("b", at=time.time() - 1), told("b", "accepted")])
    before.sum_up()
    before.close()
    data = DataDir(tmp_path)
    made_of_it = (data.demand, data.kept_by_file, data.acceptance)
    for path in made_of_it:
        path.write_text("{}")
    started = Started(Settings(data_dir=str(tmp_path), feedback_days=0), builtin)
    assert started.loaded.wait(60)
    async with started.client() as client:
        made = (await client.post("/v1/completions", json=BODY)).json()
        sent = {"events": [{"completion": made["id"], "kind": "shown"}]}
        assert (await client.post("/v1/homespun/events", json=sent)).status_code == 200
    started.runtime.close()
    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    assert store.outcomes(None, 0, until=time.time() + 1) == []
    store.close()
    with open_database("", tmp_path / "homespun.db").connect() as connection:
        left = [connection.execute(select(func.count()).select_from(t)).scalar_one() for t in (events, usage_days)]
    assert left == [0, 0] and not any(path.exists() for path in made_of_it)


def test_feedback_says_what_was_hidden_beside_what_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.server.feedback.test_store import fact, told

    store = FeedbackStore(open_database("", tmp_path / "homespun.db"))
    at = time.time() - 100
    hidden = [replace(fact(f"h{n}", at=at), verdict="hide", probability=0.01) for n in range(2)]
    store.write([*hidden, replace(fact("w", at=at), verdict="would_hide"), fact("a", at=at), told("a", "accepted")])
    store.close()
    assert main(["feedback", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["all", "4", "50%", "1", "1", "(100%)", "5.00"]
    assert "would have hidden 25% more" in lines[-1]
    assert main(["feedback", "train", "--forget", "ann", "--data-dir", str(tmp_path)]) == 1
    assert main(["feedback", "--forget", " ", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("homespun: --forget") == 2


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "0", "1e300", "week"])
def test_days_that_make_no_sense_are_wrong_usage(days: str, tmp_path: Path) -> None:
    """`nan` and `inf` were tracebacks."""
    with pytest.raises(SystemExit) as exit_:
        main(["feedback", "--days", days, "--data-dir", str(tmp_path)])
    assert exit_.value.code == 2


@pytest.mark.parametrize("words", [["feedback"], ["feedback", "train"], ["feedback", "--forget", "ann"], ["prompts"]])
def test_a_database_that_fails_under_a_command_is_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = open_database("", tmp_path / "homespun.db")
    with database.begin() as connection:
        for table in ("usage_days", "kept_completions", "events", "completions"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    database.dispose()
    config = tmp_path / "homespun.toml"
    config.write_text('[[prompt]]\nname = "five"\nsnippet_count = 5\n')
    assert main([*words, "--config", str(config), "--data-dir", str(tmp_path)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("homespun:")]
    assert "the database fails (OperationalError)" in line

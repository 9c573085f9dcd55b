"""`homespun usage`, `explain` and `settings` say what the console's pages show."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from homespun_core.cli import main
from homespun_core.errors import ConfigError
from homespun_server.access import gate
from homespun_server.access.changing import changing
from homespun_server.console import usage
from homespun_server.console.cli.explain import place_of, render
from homespun_server.console.cli.usage import first_day
from homespun_server.feedback.sums import DAY_S
from homespun_server.feedback.tables import completions
from tests.server.console.conftest import ADMIN, SECRET, VERSIONS, Company

NOW = 20_000.5 * DAY_S


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    assert main(list(words)) == status
    out, err = capsys.readouterr()
    return out + err


@pytest.fixture
def served_alone(served: tuple[Company, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Company, str]:
    monkeypatch.chdir(tmp_path)
    return served


def _usage(company: Company, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found = json.loads(said(capsys, "usage", "--data-dir", str(company.data.root), "--json", *words))
    assert isinstance(found, dict)
    return found


def test_usage_has_the_numbers_of_the_page(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    since = float((time.time() // DAY_S - 29) * DAY_S)
    wanted = usage.Wanted(since=since)
    cells = usage.cells(company.runtime.database, wanted)
    for by, key in (("editor", lambda cell: cell.editor), ("adapter", lambda cell: cell.adapter or "base model")):
        found = _usage(company, capsys, "--by", by)
        expected = {name: (s.shown, s.accepted) for name, s in usage.grouped(cells, key).items()}
        assert {row[by]: (row["shown"], row["accepted"]) for row in found["rows"]} == expected
        assert found["total"]["opportunities"] == 600 and found["total"]["acceptance"] == 0.25
    together = sum(usage.latencies(company.runtime.database, wanted).values(), Counter[int]())
    assert found["total"]["latency_ms"]["p95"] == usage.percentile(together, 0.95)


def test_usage_of_days_adds_up_to_the_total(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    days, languages = _usage(company, capsys), _usage(company, capsys, "--by", "language", "--daily")
    for found in (days, languages):
        assert len({row["day"] for row in found["rows"]}) > 20
        for number in ("opportunities", "accepted", "kept_characters"):
            assert sum(row[number] for row in found["rows"]) == found["total"][number] > 0
    assert all(row["latency_ms"]["p50"] <= row["latency_ms"]["p99"] for row in days["rows"])


def test_usage_by_team_counts_members_in_each_of_theirs(company: Company, capsys: pytest.CaptureFixture[str]) -> None:
    with changing(company.runtime.database, ADMIN) as change:
        ada = change.add_user("ada")
        for team in ("web", "all"):
            change.add_member(change.add_team(team), ada)
        change.connection.execute(completions.update().where(completions.c.user == "u1").values(user=ada.id))
    found = _usage(company, capsys, "--by", "team")
    assert {row["team"]: row["opportunities"] for row in found["rows"]} == {"web": 120, "all": 120}
    shown = said(capsys, "usage", "--by", "team", "--data-dir", str(company.data.root))
    assert "web" in shown and shown.splitlines()[-1].startswith("since 20") and "25%" in shown


def test_without_completions_usage_says_why_there_may_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "feedback_days above 0" in said(capsys, "usage", "--data-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "day"), [("1d", 20_000), ("30d", 19_971), ("2w", 19_987), ("1970-01-02", 1), ("99999d", 0)]
)
def test_a_time_is_days_with_today_weeks_or_a_date(text: str, day: int) -> None:
    assert first_day(text, NOW) == day


@pytest.mark.parametrize("text", ["", "30", "0d", "-1d", "yesterday", "2999-01-01", "1969-12-31"])
def test_what_is_no_time_that_is_past_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--since"):
        first_day(text, NOW)


def test_explain_shows_prompt_snippets_drafts_and_times_layer_by_layer(
    served_alone: tuple[Company, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    company, url = served_alone
    file = tmp_path / "new.py"
    file.write_text("from shop.prices import price_of\n\n\ndef total(items):\n    return sum(price_of(\n")
    words = ("explain", f"{file}:5", "--server-url", url, "--repo", company.shop)
    shown = said(capsys, *words)
    for line in ("base model:", "with snippets, datastore, adapter:", "drafts: accepted of proposed", "all together"):
        assert line in shown
    assert "shop/prices.py" in shown and "defines a name in reach" in shown and VERSIONS[1] in shown
    assert "def total(items):" in shown.partition("prompt, ")[2]
    without = json.loads(said(capsys, *words, "--json", "--without", "adapter", "--without", "mixing"))
    assert [arm["title"] for arm in without["arms"]] == ["base model", "with snippets"]
    bare = json.loads(said(capsys, *words, "--json", "--without", "snippets"))
    assert bare["snippets"] == [] and len(bare["arms"]) == 3 and bare["prompt_tokens"] < without["prompt_tokens"]


async def test_explain_is_for_who_may_complete_knows_what_they_may_read_and_counts_as_what_it_makes(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: 0.0))  # nothing fills up again meanwhile
    company.start()
    company.add_user("root", "admin")
    company.add_user("ada", "developer", company.shop)
    company.add_user("bob", "developer")
    company.add_user("eve", "auditor")
    body = {"prefix": "from shop.prices import price_of\n\ntotal = price_of(", "repo": company.shop}
    found = dict[str, httpx.Response]()
    for name in ("ada", "bob", "eve"):
        async with company.client(name) as browser:
            headers = {"sec-fetch-site": "same-origin"}
            found[name] = await browser.post("/v1/homespun/explain", json=body, headers=headers)
    assert [found[name].status_code for name in ("ada", "bob", "eve")] == [200, 200, 403]
    assert "shop/prices.py" in found["ada"].text and "shop/prices.py" not in found["bob"].text
    assert found["bob"].json()["repository"] is None
    limit, left = (int(found["ada"].headers[f"x-ratelimit-{what}-requests"]) for what in ("limit", "remaining"))
    assert limit - left == 4


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("a.py", "FILE:LINE:COLUMN"),
        ("gone.py:1", "can't be read"),
        ("a.py:4", "has 3 lines"),
        ("a.py:0", "has 3 lines"),
        ("a.py:2:6", "columns 1 to 5"),
        ("a.py:2:0", "columns 1 to 5"),
        ("latin.py:1", "isn't UTF-8"),
    ],
)
def test_a_place_that_is_none_is_refused_in_a_line(
    place: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("ab\nü =1\n")
    Path("latin.py").write_bytes(b"\xfc\n")
    assert says in said(capsys, "explain", place, status=1)


def test_a_place_counts_characters_from_one_and_ends_a_line_without_a_column(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("ab\n😀c\nd")
    for place, before in (("1:1", ""), ("2:2", "ab\n😀"), ("2", "ab\n😀c"), ("3:2", "ab\n😀c\nd")):
        found = place_of(f"{file}:{place}", None)
        assert (found.prefix, found.prefix + found.suffix, found.path) == (before, "ab\n😀c\nd", "a.py")


def test_what_others_wrote_does_nothing_to_a_terminal() -> None:
    arm = {"title": "base model", "text": "\x1b]0;pwned\x07\u202e"}
    found = {"path": "a", "repository": None, "arms": [arm], "compared": [], "snippets": [], "prompt_tokens": 1}
    shown = render(found | {"prompt": [{"text": "\x9b31m"}], "opening": ""})
    assert not set(shown) & set("\x1b\x07\x9b\u202e") and "pwned" in shown


def test_settings_say_where_they_come_from_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("homespun.toml").write_text(f'webhook_secret = "{SECRET}"\nport = 9000\n')
    shown = said(capsys, "settings", "--changed")
    assert SECRET not in shown and len(shown.splitlines()) == 3
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [["port", "9000"], ["webhook_secret", "set"]]
    every = {one["name"]: one for one in json.loads(said(capsys, "settings", "--json"))}
    assert len(every) > 50 and (every["host"]["value"], every["host"]["origin"]) == ("127.0.0.1", "default")

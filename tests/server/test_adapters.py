"""`homespun adapters`, from the command line to the data directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from homespun_core import registry
from homespun_core.aliases import MANUAL
from homespun_core.cli import main
from homespun_core.paths import DataDir, repo_id
from tests.core.adapters import make_version

NAMES = ("20260101-100000-aaaaaaaa", "20260201-100000-bbbbbbbb", "20260301-100000-cccccccc")


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """Three versions: previous, champion, candidate."""
    data = DataDir(tmp_path / "data")
    place = data.adapters("shop-1a2b3c4d")
    for version in NAMES:
        make_version(place, version)
    registry.promote(place, NAMES[0])
    registry.promote(place, NAMES[1])
    registry.offer(place, NAMES[2], MANUAL)
    return data


def call(data: DataDir, *words: str) -> int:
    return main(["adapters", *words, "--data-dir", str(data.root)])


def champion(data: DataDir) -> str | None:
    return registry.aliases(data.adapters("shop-1a2b3c4d")).champion


def test_the_list_shows_names_gains_and_the_last_changes(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(data, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert lines[0] == "shop-1a2b3c4d"
    assert "candidate" in rows[NAMES[2]] and "champion" in rows[NAMES[1]] and "previous" in rows[NAMES[0]]
    assert "+3.1% [+1.2%, +5.0%]" in rows[NAMES[1]] and "passed" in rows[NAMES[1]]
    assert lines[-1].split()[1:] == ["gate:", "offer", NAMES[2]]


def test_the_list_as_json_is_for_programs(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(data, "list", "shop", "--json") == 0
    (facts,) = json.loads(capsys.readouterr().out).values()
    assert (facts["champion"], facts["candidate"], facts["previous"]) == (NAMES[1], NAMES[2], NAMES[0])
    assert facts["versions"][0]["aliases"] == ["candidate"] and len(facts["history"]) == 3


def test_an_approval_is_shown_with_who_and_why(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(data, "approve", "shop", "--why", "read the report") == 0
    assert f"{NAMES[2]} is live" in capsys.readouterr().out
    assert call(data, "show", "shop", "champion") == 0
    shown = capsys.readouterr().out
    assert f"# Adapter {NAMES[2]}" in shown
    assert f"{registry.whoami()}: approve {NAMES[2]} (read the report)" in shown


@pytest.mark.parametrize(
    ("words", "live"),
    [
        (("rollback", "shop"), NAMES[0]),
        (("reject", "shop"), NAMES[1]),
        (("promote", "shop", "20260301"), NAMES[2]),
        (("promote", "shop-1a2b3c4d", "previous"), NAMES[0]),
        (("retire", "shop", "champion"), NAMES[0]),
        (("prune", "shop", "--keep", "0"), NAMES[1]),
    ],
)
def test_each_change_is_one_command(data: DataDir, words: tuple[str, ...], live: str) -> None:
    assert call(data, *words) == 0
    assert champion(data) == live


@pytest.mark.parametrize("words", [("approve", "shop"), ("reject", "shop"), ("rollout", "--abort", "shop")])
def test_a_decision_about_one_candidate_never_hits_the_one_that_took_its_place(
    data: DataDir, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody reads the card, and retraining is done meanwhile."""
    place = data.adapters("shop-1a2b3c4d")
    newer = make_version(place, "20260401-100000-dddddddd")
    registry.offer(place, newer, MANUAL)
    assert call(data, *words, NAMES[2]) == 1
    assert f"{NAMES[2]} was meant, it is {newer} by now" in capsys.readouterr().err
    assert registry.aliases(place).candidate == newer
    assert call(data, *words, "20260401") == 0
    assert registry.aliases(place).candidate is None


def test_a_version_without_a_decision_about_it_is_refused(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(data, "rollout", "shop", NAMES[2]) == 1
    assert "only for --abort" in capsys.readouterr().err


def test_a_pinned_champion_stays_until_unpinned(data: DataDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(data, "pin", "shop") == 0
    assert call(data, "approve", "shop") == 1
    assert "is pinned; `homespun adapters unpin` first" in capsys.readouterr().err
    assert champion(data) == NAMES[1]
    assert call(data, "unpin", "shop") == 0 and call(data, "approve", "shop") == 0
    assert champion(data) == NAMES[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "shop", "20260101-100000-aaaaaaab"), f"did you mean '{NAMES[0]}'?"),
        (("show", "shop", "champoin"), "did you mean 'champion'?"),
        (("show", "shop", "2026"), "several versions begin with that"),
        (("pin", "shpo-1a2b3c4d"), "did you mean 'shop-1a2b3c4d'?"),
        (("unpin", "shop"), "nothing is pinned"),
        (("list", "https://me:secret@example.com/other.git"), "no adapter was trained for it"),
    ],
)
def test_a_mistake_is_one_line_with_a_way_on(
    data: DataDir, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(data, *words) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "secret" not in error


def test_a_repository_can_be_named_by_its_path(tmp_path: Path) -> None:
    data, source = DataDir(tmp_path / "data"), tmp_path / "shop"
    source.mkdir()
    make_version(data.adapters(repo_id(str(source))), NAMES[0])
    assert call(data, "promote", str(source), "newest") == 0


def test_an_empty_word_means_no_version_and_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DataDir(tmp_path)
    make_version(data.adapters("shop-1a2b3c4d"), NAMES[0])
    assert call(data, "retire", "shop", "") == 1 and "VERSION is empty" in capsys.readouterr().err
    assert call(data, "show", "", "newest") == 1
    assert registry.versions(data.adapters("shop-1a2b3c4d")) == [NAMES[0]]


def test_an_empty_data_directory_says_where_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(DataDir(tmp_path), "list") == 0
    assert "homespun train REPO" in capsys.readouterr().out


def test_a_damaged_version_is_described_and_the_others_are_listed(
    data: DataDir, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.adapters("shop-1a2b3c4d") / NAMES[0] / registry.REPORT).write_text("{")
    assert call(data, "list") == 0
    out = capsys.readouterr().out
    assert "report.json: unreadable" in out and NAMES[2] in out


def test_the_verb_starts_without_torch() -> None:
    """A rollback must not wait for seconds of imports."""
    program = "import sys; import homespun_server.adapters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

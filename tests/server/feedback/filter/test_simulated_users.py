"""The whole round with people whose tastes are known: store, training, publication, filter."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.cli import main
from homespun_core.paths import DataDir
from homespun_server.database.opening import open_database
from homespun_server.feedback.filter.live import LiveFilter
from homespun_server.feedback.filter.publishing import live, new_version
from homespun_server.feedback.filter.verdicts import EXPLORED
from homespun_server.feedback.store import FeedbackStore
from homespun_server.feedback.summary import Summary, summary
from tests.simulated_users import NO_TASTE, TASTE, Judge, lived, places, unfiltered

DAY = 86_400.0


def _summary(folder: Path, seed: int, judge: Judge) -> Summary:
    store = FeedbackStore(open_database("", folder / "homespun.db"))
    store.write(list(lived(places(20, 150, seed=seed, start=0.0), TASTE, judge)))
    found = summary(store.outcomes(None, 0))
    store.close()
    return found


def _trained(data: DataDir, taste: object, num_each: int = 200, *, seed: int = 1, days_ago: float = 9) -> int:
    store = FeedbackStore(open_database("", data.database))
    start = time.time() - days_ago * DAY
    facts = lived(places(20, num_each, seed=seed, start=start), taste, unfiltered)  # type: ignore[arg-type]
    store.write(list(facts))
    store.close()
    return main(["feedback", "train", "--data-dir", str(data.root)])


def test_with_a_filter_fewer_are_shown_and_hardly_less_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDir(tmp_path / "data")
    assert _trained(data, TASTE) == 0
    assert "published: " in capsys.readouterr().out
    live = LiveFilter(data.filters, may_hide=True)
    without, with_filter = _summary(tmp_path / "a", 7, unfiltered), _summary(tmp_path / "b", 7, live.judged)
    assert with_filter.opportunities == without.opportunities
    assert with_filter.shown < 0.85 * without.shown and with_filter.acceptance > without.acceptance
    assert with_filter.kept_per_opportunity > 0.93 * without.kept_per_opportunity
    watched = _summary(tmp_path / "c", 7, LiveFilter(data.filters, may_hide=False).judged)
    assert watched.hidden == 0 and watched.shown == without.shown
    unlikely = watched.would_hide
    assert with_filter.hidden == pytest.approx((1 - EXPLORED) * unlikely, rel=0.05)


def test_where_nothing_can_be_foretold_no_filter_is_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataDir(tmp_path)
    assert _trained(data, NO_TASTE) == 0
    assert "not published" in capsys.readouterr().out
    assert storage.current(data.filters) is None and len(list(data.filters.iterdir())) == 1
    assert main(["feedback", "explain", "--data-dir", str(tmp_path)]) == 1


def test_a_filter_that_people_no_longer_agree_with_is_withdrawn_and_the_reason_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stayed live: only new ones were judged by what came since."""
    data = DataDir(tmp_path)
    assert _trained(data, TASTE, days_ago=30) == 0
    version = live(data.filters).version  # type: ignore[union-attr]
    capsys.readouterr()
    turned = {name: -weight for name, weight in TASTE.items()}
    assert _trained(data, turned, num_each=120, seed=2) == 0
    assert f"the filter before, {version}, is withdrawn" in capsys.readouterr().out
    assert LiveFilter(data.filters, may_hide=True).now() is None
    assert main(["feedback", "explain", "--data-dir", str(tmp_path)]) == 1
    assert f"{version}, is withdrawn, so nothing is hidden" in capsys.readouterr().err


def test_filters_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    """The second was taken for the first, which stayed."""
    names = set[str]()
    for _ in range(3):
        names.add(name := new_version(tmp_path))
        (tmp_path / name).mkdir()
    assert len(names) == 3


def test_too_little_data_is_refused_and_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _trained(DataDir(tmp_path), TASTE, num_each=40) == 1
    assert "1,200 more shown completions (800 of 2,000)" in capsys.readouterr().err


def test_the_published_filter_is_explained_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _trained(DataDir(tmp_path), TASTE) == 0
    assert main(["feedback", "explain", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out.partition("multiplied by\n")[2].splitlines()
    assert "surer of its tokens on average" in said[0] and said[0].strip().startswith("×")
    assert "python" in "\n".join(said)

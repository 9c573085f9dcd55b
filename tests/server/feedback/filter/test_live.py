"""From a published filter to requests: picked up, replaced, and left alone when damaged."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from homespun_core import storage
from homespun_core.errors import StorageError
from homespun_server.feedback.filter.live import LiveFilter
from homespun_server.feedback.filter.publishing import live, load, load_report, publish, withdrawn
from homespun_server.feedback.filter.training import Before, Check, Lost, Report
from tests.server.feedback.filter.test_verdicts import BAD, FILTER, UNDRAWN
from tests.server.feedback.test_store import fact

UNLIKELY = replace(fact(UNDRAWN), features=BAD)


def report(*, is_approved: bool = True) -> Report:
    check = Check(name="calibration error", value=0.01, limit=0.05, is_met=is_approved)
    lost = Lost(num_shown=500, hidden=0.3, lost=0.03)
    return Report(num_shown=2_000, num_kept=300, checks=(check,), judged=lost, languages={"go": lost})


def test_what_was_published_is_read_again(tmp_path: Path) -> None:
    path = publish(tmp_path, FILTER, report())
    assert load(path) == FILTER and load_report(path) == report()


def test_a_new_filter_is_used_from_the_next_completion_on(tmp_path: Path) -> None:
    live = LiveFilter(tmp_path, may_hide=True)
    assert live.judged(UNLIKELY) == UNLIKELY
    publish(tmp_path, FILTER, report())
    judged = live.judged(UNLIKELY)
    assert judged.verdict == "hide" and judged.probability == pytest.approx(0.018, abs=1e-4)
    publish(tmp_path, replace(FILTER, version="w", threshold=0.001), report())
    assert live.judged(UNLIKELY).verdict == "show"


def test_a_filter_that_was_not_approved_is_stored_and_not_used(tmp_path: Path) -> None:
    publish(tmp_path, FILTER, report())
    path = publish(tmp_path, replace(FILTER, version="w"), report(is_approved=False))
    assert not load_report(path).is_approved
    now = LiveFilter(tmp_path, may_hide=True).now()
    assert now is not None and now.version == "v"


@pytest.mark.parametrize("is_withdrawn", [True, False])
def test_a_filter_that_was_judged_again_hides_nothing_if_it_is_withdrawn(tmp_path: Path, is_withdrawn: bool) -> None:
    found = LiveFilter(tmp_path, may_hide=True)
    publish(tmp_path, FILTER, report())
    assert found.judged(UNLIKELY).verdict == "hide"
    before = Before(version="v", judged=Lost(num_shown=500, hidden=0.3, lost=0.2), is_withdrawn=is_withdrawn)
    path = publish(tmp_path, replace(FILTER, version="w"), replace(report(is_approved=False), before=before))
    assert load_report(path).before == before
    assert found.judged(UNLIKELY).verdict == (None if is_withdrawn else "hide")
    assert withdrawn(tmp_path) == (before if is_withdrawn else None)
    publish(tmp_path, replace(FILTER, version="x"), report(is_approved=False))
    assert withdrawn(tmp_path) == (before if is_withdrawn else None), "still the reason"
    publish(tmp_path, replace(FILTER, version="y"), report())
    assert withdrawn(tmp_path) is None and live(tmp_path) == replace(FILTER, version="y")


def test_a_report_from_before_filters_were_judged_again_can_be_read(tmp_path: Path) -> None:
    manifest = storage.Manifest(kind="filter", format_version=1, fingerprint="", sources={})
    old = {name: value for name, value in asdict(report()).items() if name != "before"}
    with storage.publish_dir(tmp_path / "x", manifest) as tmp:
        storage.write_bytes(tmp / "report.json", json.dumps(old).encode())
    assert load_report(tmp_path / "x") == report()


@pytest.mark.parametrize("written", ["{}", "[]", "not JSON", '{"intercept": 1e999}'])
def test_a_filter_that_was_tampered_with_hides_nothing(tmp_path: Path, written: str) -> None:
    path = publish(tmp_path, FILTER, report())
    (path / "filter.json").write_text(written)
    with pytest.raises(StorageError, match=r"filter\.json"):
        load(path)
    assert LiveFilter(tmp_path, may_hide=True).judged(UNLIKELY) == UNLIKELY


@pytest.mark.parametrize("body", [{"intercept": 0}, {"intercept": "0"}, {"weights": 3}, {"threshold": None}])
def test_a_whole_snapshot_that_is_no_filter_is_refused_in_one_line(tmp_path: Path, body: dict[str, object]) -> None:
    manifest = storage.Manifest(kind="filter", format_version=1, fingerprint="", sources={})
    rest = {} if body == {"intercept": 0} else {name: getattr(FILTER, name) for name in FILTER.__slots__}
    with storage.publish_dir(tmp_path / "x", manifest) as tmp:
        storage.write_bytes(tmp / "filter.json", json.dumps(rest | body).encode())
    with pytest.raises(StorageError, match="isn't a filter"):
        load(tmp_path / "x")


@pytest.mark.parametrize("may_hide", [True, False])
def test_what_was_asked_for_by_a_key_or_is_empty_is_never_hidden(tmp_path: Path, may_hide: bool) -> None:
    publish(tmp_path, FILTER, report())
    live = LiveFilter(tmp_path, may_hide=may_hide)
    assert live.judged(replace(UNLIKELY, features=BAD | {"is_invoked": 1.0})).verdict == "would_hide"
    assert live.judged(replace(UNLIKELY, characters=0)).verdict is None

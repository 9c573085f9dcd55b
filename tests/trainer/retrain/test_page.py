from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from homespun_core.retraining import FreshScore, Reception
from homespun_trainer.retrain.page import Chapter, page, weeks

DAY, NOW = 86_400.0, 1_800_000_000.0


def score(day: int, bits: float, *, adapter: str = "v1", is_alarm: bool = False) -> FreshScore:
    return FreshScore(
        at=NOW + day * DAY,
        adapter=adapter,
        head="h",
        places=20,
        bytes=1_000,
        bits=bits,
        low=bits / 1_000,
        baseline=1.0,
        is_alarm=is_alarm,
    )


FALL = Reception(at=NOW, adapter="v1", lately=0.31, before=0.4, is_fall=True)


def test_measurements_of_a_week_count_together() -> None:
    found = weeks([score(0, 1_000), score(1, 1_100, is_alarm=True), score(7, 900, adapter="v2")])
    assert [(w.name, round(w.bits_per_byte, 6), w.places, w.adapters, w.is_alarm) for w in found] == [
        ("2027-W02", 1.05, 40, ("v1",), True),
        ("2027-W03", 0.9, 20, ("v2",), False),
    ]


def test_the_page_is_whole_in_itself_and_nothing_in_it_is_taken_for_markup() -> None:
    scores = [score(7 * n, 1_000 + 10 * n, is_alarm=n == 3) for n in range(4)]
    made = page([Chapter(name="<script>", now="not now: a & b", scores=scores), Chapter(name="new", now="", scores=[])])
    assert "<script" not in made and not re.search(r"(src|href)=|url\(|@import", made)
    assert "too little was written" in made
    (picture,) = re.findall(r"<svg.*?</svg>", made)
    circles = ElementTree.fromstring(picture).findall("circle")
    assert [c.get("fill") for c in circles] == ["#26c", "#26c", "#26c", "#c33"]


def test_acceptance_is_plotted_and_stands_in_the_table_where_somebody_counts_it() -> None:
    shares = {"2027-W02": 0.31, "2027-W01": 0.4}
    made = page([Chapter(name="shop", now="", scores=[score(0, 1_000)], acceptance=shares)])
    assert "<td>31%</td>" in made
    _, accepted = map(ElementTree.fromstring, re.findall(r"<svg.*?</svg>", made))
    earlier, later = accepted.findall("circle")
    assert float(earlier.get("cx", "")) < float(later.get("cx", ""))
    assert float(earlier.get("cy", "")) < float(later.get("cy", ""))
    assert {earlier.get("fill"), later.get("fill")} == {"#26c"}
    made = page([Chapter(name="shop", now="", scores=[], acceptance=shares, receptions=[FALL])])
    assert re.findall(r'fill="(#[26c3]+)"', made) == ["#26c", "#c33"]
    made = page([Chapter(name="shop", now="", scores=[score(0, 1_000)])])
    assert "<th>accepted" not in made and made.count("<svg") == 1


@pytest.mark.parametrize("share", [0.31, 0.0, 1.0])
def test_acceptance_is_shown_also_where_no_drift_was_measured(share: float) -> None:
    """People who write little code by hand still accept or dismiss."""
    made = page([Chapter(name="shop", now="", scores=[], acceptance={"2027-W02": share})])
    assert "too little was written" in made and f"<td>{share:.0%}</td>" in made
    (picture,) = re.findall(r"<svg.*?</svg>", made)
    assert len(ElementTree.fromstring(picture).findall("circle")) == 1

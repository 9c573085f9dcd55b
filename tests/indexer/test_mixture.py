from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer.mixture import Weighed, language_shares, weights

NOW = 1_800_000_000
DAY = 86_400


def file(language: str = "go", characters: int = 1_000, days: int | None = 0) -> Weighed:
    return Weighed(language=language, characters=characters, changed=None if days is None else NOW - days * DAY)


def test_recently_changed_files_weigh_up_to_twice_as_much() -> None:
    new, half, old, unknown = weights([file(days=0), file(days=180), file(days=5_000), file(days=None)], NOW)
    assert new / old == pytest.approx(2.0, rel=0.01) and half / old == pytest.approx(1.5, rel=0.01)
    assert unknown == pytest.approx(old, rel=0.01)


def test_a_rare_language_is_raised_but_not_to_be_learned_by_heart() -> None:
    shares = language_shares(Counter(go=970_000, python=29_000, bash=1_000))
    assert shares["python"] > 0.029 and shares["go"] < 0.97
    assert 0.001 < shares["bash"] <= 0.0045


@given(
    st.lists(
        st.builds(
            file,
            language=st.sampled_from(["go", "python", "c"]),
            characters=st.integers(0, 10_000),
            days=st.one_of(st.none(), st.integers(-10, 9_000)),
        ),
        max_size=12,
    )
)
def test_weights_are_positive_and_leave_the_amount_as_it_is(files: list[Weighed]) -> None:
    found = weights(files, NOW)
    total = sum(f.characters for f in files)
    assert len(found) == len(files) and all(w > 0 for w in found)
    assert sum(w * f.characters for w, f in zip(found, files, strict=True)) == pytest.approx(total, abs=1e-3)
    assert not files or sum(language_shares(Counter(f.language for f in files)).values()) == pytest.approx(1.0)

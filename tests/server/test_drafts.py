from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from homespun_server.drafts import drafter, local_draft


def test_the_longest_match_wins_and_of_equals_the_latest() -> None:
    assert local_draft([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3], 8) == ([50, 9, 2], 3)
    assert local_draft([2, 3, 50, 8, 2, 3, 60, 7, 2, 3], 8) == ([60, 7], 2)


def test_a_draft_is_no_longer_than_its_evidence() -> None:
    ids = [*range(20), *range(5, 9)]
    assert local_draft(ids, 8) == ([9, 10, 11, 12], 4)
    assert local_draft(ids, 3) == ([9, 10, 11], 4)


def test_without_a_match_there_is_no_draft() -> None:
    assert local_draft([1, 2, 3, 4], 8) == ([], 0)
    assert local_draft([], 8) == ([], 0)


@given(st.lists(st.integers(0, 3), max_size=60))
def test_a_draft_is_what_followed_an_earlier_place_that_matches(ids: list[int]) -> None:
    draft, length = local_draft(ids, 8)
    assert len(draft) <= length <= 8
    ends = range(length, len(ids))
    if draft:
        tail = ids[len(ids) - length :]
        assert any(ids[e - length : e] == tail and ids[e : e + len(draft)] == draft for e in ends)


def test_the_datastore_is_asked_only_when_nothing_matches_nearby_and_for_little() -> None:
    asked: list[int] = []

    def datastore(ids: Sequence[int], max_tokens: int) -> Sequence[int]:
        asked.append(max_tokens)
        return [7] * max_tokens

    draft = drafter(datastore)
    assert draft([8, 9, 5, 8, 9]) == [5, 8] and not asked
    assert draft([1, 2, 3]) == [7] * asked[0] and asked[0] <= 2
    assert drafter(None)([1, 2, 3]) == []

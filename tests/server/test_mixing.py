from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.engine.sampling import likeliest
from homespun_server.mixing import MAX_CONTEXT, can_matter, mixer, weight_of

NO_ENDS = np.array([], dtype=np.int64)
CERTAINTIES = st.floats(0.2, 1.0)


def test_a_long_match_weighs_more_and_a_certain_model_is_left_alone() -> None:
    assert weight_of(16, 1.0, 0.5) > weight_of(4, 1.0, 0.5) > weight_of(4, 0.5, 0.5) > 0
    assert weight_of(16, 1.0, 0.3) > weight_of(16, 1.0, 0.6) and weight_of(48, 1.0, 1.0) == 0


@given(certainty=CERTAINTIES, length=st.integers(1, MAX_CONTEXT), share=st.floats(0.0, 1.0), token=st.integers(0, 3))
def test_where_nothing_is_looked_up_nothing_could_have_changed(
    certainty: float, length: int, share: float, token: int
) -> None:
    if can_matter(certainty):
        return
    chances = np.array([certainty, 1 - certainty, 0.0, 0.0], dtype=np.float32)
    expected = mixer(lambda ids: (length, {token: 1}), NO_ENDS)([1]).expects(0.0)
    assert expected is not None
    mixed = type(expected)(weight_of(length, share, certainty), {token: share})
    assert likeliest(chances, mixed, NO_ENDS, None, 0)[0] == 0


def test_the_repository_is_asked_for_what_follows_the_text_so_far() -> None:
    asked = list[Sequence[int]]()

    def lookup(ids: Sequence[int]) -> tuple[int, Mapping[int, int]]:
        asked.append([*ids])
        return (0, {}) if len(asked) == 1 else (7, {5: 3, 6: 1})

    voice = mixer(lookup, NO_ENDS)([*range(100)])
    assert voice.expects(0.99) is None and asked == [], "the model knows"
    assert voice.expects(0.4) is None, "nothing matches"
    voice.extend(100)
    expected = voice.expects(0.4)
    assert asked == [[*range(52, 100)], [*range(53, 101)]]
    assert expected is not None and expected.shares == {5: 0.75, 6: 0.25}
    assert expected.weight == weight_of(7, 0.75, 0.4)

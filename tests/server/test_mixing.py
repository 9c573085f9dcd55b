from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.fim import FAMILIES
from homespun_indexer.datastore import MAX_CONTEXT
from homespun_server.engine.protocol import Chances, Expectation
from homespun_server.mixing import FILE, REPOSITORY, Around, FilePlaces, Match, Voices, mixer
from tests.fakes import ByteTokenizer

TOKENIZER = ByteTokenizer(FAMILIES[0].control_tokens)
NO_ENDS = np.array([], dtype=np.int64)
NOTHING = Around((), ())
IDS = st.lists(st.integers(0, 1), max_size=120)
"""Of so few kinds that long ends stand elsewhere, too."""


def unsure(certainty: float = 0.4) -> Chances:
    """Of a model that knows 100 tokens."""
    chances = np.full(100, (1 - certainty) / 99, dtype=np.float32)
    chances[0] = certainty
    return chances


def says(length: int, counts: Mapping[int, int]) -> Voices:
    return Voices(NOTHING, lambda ids: (length, counts), NO_ENDS)


def weight_of(length: int, counts: Mapping[int, int], certainty: float) -> float:
    expected = says(length, counts).expects(unsure(certainty), None)
    return expected.weight if expected else 0.0


def test_a_long_match_weighs_more_and_a_certain_model_is_left_alone() -> None:
    assert weight_of(16, {5: 1}, 0.5) > weight_of(4, {5: 1}, 0.5) > weight_of(4, {5: 1, 6: 1}, 0.5) > 0
    assert weight_of(16, {5: 9}, 0.5) > weight_of(16, {5: 1}, 0.5) > weight_of(16, {5: 1}, 0.7)
    assert weight_of(48, {5: 1}, 0.995) == 0


def test_the_repository_is_asked_for_what_follows_the_text_so_far() -> None:
    asked = list[Sequence[int]]()

    def lookup(ids: Sequence[int]) -> tuple[int, Mapping[int, int]]:
        asked.append([*ids])
        return (0, {}) if len(asked) == 1 else (7, {5: 3, 6: 1})

    voice = mixer(Around(range(100), ()), lookup, NO_ENDS)()
    assert voice.expects(unsure(0.995), None) is None and asked == [], "the model knows"
    assert voice.expects(unsure(), None) is None, "nothing matches"
    voice.extend(100)
    expected = voice.expects(unsure(), None)
    assert asked == [[*range(52, 100)], [*range(53, 101)]]
    odds = math.sqrt(0.6) * REPOSITORY.of(Match(7, {}, 4, 0.75))
    assert expected is not None and expected.shares == {5: 0.75, 6: 0.25}
    assert expected.weight == pytest.approx(odds / (1 + odds))


def test_without_a_repository_the_file_has_a_voice() -> None:
    voice = mixer(Around([1, 2, 3, 9, 1, 2], [2, 7]), None, NO_ENDS)()
    expected = voice.expects(unsure(), None)
    assert expected is not None and expected.shares == {3: 1.0}, "after two that match, not after one"
    voice.extend(3)
    expected = voice.expects(unsure(), None)
    assert expected is not None and expected.shares == {9: 1.0}


def test_what_editors_send_of_other_files_is_heard_with_the_file_and_none_goes_on_in_the_next() -> None:
    voice = mixer(Around([1, 2], [7], [[8, 1, 2, 3], [4, 2]]), None, NO_ENDS)()
    expected = voice.expects(unsure(), None)
    assert expected is not None and expected.shares == {3: 1.0}
    places = FilePlaces(Around([7], (), [[3, 7], [5]]))
    assert places.followers(None) == (0, {}), "7 ends a text twice"


def test_of_what_editors_send_only_so_much_is_heard() -> None:
    around = Around.cursor(TOKENIZER, "x", "", "", ("a" * size for size in (9_000, 3_000, 3_000, 3_000, 2_000, 1)))
    assert [len(piece) for piece in around.beside] == [3_000, 3_000, 2_000]


def test_two_voices_are_heard_by_their_odds() -> None:
    expected = Voices(Around([1, 2, 3, 1, 2], ()), lambda ids: (7, {5: 1}), NO_ENDS).expects(unsure(), None)
    file, repository = FILE.of(Match(2, {}, 1, 1.0)), REPOSITORY.of(Match(7, {}, 1, 1.0))
    assert expected is not None
    assert expected.shares == pytest.approx({3: file / (file + repository), 5: repository / (file + repository)})


def test_a_voice_says_what_may_follow() -> None:
    """A word that was typed in part: the places count where it goes on, be their matches shorter."""
    around, only = Around([4, 1, 2, 3, 2, 5, 4, 1, 2], ()), np.array([5, 6])
    expected = mixer(around, None, NO_ENDS)().expects(unsure(), only)
    assert expected is not None and expected.shares == {5: 1.0}
    expected = says(7, {5: 1, 7: 3}).expects(unsure(), only)
    assert expected is not None and expected.shares == {5: 0.25}
    assert says(7, {7: 3}).expects(unsure(), only) is None


def test_what_the_model_is_sure_of_counts_among_what_may_follow() -> None:
    chances = unsure(0.995)
    assert says(7, {5: 1}).expects(chances, np.array([5, 6])) is not None
    assert says(7, {5: 1}).expects(chances, np.array([0, 5])) is None


def test_a_model_that_foresaw_another_word_has_less_to_say() -> None:
    """It gives 0.95 to what wasn't typed; which of the others it would be, the place tells."""
    chances = np.zeros(100, dtype=np.float32)
    chances[[0, 5, 6]] = 0.95, 0.04, 0.01
    expected = says(3, {6: 1}).expects(chances, np.array([5, 6]))
    assert expected is not None and expected.weight > (1 - expected.weight) * 0.04


def test_a_model_without_a_number_is_left_alone() -> None:
    """A row without numbers ended what everybody waited for."""
    assert says(7, {5: 1}).expects(np.full(100, np.nan, dtype=np.float32), None) is None


def test_a_line_that_ends_is_as_certain_as_all_its_ends_together() -> None:
    chances = np.full(100, 0.005 / 98, dtype=np.float32)
    chances[[0, 1]] = 0.5, 0.495
    voice = Voices(NOTHING, lambda ids: (7, {5: 1}), np.array([0, 1]))
    assert voice.expects(chances, None) is None and says(7, {5: 1}).expects(chances, None) is not None


def test_ends_of_a_line_agree() -> None:
    def heard(ends: Sequence[int]) -> Expectation | None:
        return Voices(NOTHING, lambda ids: (7, {5: 1, 6: 1}), np.array(ends, dtype=np.int64)).expects(unsure(), None)

    one, none = heard([5, 6]), heard([])
    assert one is not None and none is not None and one.weight > none.weight and one.shares == none.shares


@given(above=IDS, below=IDS, written=st.lists(st.integers(0, 1), max_size=8))
def test_the_longest_end_of_the_text_is_found_wherever_it_stands_in_the_file(
    above: list[int], below: list[int], written: list[int]
) -> None:
    places = FilePlaces(Around(above, below))
    for token in written:
        places.extend(token)
    length, counts = places.followers(None)
    text, found = [*above, *written][-MAX_CONTEXT - len(written) :], dict[int, list[int]]()
    for part in (above, below):
        for at in range(1, len(part)):
            matching = 0
            while matching < min(at, len(text)) and part[at - 1 - matching] == text[-1 - matching]:
                matching += 1
            found.setdefault(matching, []).append(part[at])
    longest = max(found, default=0)
    expected = found.get(longest, []) if longest else []
    assert length == longest and sorted(expected) == sorted(t for t, n in counts.items() for _ in range(n))


def test_a_file_is_known_up_to_where_the_completion_begins() -> None:
    around = Around.cursor(TOKENIZER, "def total():\n    return pri", "\nrest", "pri")
    assert TOKENIZER.decode(around.above) == "def total():\n    return " and TOKENIZER.decode(around.below) == "\nrest"
    assert around.above == TOKENIZER.encode("def total():\n    return ")


def test_of_a_huge_file_what_stands_near_the_cursor_has_a_voice() -> None:
    around = Around.cursor(TOKENIZER, "x" * 50_000 + "\n" + "y" * 50_000, "z" * 50_000, "")
    assert (len(around.above), len(around.below)) == (8_000, 4_000)
    assert TOKENIZER.decode(around.above[:1]) == "y"


class Words(ByteTokenizer):
    """A word with all that stands before it is a token, as with GPT-2's: `\\n    return`."""

    def __init__(self) -> None:
        super().__init__(FAMILIES[0].control_tokens)
        object.__setattr__(self, "asked", list[str]())

    asked: list[str]

    def encode(self, text: str) -> list[int]:
        self.asked.append(text)
        return [crc32(word.encode()) for word in re.findall(r"\s*\S+|\s+", text)]


@given(lines=st.lists(st.text("ab ", max_size=60), max_size=300), typed=st.text("ab ", max_size=20))
def test_near_the_cursor_tokens_are_those_of_the_whole_text(lines: list[str], typed: str) -> None:
    tokenizer, text = Words(), "\n".join([*lines, typed])
    whole, found = tokenizer.encode(text), Around.cursor(tokenizer, text, "", "").above
    near = tokenizer.encode(text[-1_000:])[1:]
    assert near == found[len(found) - len(near) :] == whole[len(whole) - len(near) :]


def test_a_keystroke_leaves_what_stands_above_as_the_tokenizer_knows_it() -> None:
    text = "".join(f"line {i} = {i}\n" for i in range(2_000))
    asked = []
    for typed in ("", "r", "re", "ret"):
        tokenizer = Words()
        Around.cursor(tokenizer, text + typed, "", "")
        asked.append(tokenizer.asked)
    assert len({far for far, _, _ in asked}) == 1 and all(
        near.endswith(t) for (_, near, _), t in zip(asked, ("", "r", "re", "ret"), strict=True)
    )
    assert all(len(far) > 4_000 and len(near) <= 2_500 for far, near, _ in asked)

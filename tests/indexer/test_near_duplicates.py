from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_indexer import near_duplicates as module
from homespun_indexer.near_duplicates import THRESHOLD, near_copies, near_duplicates, similarity


def code(seed: int, lines: int = 60) -> list[str]:
    rng = random.Random(seed)
    return [
        f"    value_{rng.randrange(999)} = call_{rng.randrange(999)}(item, {rng.randrange(99)})" for _ in range(lines)
    ]


def changed(lines: list[str], share: float, seed: int) -> str:
    rng = random.Random(seed)
    other = code(seed + 10_000, len(lines))
    return "\n".join(b if rng.random() < share else a for a, b in zip(lines, other, strict=True))


def by_definition(one: str, other: str) -> float:
    sets = []
    for text in (one, other):
        tokens = re.findall(r"\w+|[^\w\s]", text)
        sets.append({tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)})
    both, any_ = sets[0] & sets[1], sets[0] | sets[1]
    return len(both) / len(any_) if any_ else 0.0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.3, 0.6, 1.0])
def test_similarity_is_jaccard_over_five_tokens(share: float) -> None:
    lines = code(1)
    one, other = "\n".join(lines), changed(lines, share, 2)
    assert similarity(one, other) == pytest.approx(by_definition(one, other), abs=1e-9)


@given(st.text(alphabet="ab (_\n.é", max_size=60), st.text(alphabet="ab (_\n.é", max_size=60))
def test_similarity_is_what_it_is_defined_as_for_every_text(one: str, other: str) -> None:
    assert similarity(one, other) == pytest.approx(by_definition(one, other), abs=1e-9)


def test_near_duplicates_go_and_others_stay() -> None:
    originals = ["\n".join(code(i)) for i in range(100)]
    copies = [changed(code(i), 0.03, i) for i in range(100)]
    others = [changed(code(i), 0.6, i) for i in range(100)]
    found = list(near_duplicates([*originals, *copies, *others]))
    assert found[:100] == [None] * 100 and found[200:] == [None] * 100
    near = [similarity(a, b) >= THRESHOLD for a, b in zip(originals, copies, strict=True)]
    assert sum(near) > 80
    assert sum(n is not None for n in found[100:200]) >= sum(near) - 4
    assert all(n is None or n == i for i, n in enumerate(found[100:200]))


def test_what_lies_between_tokens_makes_no_difference() -> None:
    lines = code(3)
    assert list(near_duplicates(["\n".join(lines), "\n\n".join(f"\t{line}  " for line in lines)])) == [None, 0]


def test_small_texts_are_never_near_duplicates() -> None:
    assert list(near_duplicates(["import os\n", "import os\n", "", " "])) == [None] * 4


def test_near_copies_are_found_of_every_original_also_of_one_that_is_like_another() -> None:
    first = code(1)
    second = [*code(2)[:8], *first[8:]]  # nearly the first
    third = [*second[:-8], *code(3)[:8]]  # nearly the second
    one, two, three, other = ("\n".join(lines) for lines in (first, second, third, code(4)))
    assert similarity(one, two) >= THRESHOLD <= similarity(two, three) and similarity(one, three) < THRESHOLD
    assert list(near_copies([one, two], [three, other, one, "x = 1"])) == [True, False, True, False]
    assert list(near_duplicates([one, two, three])) == [None, 0, None]


def test_files_of_one_template_are_hardly_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was compared with every other one exactly: 20,000 took hours."""
    template = code(1)
    texts = ["\n".join([*template[:20], *code(i)[:15], *template[35:]]) for i in range(2, 102)]
    assert 0.5 < similarity(texts[0], texts[1]) < THRESHOLD
    compared, exact = [], module._jaccard

    def counted(one: module._Hashes, other: module._Hashes) -> float:
        compared.append(len(one))
        return exact(one, other)

    monkeypatch.setattr(module, "_jaccard", counted)
    copy = texts[7].replace("value_", "value", 2)
    assert list(near_duplicates([*texts, copy])) == [None] * 100 + [7]
    assert len(compared) < 10


@given(
    st.sets(st.integers(0, 60), min_size=1),
    st.lists(st.sets(st.integers(0, 60), min_size=1), min_size=1, max_size=600),
    st.sampled_from([7, 1 << 16, 1 << 20]),
)
def test_nothing_near_is_passed_over(one: set[int], others: list[set[int]], step: int) -> None:
    """Also where different shingles are taken for the same one, as many are with a step of 1 << 16."""
    kept, empty = module._Kept(), np.zeros(64, np.uint64)
    for number, other in enumerate(others):
        kept.add(number, (np.array(sorted(other), np.uint64) * np.uint64(step), empty))
    possible = set(kept._possible(np.array(sorted(one), np.uint64) * np.uint64(step), range(len(others))))
    near = {n for n, other in enumerate(others) if len(one & other) / len(one | other) >= THRESHOLD}
    assert near <= possible
    assert step != 7 or near == possible

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from homespun_server.drafts import Recent, drafter
from homespun_server.engine.protocol import Tree

_FEW = st.lists(st.integers(0, 3), max_size=60)
_ANY = st.lists(st.integers(0, 300_000), max_size=60)


def _tree(ids: Sequence[int], max_nodes: int = 16, *, recent: Recent | None = None, min_chance: float = 0.17) -> Tree:
    return drafter(recent=recent)(ids).propose(max_nodes, min_chance)


def _paths(tree: Tree) -> list[list[int]]:
    """From the root to each node."""
    paths: list[list[int]] = []
    for token, parent in zip(tree.ids, tree.parents, strict=True):
        paths.append([*(paths[parent] if parent >= 0 else ()), token])
    return paths


def test_what_followed_before_is_proposed_again() -> None:
    tree = _tree([*range(20), *range(5, 9)])
    assert tree.ids[:4] == (9, 10, 11, 12) and tree.parents[:4] == (-1, 0, 1, 2)


def test_a_draft_is_longer_the_longer_the_match() -> None:
    lengths = [len(_tree([*range(40), *range(10 - n, 10)], 30).ids) for n in (1, 2, 4, 8)]
    assert lengths == sorted(set(lengths))


def test_a_longer_match_comes_before_a_later_one() -> None:
    assert _tree([1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3]).ids[0] == 50


def test_the_latest_of_equal_matches_comes_first_and_the_other_is_an_alternative() -> None:
    tree = _tree([2, 3, 50, 8, 2, 3, 60, 7, 2, 3], min_chance=0.05)
    firsts = [token for token, parent in zip(tree.ids, tree.parents, strict=True) if parent == -1]
    assert firsts == [60, 50]


def test_what_most_places_agree_on_comes_before_the_latest() -> None:
    assert _tree([5, 60, 1, 5, 60, 2, 5, 60, 3, 5, 70, 4, 5]).ids[0] == 60


def test_unlikely_alternatives_are_left_out_unless_rows_cost_nothing() -> None:
    ids = [token for i in range(6) for token in (5, 60 + i)] + [5]
    assert len(_tree(ids).ids) < len(_tree(ids, min_chance=0.0).ids) == 16


def test_without_a_match_there_is_no_guess() -> None:
    assert _tree([1, 2, 3, 4]) == _tree([7]) == _tree([]) == Tree()


@given(_FEW | _ANY, st.lists(_FEW, max_size=3), st.integers(-1, 24), st.floats(0, 1))
def test_any_ids_give_a_tree_whose_beginnings_are_trees(
    ids: list[int], shown: list[list[int]], max_nodes: int, min_chance: float
) -> None:
    recent = Recent()
    for completion in shown:
        recent.add(ids[:5], completion)
    tree = _tree(ids, max_nodes, recent=recent, min_chance=min_chance)
    assert len(tree.ids) == len(tree.parents) <= max(0, max_nodes)
    assert all(-1 <= parent < node for node, parent in enumerate(tree.parents))
    paths = _paths(tree)
    assert len({tuple(path) for path in paths}) == len(paths)


@given(_FEW)
def test_every_path_stood_somewhere_after_the_last_token(ids: list[int]) -> None:
    for path in _paths(_tree(ids, 24, min_chance=0.0)):
        wanted = [ids[-1], *path]
        assert any(ids[i : i + len(wanted)] == wanted for i in range(len(ids)))


@given(_FEW, st.integers(1, 24))
def test_fewer_nodes_are_the_best_of_more(ids: list[int], max_nodes: int) -> None:
    few, many = _tree(ids, max_nodes), _tree(ids, 24)
    assert few.ids == many.ids[:max_nodes] and few.parents == many.parents[:max_nodes]


@given(_FEW, st.lists(_FEW, max_size=4))
def test_a_drafter_that_was_told_what_came_is_like_one_that_began_there(ids: list[int], parts: list[list[int]]) -> None:
    recent = Recent()
    recent.add([0, 1], [2, 3, 2])
    told = drafter(lambda context, count: [*context[-count:]], recent)(ids)
    for part in parts:
        told.propose(8, 0.17)
        told.extend(part)
    fresh = drafter(lambda context, count: [*context[-count:]], recent)([*ids, *(i for part in parts for i in part)])
    assert told.propose(16, 0.17) == fresh.propose(16, 0.17)


def test_a_completion_shown_before_is_found_by_what_it_followed_and_by_what_it_began_with() -> None:
    recent = Recent()
    recent.add([1, 2, 3], [4, 5, 6])
    assert _tree([8, 2, 3], recent=recent).ids == (4, 5, 6)
    assert _tree([8, 3, 4], recent=recent).ids == (5, 6)
    assert _tree([8, 2, 3]) == Tree()


def test_guesses_dont_run_from_one_text_into_the_next() -> None:
    recent = Recent()
    for first in (10, 20):
        recent.add([], range(first, first + 9))
    assert _tree([16, 17], recent=recent).ids == (18,)
    assert _tree([1, 2, 27, 28], recent=recent) == Tree()


def test_only_the_latest_completions_count_and_each_once() -> None:
    recent = Recent(size=2)
    recent.add([1], [11])
    recent.add([2], [12])
    text = recent.text
    recent.add([2], [12])
    assert recent.text == text
    recent.add([3], [])
    recent.add([3], [13])
    assert _tree([1], recent=recent) == Tree() and _tree([2], recent=recent).ids == (12,)


def test_the_datastore_is_asked_only_when_nothing_matches_nearby_and_for_little() -> None:
    asked: list[tuple[list[int], int]] = []

    def datastore(ids: Sequence[int], max_tokens: int) -> Sequence[int]:
        asked.append(([*ids], max_tokens))
        return [7] * max_tokens

    recent = Recent()
    recent.add([], [30, 31])
    draft = drafter(datastore, recent)
    assert draft([8, 9, 5, 8, 9]).propose(8, 0.17).ids[0] == 5 and not asked
    assert draft([1, 2, 3]).propose(0, 0.17) == Tree() and not asked
    assert set(draft([1, 2, 3]).propose(8, 0.17).ids) == {7}
    assert len(draft([1, 2, 3]).propose(1, 0.17).ids) == 1
    assert [ids for ids, _ in asked] == [[1, 2, 3]] * 2 and 1 <= asked[0][1] <= 4 and asked[1][1] == 1


def test_a_datastore_that_knows_nothing_gives_no_guess() -> None:
    assert drafter(lambda ids, max_tokens: [])([1, 2, 3]).propose(8, 0.17) == Tree()
    assert drafter(lambda ids, max_tokens: [])([]).propose(8, 0.17) == Tree()

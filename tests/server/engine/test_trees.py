from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homespun_server.engine.protocol import Tree
from homespun_server.engine.trees import Branches, chain, checked


def _checked(ids: tuple[int, ...], parents: tuple[int, ...], **changes: int) -> tuple[list[int], list[int]]:
    options = {"vocab_size": 10, "max_nodes": 8, "max_depth": 8, "can_branch": True} | changes
    tree = checked(Tree(ids, parents), **options)  # type: ignore[arg-type]
    return tree.ids, tree.parents


def test_what_is_sound_stays_as_it_is() -> None:
    assert _checked((1, 2, 3, 4), (-1, -1, 0, 2)) == ([1, 2, 3, 4], [-1, -1, 0, 2])


def test_what_is_malformed_goes_with_all_that_follows_it() -> None:
    assert _checked((1, 10, 3, 4), (-1, 0, 1, 0)) == ([1, 4], [-1, 0])
    assert _checked((1, -1, 3), (-1, 0, 1)) == ([1], [-1])
    assert _checked((1, 2, 3, 4), (-1, 1, 5, -2)) == ([1], [-1])
    assert _checked((1, 2, 3), (-1,)) == ([1], [-1])


def test_equal_children_become_one() -> None:
    assert _checked((1, 1, 2, 3), (-1, -1, 1, 0)) == ([1, 2, 3], [-1, 0, 0])


def test_what_couldnt_be_accepted_is_not_verified() -> None:
    assert _checked((1, 2, 3, 4), (-1, 0, 1, -1), max_depth=2) == ([1, 2, 4], [-1, 0, -1])
    assert _checked((1, 2, 3), (-1, 0, 1), max_depth=0) == ([], [])
    assert _checked((1, 2, 3), (-1, 0, 1), max_nodes=2) == ([1, 2], [-1, 0])


def test_without_branches_the_first_chain_stays() -> None:
    assert _checked((1, 2, 3, 4, 5), (-1, -1, 0, 1, 2), can_branch=False) == ([1, 3, 5], [-1, 0, 1])


@given(
    st.lists(st.integers(-2, 12), max_size=12),
    st.lists(st.integers(-3, 12), max_size=12),
    st.booleans(),
    st.integers(0, 12),
)
def test_whatever_is_proposed_a_sound_tree_comes_out_and_so_is_its_beginning(
    ids: list[int], parents: list[int], can_branch: bool, size: int
) -> None:
    tree = checked(Tree(tuple(ids), tuple(parents)), vocab_size=10, max_nodes=7, max_depth=4, can_branch=can_branch)
    for _ in range(2):
        _assert_sound(tree, can_branch)
        if size < len(tree):
            tree.cut(size)


def _assert_sound(tree: Branches, can_branch: bool) -> None:
    assert len(tree) <= 7 and all(0 <= token < 10 for token in tree.ids)
    assert all(-1 <= parent < node for node, parent in enumerate(tree.parents))
    assert all(depth < 4 for depth in tree.depths)
    assert len({*zip(tree.parents, tree.ids, strict=True)}) == len(tree)
    assert tree.is_chain == (tree.parents == [*range(-1, len(tree) - 1)]) and (can_branch or tree.is_chain)
    for node, (parent, token) in enumerate(zip(tree.parents, tree.ids, strict=True)):
        assert tree.child(parent, token) == node
        assert tree.ranks[node] == tree.parents[:node].count(parent)
    assert sum(tree.child(p, t) is not None for p in range(-1, 8) for t in range(10)) == len(tree)


def test_a_chain_is_a_tree() -> None:
    assert (chain([4, 5]).parents, chain([4, 5]).depths, chain([]).ids) == ([-1, 0], [0, 1], [])

"""Draft trees as they can be verified: what is malformed is left out, what is equal is one node."""

from __future__ import annotations

from collections.abc import Sequence

from homespun_server.engine.protocol import Tree


class Branches:
    """A tree in which every node is sound; see `protocol.Tree`. Its first n nodes are a tree too."""

    __slots__ = ("_children", "depths", "ids", "is_chain", "parents", "ranks")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        """0 for the first drafted token of a path."""
        self.ranks: list[int] = []
        """Number of siblings before it."""
        self.is_chain = True
        self._children: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def child(self, parent: int, token: int) -> int | None:
        return self._children.get((parent, token))

    def add(self, parent: int, token: int) -> int:
        """The new node, or the one that says the same already."""
        known = self._children.get((parent, token))
        if known is not None:
            return known
        node = len(self.ids)
        self.is_chain = self.is_chain and parent == node - 1
        self.ids.append(token)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        # A chain, the usual case, has no siblings to count.
        self.ranks.append(0 if self.is_chain else self.parents.count(parent))
        self.parents.append(parent)
        self._children[parent, token] = node
        return node

    def cut(self, num_nodes: int) -> None:
        """Only the first ones stay."""
        for node in range(num_nodes, len(self.ids)):
            del self._children[self.parents[node], self.ids[node]]
        for column in (self.ids, self.parents, self.depths, self.ranks):
            del column[num_nodes:]
        self.is_chain = self.parents == [*range(-1, num_nodes - 1)]


def chain(ids: Sequence[int]) -> Branches:
    branches = Branches()
    for number, token in enumerate(ids):
        branches.add(number - 1, token)
    return branches


def checked(tree: Tree, *, vocab_size: int, max_nodes: int, max_depth: int, can_branch: bool) -> Branches:
    """What of a drafter's tree can be verified. Without `can_branch` only the first child of a node stays."""
    branches = Branches()
    places: list[int | None] = []
    for number, (token, parent) in enumerate(zip(tree.ids, tree.parents, strict=False)):
        place = None
        if 0 <= token < vocab_size and -1 <= parent < number:
            over = places[parent] if parent >= 0 else -1
            if over is not None and _has_room(branches, over, token, max_nodes, max_depth, can_branch):
                place = branches.add(over, token)
        places.append(place)
    return branches


def _has_room(branches: Branches, parent: int, token: int, max_nodes: int, max_depth: int, can_branch: bool) -> bool:
    if branches.child(parent, token) is not None:
        return True
    if len(branches) >= max_nodes or (parent >= 0 and branches.depths[parent] + 1 >= max_depth):
        return False
    return max_depth > 0 and (can_branch or parent == len(branches) - 1)

"""What `homespun up` makes of its first index; the rest is tests/e2e."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from homespun_server.up import _indexed


class Children:
    """Indexes all repositories but those that are gone."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def run(self, verb: str, sources: Sequence[str]) -> int:
        assert verb == "index"
        self.asked.append(tuple(sources))
        return int("gone" in sources)


@pytest.mark.parametrize(
    ("sources", "statuses", "asked"),
    [
        (["a"], {"a": 0}, [("a",)]),
        (["gone"], {"gone": 1}, [("gone",)]),
        (["a", "b"], {"a": 0, "b": 0}, [("a", "b")]),
        (["a", "gone"], {"a": 0, "gone": 1}, [("a", "gone"), ("a",), ("gone",)]),
    ],
)
def test_repositories_are_indexed_at_once_and_alone_only_to_learn_which_failed(
    sources: list[str], statuses: dict[str, int], asked: list[tuple[str, ...]]
) -> None:
    children = Children()
    assert _indexed(children, sources) == statuses  # type: ignore[arg-type]
    assert children.asked == asked

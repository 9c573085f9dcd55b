"""Definitions of names in reach: which of several places is meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest

from homespun_core.types import SearchQuery
from homespun_indexer.definitions import Definition, definitions_in_reach
from homespun_indexer.imports_paths import Resolver
from homespun_indexer.segment import parent_hash


def found(
    prefix: str, places: Mapping[str, Sequence[tuple[str, str]]], path: str, language: str, others: Sequence[str] = ()
) -> list[str]:
    """Paths of what is found, where `places` says for each name in which files (path, parent) it is defined."""
    paths = {path, *others, *(where for of_name in places.values() for where, _ in of_name)}

    def find(name: str, files: Collection[str] | None, parent: int | None) -> list[Definition]:
        known = enumerate(places.get(name, ()))
        all_ = [Definition(0, i, 0, where, language, parent_hash(around)) for i, (where, around) in known]
        return [d for d in all_ if (files is None or d.path in files) and parent in (None, d.parent)]

    query = SearchQuery(prefix=prefix, suffix="\n", path=path, language=language)
    return [definition.path for definition in definitions_in_reach(query, Resolver(paths), find)]


@pytest.mark.parametrize(
    ("language", "path", "prefix", "expected"),
    [
        ("python", "shop/till.py", "from shop.prices import total\n\nx = total(", "shop/prices.py"),
        ("python", "shop/till.py", "from .prices import total as sum_of\n\nx = sum_of(", "shop/prices.py"),
        ("python", "shop/till.py", "import shop.prices as p\n\nx = p.total(", "shop/prices.py"),
        ("typescript", "src/till.ts", 'import { total } from "./prices";\n\nconst x = total(', "src/prices.ts"),
        ("go", "shop/till.go", 'import "example.com/m/prices"\n\nfunc f() { x := prices.total(', "prices/prices.go"),
        (
            "java",
            "a/shop/Till.java",
            "import a.prices.total;\n\nclass Till { x = new total(",
            "a/prices/total.java",
        ),
        ("rust", "src/till.rs", "use crate::prices::total;\n\nfn f() { let x = total(", "src/prices.rs"),
    ],
)
def test_an_import_tells_which_of_many_definitions_is_meant(
    language: str, path: str, prefix: str, expected: str
) -> None:
    ending = expected.rpartition(".")[2]
    elsewhere = [(f"elsewhere/{i}/other{i}.{ending}", "") for i in range(9)]
    assert found(prefix, {"total": [*elsewhere, (expected, "")]}, path, language) == [expected]


def test_without_an_import_a_name_of_many_places_means_none() -> None:
    many = [(f"a/m{i}.py", "") for i in range(3)]
    assert found("x = total(", {"total": many}, "till.py", "python") == []


def test_without_an_import_a_rare_name_is_found() -> None:
    assert found("x = total(", {"total": [("a/m.py", "")]}, "till.py", "python") == ["a/m.py"]


def test_a_neighbour_comes_before_other_packages() -> None:
    many = [(f"p{i}/x.go", "") for i in range(5)]
    assert found("x := Total(", {"Total": [*many, ("shop/sum.go", "")]}, "shop/till.go", "go") == ["shop/sum.go"]


def test_a_member_is_looked_for_in_the_type_of_its_owner() -> None:
    places = {"add": [("a.py", "Set"), ("basket.py", "Basket"), ("b.py", "Counter")]}
    assert found("basket = Basket()\nbasket.add(", places, "till.py", "python") == ["basket.py"]


def test_a_member_of_something_unknown_means_none() -> None:
    assert found("thing.add(", {"add": [("a.py", "Set")]}, "till.py", "python") == []


def test_the_file_itself_is_left_out() -> None:
    assert found("x = total(", {"total": [("till.py", "")]}, "till.py", "python") == []


def test_definitions_of_another_language_are_left_out() -> None:
    def find(name: str, files: Collection[str] | None, parent: int | None) -> list[Definition]:
        return [Definition(0, 0, 0, "a.js", "javascript", 0)] if name == "total" else []

    for language, path, expected in (("python", "b.py", []), ("typescript", "b.ts", ["a.js"])):
        query = SearchQuery(prefix="x = total(", suffix="", path=path, language=language)
        assert [d.path for d in definitions_in_reach(query, Resolver(["a.js", path]), find)] == expected

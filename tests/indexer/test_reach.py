"""What a completion may need to know is read around the cursor."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_indexer.reach import MAX_NAMES, Reach, names_in_reach, type_names


@pytest.mark.parametrize(
    ("language", "prefix", "expected"),
    [
        ("python", "return helper.price_of(item, cur", [("price_of", "helper"), ("helper", ""), ("item", "")]),
        ("python", "def f(basket: Basket | None):\n    return self.basket.to", [("Basket", "")]),
        ("python", "basket = shop.Basket()\nbasket.", [("Basket", ""), ("Basket", "shop"), ("shop", "")]),
        ("python", "total = basket.price()  # of Thing\n", [("price", "basket"), ("basket", ""), ("total", "")]),
        ("go", "func f(b *shop.Basket) {\n\tb.", [("Basket", ""), ("Basket", "shop"), ("shop", "")]),
        ("go", "c := &shop.Customer{}\nc.", [("Customer", ""), ("Customer", "shop"), ("shop", "")]),
        ("java", "Item item = basket.first();\nitem.", [("Item", ""), ("first", "basket"), ("basket", "")]),
        ("typescript", "let a = new Store<Item>();\na.", [("Store", ""), ("Item", "")]),
        ("rust", "let b = Basket::new();\nb.", [("Basket", ""), ("new", "Basket")]),
        ("rust", "let b: &Basket = x;\nb.", [("Basket", "")]),
        ("python", 'x = "Not.me"\n', []),
        ("python", "", []),
    ],
)
def test_names_near_the_cursor(language: str, prefix: str, expected: list[tuple[str, str]]) -> None:
    assert list(names_in_reach(prefix, "", language)) == [Reach(*row) for row in expected]


def test_lines_after_the_cursor_come_last() -> None:
    found = names_in_reach("first()\n", "rest\nsecond()\n\nthird()\nfourth()\nfifth()\n", "python")
    assert [reach.name for reach in found] == ["first", "second", "third", "fourth"]


def test_far_lines_are_out_of_reach() -> None:
    found = names_in_reach("far()\n" + "near()\n\n" * 5, "", "python")
    assert [reach.name for reach in found] == ["near"]


def test_there_is_a_limit() -> None:
    assert len(names_in_reach("\n".join(f"name_{i}(other_{i})" for i in range(20)), "", "python")) <= MAX_NAMES


@pytest.mark.parametrize(
    ("declaration", "expected"),
    [
        ("item: Item", ("Item",)),
        ("item: Optional[Item] = None", ("Item",)),
        ("item = Item(1)", ("Item",)),
        ("item = new Item()", ("Item",)),
        ("const item: Item<Price> = x", ("Item", "Price")),
        ("Item item", ("Item",)),
        ("List<Item> item", ()),
        ("item := shop.Item{}", ("Item",)),
        ("item *shop.Item", ("Item",)),
        ("let mut item = Item::new()", ("Item",)),
        ("items: Item", ()),
        ("item = 1", ()),
    ],
)
def test_the_type_of_a_variable_is_read_from_its_declaration(declaration: str, expected: tuple[str, ...]) -> None:
    assert type_names("item", declaration + "\n") == expected


@pytest.mark.parametrize("language", ["python", "typescript", "go", "java", "rust", "sql"])
def test_any_text_has_names_in_reach(language: str) -> None:
    parts = st.sampled_from(
        ["a", "Bc", ".", "::", "(", ")", "<", ">", ":", "=", " ", "\n", '"', "'", "\\", "é", "new "]
    )

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(parts, max_size=50), st.lists(parts, max_size=20))
    def holds(before: list[str], after: list[str]) -> None:
        assert len(names_in_reach("".join(before), "".join(after), language)) <= MAX_NAMES

    holds()


@pytest.mark.parametrize("part", ["a", "a.", "A<", "(", '"', "x = ", "A a "])
@pytest.mark.timeout(10)
def test_hostile_text_takes_no_exponential_time(part: str) -> None:
    names_in_reach(part * (200_000 // len(part)), part * 10_000, "java")

import itertools

from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.pieces import Neighbour, best_pieces

ORDER = "def place_order(basket, customer):\n    total = basket.total(customer.discount)\n    return Order(total)\n"
OTHER = "def render(page):\n    return template.format(page)\n"


def lines(count: int) -> str:
    return "filler = number\n" * count


def test_the_piece_that_shares_most_names_comes_first_and_what_shares_few_not_at_all() -> None:
    near = Neighbour(path="orders.py", text=lines(40) + ORDER + lines(40))
    far = Neighbour(path="pages.py", text=OTHER)
    some = Neighbour(path="basket.py", text="basket = customer.discount\n" + lines(5))
    here = "def cancel_order(basket, customer):\n    total = basket.total(customer.discount)\n    return Order("
    found = best_pieces([far, some, near], here, 2)
    assert [piece.path for piece in found] == ["orders.py", "basket.py"]
    assert "place_order" in found[0].text


def test_where_somebody_has_just_written_counts_more() -> None:
    text = ORDER + lines(60) + ORDER.replace("place", "send")
    here = "    total = basket.total(customer.discount)\n    return Order("
    (untouched,) = best_pieces([Neighbour(path="a.py", text=text)], here, 1)
    (edited,) = best_pieces([Neighbour(path="a.py", text=text, edited_at=(len(text) - 5,))], here, 1)
    assert "place_order" in untouched.text and "send_order" in edited.text


def test_of_one_file_several_pieces_are_sent_and_no_line_of_it_twice() -> None:
    text = ORDER + lines(60) + ORDER.replace("place", "send") + lines(60) + ORDER.replace("place", "cancel")
    here = "    total = basket.total(customer.discount)\n    return Order("
    found = best_pieces([Neighbour(path="a.py", text=text)], here, 10)
    assert len(found) == 3 and all("Order(total)" in piece.text for piece in found)
    assert len({piece.text for piece in found}) == 3


@given(
    st.text(alphabet="ab_\n \r\t(", max_size=200).map(lambda text: text * 20),
    st.lists(st.integers(0, 4_000), max_size=4),
    st.text(alphabet="ab_ \n", max_size=100),
)
def test_pieces_are_whole_lines_of_the_file_and_bounded(text: str, edits: list[int], here: str) -> None:
    neighbour = Neighbour(path="a", text=text, edited_at=tuple(min(edit, len(text)) for edit in edits))
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    for piece in neighbour.pieces:
        assert f"\n{piece.text}\n" in f"\n{plain}\n" and len(piece.text) <= 2_000
    found = best_pieces([neighbour, neighbour], here, 3)
    assert len(found) <= 3 and not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))


def test_a_huge_file_is_looked_at_near_its_edits_only() -> None:
    text = lines(50_000)
    assert len(Neighbour(path="a", text=text).pieces) <= 20
    assert len(Neighbour(path="a", text=text, edited_at=(len(text) // 2,)).pieces) <= 40

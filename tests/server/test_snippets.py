from hypothesis import given
from hypothesis import strategies as st

from homespun_core.types import Snippet
from homespun_server.snippets import merged


def snippet(name: str, text: str) -> Snippet:
    return Snippet(path=f"{name}.py", start_line=1, text=text, score=1.0, source="usage")


def body(name: str, count: int = 6) -> str:
    return "\n".join(f"    {name}_{n} = compute_{name}({n})" for n in range(count))


def names(snippets: tuple[Snippet, ...]) -> list[str]:
    return [s.path.removesuffix(".py") for s in snippets]


def test_what_was_sent_gets_the_room_that_is_left() -> None:
    sent, found = [snippet(n, body(n)) for n in "ab"], [snippet(n, body(n)) for n in "xyz"]
    assert names(merged(sent, found, 3)) == ["x", "y", "z"]
    assert names(merged(sent, found, 4)) == ["x", "y", "z", "a"]
    assert names(merged(sent, [], 0)) == ["a", "b"]


def test_of_two_that_say_mostly_the_same_the_one_on_the_screen_stays() -> None:
    edited = snippet("edited", body("a") + "\n    something_new = 1")
    found = [snippet("other", body("b")), snippet("indexed", body("a"))]
    assert names(merged([edited], found, 2)) == ["other", "edited"]


def test_what_is_sent_twice_is_used_once() -> None:
    assert names(merged([snippet("a", body("a")), snippet("b", body("a"))], [], 3)) == ["a"]


def test_lines_that_stand_everywhere_make_nothing_the_same() -> None:
    first, second = snippet("a", body("a", 2) + "\n}\n    }\nend"), snippet("b", body("b", 2) + "\n}\n    }\nend")
    assert names(merged([first], [second], 3)) == ["b", "a"]


def test_no_more_than_a_few_of_a_client_are_looked_at() -> None:
    assert len(merged([snippet(f"n{n}", body(f"n{n}")) for n in range(100)], [], 3)) == 16


texts = st.lists(st.text(alphabet="abc(\n ", max_size=60).map(lambda text: snippet("x", text)), max_size=6)


@given(texts, texts)
def test_what_was_found_keeps_its_number_and_places(sent: list[Snippet], found: list[Snippet]) -> None:
    chosen = merged(sent, found, 3)
    assert all(one in sent or one in found for one in chosen)
    assert len(found) <= len(chosen) <= len(found) + len(sent)
    assert all(mine == its or mine in sent for mine, its in zip(chosen, found, strict=False))

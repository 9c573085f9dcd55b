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


def test_they_take_turns() -> None:
    sent, found = [snippet(n, body(n)) for n in "ab"], [snippet(n, body(n)) for n in "xyz"]
    assert names(merged(sent, found)) == ["a", "x", "b", "y", "z"]


def test_of_two_that_say_mostly_the_same_the_one_on_the_screen_stays() -> None:
    edited = snippet("edited", body("a") + "\n    something_new = 1")
    assert names(merged([edited], [snippet("indexed", body("a")), snippet("other", body("b"))])) == ["edited", "other"]


def test_lines_that_stand_everywhere_make_nothing_the_same() -> None:
    first, second = snippet("a", body("a", 2) + "\n}\n    }\nend"), snippet("b", body("b", 2) + "\n}\n    }\nend")
    assert names(merged([first], [second])) == ["a", "b"]


def test_no_more_than_a_few_of_a_client_are_looked_at() -> None:
    assert len(merged([snippet(f"n{n}", body(f"n{n}")) for n in range(100)], [])) == 16


texts = st.lists(st.text(alphabet="ab(\n ", max_size=40).map(lambda text: snippet("x", text)), max_size=6)


@given(texts, texts)
def test_all_come_from_one_of_the_two_and_each_once(sent: list[Snippet], found: list[Snippet]) -> None:
    chosen = merged(sent, found)
    assert all(one in sent or one in found for one in chosen)
    assert merged(chosen, []) == chosen, "what is merged once is merged"

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.brackets import Scan, scan

CASES = {
    "open": ("x = foo(bar[1", "python", Scan(opened="([")),
    "closed in order": ("f(a[1])", "python", Scan()),
    "closes what came before": ("a), b}", "python", Scan(closed=")}")),
    "in a string": ("x = 'a(' + \"[\"", "python", Scan()),
    "escaped quote": (r"x = 'a\'(' + (", "python", Scan(opened="(")),
    "string goes on": ("x = 'a(", "python", Scan(string="'")),
    "string ends with its line": ("x = 'a(\ny = (", "python", Scan(opened="(")),
    "docstring": ('"""it\'s (\n[', "python", Scan(string='"""')),
    "comment": ("# it's (\n[", "python", Scan(opened="[")),
    "comment goes on": ("x  # it's (", "python", Scan(in_comment=True)),
    "block comment": ("/* ( \n it's */ {", "c", Scan(opened="{")),
    "character": ("if (c == '(') {", "c", Scan(opened="{")),
    "lifetime": ("fn f<'a>(x: &'a str) {", "rust", Scan(opened="{")),
    "template": ("x = `a(\n(`; (", "typescript", Scan(opened="(")),
    "raw string of Go": ("x := `a(\n", "go", Scan(string="`")),
    "editor's name of the language": ("x = `(", "typescriptreact", Scan(string="`")),
    "unknown language": ("x = '(' (", "cobol-85", Scan(opened="(")),
    "number of arguments": ("if [ $# -gt ${#a[@]} ]; then f() {", "bash", Scan(opened="{")),
    "comment of a shell": ("a; # it's (\nb;# (\n#{\n(", "sh", Scan(opened="(")),
    "last index": ("for (0..$#{$a}) {", "perl", Scan(opened="{")),
    "nothing": ("", None, Scan()),
}


@pytest.mark.parametrize(("text", "language", "found"), CASES.values(), ids=CASES)
def test_brackets_and_strings_are_told_apart(text: str, language: str | None, found: Scan) -> None:
    assert scan(text, language) == found


@pytest.mark.parametrize("quote", ["'", '"', "`", '"""'])
@pytest.mark.timeout(10)
def test_backslashes_in_a_string_that_goes_on_cost_no_more_than_letters(quote: str) -> None:
    """Where each could be read in two ways, thirty of them would outlive us."""
    inside = Scan(string=quote)
    assert scan(r"\d" * 10_000, "python", inside) == inside
    assert scan(r"\d" * 10_000 + f"{quote} + (", "python", inside) == Scan(opened="(")
    assert scan(rf"\{quote[0]}(" * 10_000 + f"{quote} + [", "python", inside) == Scan(opened="[")


def test_an_escaped_line_end_does_not_end_a_string() -> None:
    assert scan("a(\\\nb(' + (", "python", Scan(string="'")) == Scan(opened="(")
    assert scan("a(\n(", "python", Scan(string="'")) == Scan(opened="(")


languages = st.sampled_from(["python", "go", "rust", "typescript", "c", None])
code = st.text(alphabet="ab ()[]{}\n", max_size=30)


@given(code, code, languages)
def test_a_scan_in_two_parts_is_that_of_the_whole(first: str, second: str, language: str | None) -> None:
    assert scan(second, language, scan(first, language)) == scan(first + second, language)


@given(st.text(alphabet="a (\n\"'`#/*\\", max_size=40), languages)
def test_it_ends_for_any_text(text: str, language: str | None) -> None:
    found = scan(text, language)
    assert found.num_flaws >= 0 and not (found.string and found.in_comment)

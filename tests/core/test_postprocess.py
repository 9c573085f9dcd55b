"""Every rule of post-processing as a row: what stands around the cursor, what the model wrote, what is shown."""

import ast
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.brackets import scan
from homespun_core.postprocess import finish

CASES = {
    "plain rest of a line": ("x = ", "foo(1)", "\n", "foo(1)"),
    "trailing blanks go": ("x = ", "foo(1)   \n", "\n", "foo(1)"),
    "only blanks is nothing": ("x = ", "   \n  ", "\n", ""),
    "stops where the block ends": ("def f():\n    return ", "1\n\ndef g():\n    pass", "\n", "1"),
    "keeps lines of the block": (
        "def f():\n    if a:",
        "\n        b()\n        c()",
        "\n",
        "\n        b()\n        c()",
    ),
    "stops before the line that follows": ("a()\n", "b()\nc()\nd()", "\nc()\n", "b()"),
    "a closer that closes our own stays": ("x = ", "f(\n  1,\n)", "\n)\n", "f(\n  1,\n)"),
    "a closer that follows already goes": ("g(\n  ", "1,\n  2,\n  )", "\n  )\n", "1,\n  2,"),
    "auto-inserted closer is not doubled": ("foo(", "a, b)", ")", "a, b"),
    "a closer that the line needs stays": ("foo(bar(", "x)", ")", "x)"),
    "code right of the cursor: one line": ("x = ", "1\ny = 2", " + z\n", "1"),
    "repeats what stands right of it": ("return ", "total + tax", " + tax\n", "total"),
    "the same line again and again": (
        "    ",
        "a.append(1)\n    a.append(1)\n    a.append(1)\n    b",
        "\n",
        "a.append(1)",
    ),
    "two equal lines are fine": ("    ", "a.pop()\n    a.pop()\n    b()", "\n", "a.pop()\n    a.pop()\n    b()"),
    "a stuttering line": ("s = ", "'abc" + "abc" * 9, "\n", "'abc"),
    "the line above again is nothing": ("    self.total = 0\n    ", "self.total = 0", "\n", ""),
    "groups of lines again and again": ("", "a()\nb()\n" * 3 + "c()", "\n", "a()\nb()"),
    "the line below again is nothing": ("    ", "return total", "\n    return total\n", ""),
    "a bracket that closes nothing": ("x = foo(a", ", b))", "\n", ", b)"),
    "a bracket that the rest of the line closes": ("foo(", "a, bar(b)), c", ")", "a, bar(b)"),
    "a bracket of another kind": ("x = foo(a", "]", "\n", ""),
    "a block that the file closes below": ("func f() {\n\t", "a()\n\t}\n}", "\n}\n", "a()"),
    "a block that nothing closes": ("func f() {\n\t", "a()\n}", "\n", "a()"),
    "a closer in a string is text": ("x = ", "')' + f(1)", "\n", "')' + f(1)"),
    "the quote that is there already": ("x = 'hel", "lo'", "'\n", "lo"),
    "quote and bracket that are there already": ("print('hel", "lo')", "')\n", "lo"),
    "a string that is closed and opened again": ("x = 'a", "' + b + 'c", "'\n", "' + b + 'c"),
    "half a call at the end": ("    ", "a()\n    b(", "\n", "a()"),
    "half a block at the end": ("if x {\n\t", "a()\n\tif y {", "\n}\n", "a()"),
    "half a string at the end": ("    ", "a()\n    b = 'x", "\n    c()\n", "a()"),
    "half a string in one line": ("    ", "b = 'x", "\n    c()\n", "b = 'x"),
    "an apostrophe is no string": (
        "    ",
        "a()\n    # of\n    b().users' or",
        "\n",
        "a()\n    # of\n    b().users' or",
    ),
    "half a block of Python at the end": ("def f():\n    ", "x = 1\n    if x:", "\n    return 2\n", "x = 1"),
    "a block that was there already": ("    ", "x = 1\n    if x:", "\n        y()\n", "x = 1\n    if x:"),
    "a block that begins in the first line": ("def f(x)", ":\n    if x:", "\n", ":\n    if x:"),
    "half a header at the end": ("    ", "x = 1\n    if (x and\n        y):  # why", "\n", "x = 1"),
    "a key isn't a header": ("x = {", "\n    'a':\n        1,\n    'b':", "\n", "\n    'a':\n        1,\n    'b':"),
    "a decorator of nothing": ("", "x = 1\n@cache", "\nx()\n", "x = 1"),
    "a decorator of what follows": ("", "@a\n@b", "\ndef f(): ...\n", "@a\n@b"),
    "a try that catches nothing": ("", "x = 1\ntry:\n    y()", "\nz()\n", "x = 1"),
    "a try that is caught below": ("", "x = 1\ntry:\n    y()", "\nexcept E:\n    z()", "x = 1\ntry:\n    y()"),
    "one line may leave a block open": ("", "if (x) {", "\n", "if (x) {"),
    "a list that goes on": ("x = ", "[\n    1,\n    2,", "\n", "[\n    1,\n    2,"),
    "what a terminal would obey": ("x = ", "1\x1b[2J + 2", "\n", "1"),
    "what turns the direction of text": ("if role ", '!= "user\u202e\u2066":', "\n", '!= "user'),
    "text from right to left is text": ("x = ", "'שלום'", "\n", "'שלום'"),
    "windows line ends": ("x = ", "1\r", "\r\n", "1"),
}


@pytest.mark.parametrize(("prefix", "completion", "suffix", "shown"), CASES.values(), ids=CASES)
def test_what_is_shown(prefix: str, completion: str, suffix: str, shown: str) -> None:
    language = "go" if "{" in prefix + completion else "python"
    assert finish(prefix, completion, suffix, language=language) == shown


CASES_ANYWHERE = {
    "several lines up to a closer that is there": ("call(", "\n    1,\n)", ")\n", "\n    1,"),
    "a closer of their own stays": ("call(", "\n    f(\n        1)", ")\n", "\n    f(\n        1)"),
    "a closer that the line needs stays": ("foo(bar(", "\n    x)", ")\n", "\n    x)"),
    "a call within one that began above": ("foo(\n    bar", "(x)", ")\n", "(x)"),
    "more than a closer that is there": ("call(", "\n    1,\n);", ");\n", "\n    1,"),
    "a quote that is there": ('x = "', 'a\n    b"', '"\n', "a\n    b"),
}


@pytest.mark.parametrize("language", ["zig", None, "go"])
@pytest.mark.parametrize(("prefix", "completion", "suffix", "shown"), CASES_ANYWHERE.values(), ids=CASES_ANYWHERE)
def test_what_is_shown_in_a_language_known_or_not(
    prefix: str, completion: str, suffix: str, shown: str, language: str | None
) -> None:
    assert finish(prefix, completion, suffix, language=language) == shown


RIGHT_ALREADY = {
    "a pattern": ("bash", 'case "$1" in\n', "start) run ;;\nstop)\n    halt ;;", "\nesac\n"),
    "a pattern in a function": ("bash", "f() {\n  case $1 in\n  ", "a) run ;;\n  b) halt ;;\n  esac", "\n}\n"),
    "number of arguments": ("bash", "", "run() {\n  [ $# -gt 0 ] && echo ${#a[@]}\n  (cd x)\n}\nrun", "\n"),
    "identifiers of CSS": ("css", "", "#app {\n  a: b;\n}", "\n"),
    "numbers of a list": ("markdown", "", "1) a\n2) b", "\n"),
    "a smiley": ("plaintext", "Well ", "done :)\nOn :(", "\n"),
}


@pytest.mark.parametrize(("language", "prefix", "completion", "suffix"), RIGHT_ALREADY.values(), ids=RIGHT_ALREADY)
def test_nothing_of_it_is_cut(language: str, prefix: str, completion: str, suffix: str) -> None:
    assert finish(prefix, completion, suffix, language=language) == completion


def test_a_shell_gets_no_closer_too_many_either() -> None:
    assert finish("f() {\n", "run\n}", "\na) x ;;\n}\n", language="bash") == "run", "a pattern below closes nothing"
    assert finish("x=$(f", " a))", "\n", language="bash") == " a))", "a parenthesis may end a pattern"
    assert finish("x=$(f ", "a]", "\n", language="bash") == "a"


def test_what_is_opened_above_the_window_may_be_closed() -> None:
    above = "func f() {\n" + "\tfiller()\n" * 1_000 + "\tlast()"
    assert finish(above, "\n}", "\n", language="go") == "", "a line of less indentation isn't ours"
    assert finish(above.replace("\n\t", "\n"), "\n}", "\n", language="go") == "\n}"
    assert finish("\tlast()".strip(), "\n}", "\n", language="go") == "", "here all is seen: nothing is open"


def test_what_may_still_be_closed_is_left_open_until_the_end() -> None:
    assert finish("", "a()\nb(", "\n", is_end=False) == "a()\nb("


def test_single_line_keeps_the_first_line() -> None:
    assert finish("if a:", "\n    b()", "\n", multi_line=False) == ""
    assert finish("x = ", "1\ny = 2", "\n", multi_line=False) == "1"


@pytest.mark.timeout(20)
def test_a_long_line_is_searched_for_stutter_at_its_end_only() -> None:
    """All of it would take minutes."""
    line = "x = " + " + ".join(f"x{n}" for n in range(10_000))
    assert finish("", line, "\n", language="python") == line
    assert finish("", line + " + abcdefghi" * 9, "\n", language="python") == line + " + abcdefghi"
    assert finish("", "x = " + "abc" * 3_000, "\n", language="python") in ("x = abc" + "abc" * n for n in range(5))


def test_a_truncated_last_line_is_left_out_when_there_are_others() -> None:
    assert finish("", "first()\nsec", "\n", truncated=True) == "first()"
    assert finish("", "firs", "\n", truncated=True) == "firs"


code = st.text(alphabet="ab1 ()[]{}'\"\n\t.,:=\r\x1b\u202e", max_size=60)
languages = st.sampled_from(["python", "go", "rust", None])


@given(code, code, code, st.booleans(), st.booleans(), languages)
def test_the_result_is_a_prefix_of_what_the_model_wrote(
    prefix: str, completion: str, suffix: str, multi_line: bool, truncated: bool, language: str | None
) -> None:
    shown = finish(prefix, completion, suffix, multi_line=multi_line, truncated=truncated, language=language)
    assert completion.startswith(shown)
    assert shown == shown.rstrip()
    assert not {"\x1b", "\u202e"} & set(shown)


@given(code, code, code, st.booleans(), languages)
def test_what_is_finished_once_is_finished(
    prefix: str, completion: str, suffix: str, multi_line: bool, language: str | None
) -> None:
    shown = finish(prefix, completion, suffix, multi_line=multi_line, language=language)
    assert finish(prefix, shown, suffix, multi_line=multi_line, language=language) == shown


def rendered(block: list[Any], indent: str) -> str:
    """Statements are text, those with blocks of their own are (header, block) for each."""
    lines = []
    for statement in block:
        for header, inside in [(statement, [])] if isinstance(statement, str) else statement:
            lines.append(textwrap.indent(header, indent))
            lines.extend([rendered(inside, indent + "    ")] if inside else [])
    return "\n".join(lines)


def blocks(inside: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Any]]:
    one = st.sampled_from(
        ["if a:", "for b in c:  # all", "with d(\n    e\n):", "@f\ndef g():", "class H:", "while i: # it's"]
    )
    either = st.tuples(st.tuples(st.just("if a:"), inside), st.tuples(st.just("else:"), inside))
    tried = st.tuples(st.tuples(st.just("try:"), inside), st.tuples(st.sampled_from(["except E:", "finally:"]), inside))
    return st.lists(st.one_of(simple, st.tuples(st.tuples(one, inside)), either, tried), min_size=1, max_size=4)


simple = st.sampled_from(
    [
        "a = 1",
        'b = "a b"',
        "c = 'it: (is)'  # what",
        "f(a, [b,\n  c])",
        '"""Of\nseveral: lines"""',
        "d = a + \\\n  b",
        "# e:\npass",
    ]
)
python = st.recursive(st.lists(simple, min_size=1, max_size=3), blocks, max_leaves=5)


def parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


@given(python, python, st.data())
def test_python_that_parsed_still_does_where_a_cut_after_a_line_can_do_that(
    above: list[Any], own: list[Any], data: st.DataObject
) -> None:
    """However the model breaks off: after a line, in a string or within brackets."""
    prefix, suffix = f"def f():\n{rendered(above, '    ')}\n    ", "\n    return 2\n"
    text = rendered(own, "    ").lstrip() + "\n"
    ends = [n for n in range(1, len(text)) if text[n] == "\n" or scan(text[:n], "python").num_flaws]
    completion = text[: data.draw(st.sampled_from(ends))]
    lines = completion.split("\n")
    assert parses(prefix + suffix)
    if any(parses(prefix + "\n".join(lines[:n]) + suffix) for n in range(1, len(lines) + 1)):
        assert parses(prefix + finish(prefix, completion, suffix, language="python") + suffix)


plain = st.text(alphabet="ab ()[]{}\n.,=", max_size=40)


@given(plain, plain, plain, st.sampled_from(["python", "go", "rust"]))
def test_a_file_whose_brackets_match_gets_no_closer_too_many(
    head: str, completion: str, tail: str, language: str
) -> None:
    """Whatever the model writes: what was open and closed by the file itself stays so."""
    if scan(head + tail, language).num_flaws:
        return
    shown = finish(head, completion, tail, language=language)
    own = scan(shown, language)
    assert not own.closed, "it closes nothing that isn't its own"
    whole = scan(head + shown + tail, language)
    if "\n" not in shown or not own.opened:
        assert len(whole.opened + whole.closed) <= 2 * len(own.opened)

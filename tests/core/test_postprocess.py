"""Every rule of post-processing as a row: what stands around the cursor, what the model wrote, what is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    "windows line ends": ("x = ", "1\r", "\r\n", "1"),
}


@pytest.mark.parametrize(("prefix", "completion", "suffix", "shown"), CASES.values(), ids=CASES)
def test_what_is_shown(prefix: str, completion: str, suffix: str, shown: str) -> None:
    assert finish(prefix, completion, suffix) == shown


def test_single_line_keeps_the_first_line() -> None:
    assert finish("if a:", "\n    b()", "\n", multi_line=False) == ""
    assert finish("x = ", "1\ny = 2", "\n", multi_line=False) == "1"


def test_a_truncated_last_line_is_left_out_when_there_are_others() -> None:
    assert finish("", "first()\nsec", "\n", truncated=True) == "first()"
    assert finish("", "firs", "\n", truncated=True) == "firs"


code = st.text(alphabet="ab1 ()[]{}'\"\n\t.,:=\r", max_size=60)


@given(code, code, code, st.booleans(), st.booleans())
def test_the_result_is_a_prefix_of_what_the_model_wrote(
    prefix: str, completion: str, suffix: str, multi_line: bool, truncated: bool
) -> None:
    shown = finish(prefix, completion, suffix, multi_line=multi_line, truncated=truncated)
    assert completion.startswith(shown)
    assert shown == shown.rstrip()

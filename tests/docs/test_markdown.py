from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs import markdown

TEXT = """\
# Title

Before.

## First part

```sh
# no heading
```

### Below: `code` and [a link](x.md)

## Second
End."""


def test_headings_have_the_anchors_that_forges_make_and_code_has_none() -> None:
    assert [(h.level, h.slug) for h in markdown.headings(TEXT)] == [
        (1, "title"),
        (2, "first-part"),
        (3, "below-code-and-a-link"),
        (2, "second"),
    ]


def test_a_section_ends_before_the_next_that_is_not_below_it() -> None:
    assert markdown.section(TEXT, "first-part").endswith("[a link](x.md)")
    assert markdown.section(TEXT, "second") == "## Second\nEnd."
    with pytest.raises(KeyError, match="first-part"):
        markdown.section(TEXT, "third")


def test_the_beginning_ends_before_the_first_section() -> None:
    assert markdown.beginning(TEXT) == "# Title\n\nBefore."


def test_headings_move_together() -> None:
    moved = markdown.with_first_at(markdown.section(TEXT, "first-part"), 1)
    assert [h.level for h in markdown.headings(moved)] == [1, 2]
    assert "\n# no heading\n" in moved


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("[a](b.md)", "[a](B.MD)"),
        ("![a](b.png) and [`c`](d#e)", "![a](B.PNG) and [`c`](D#E)"),
        ('<img src="a.png"> <source srcset="b.png">', '<img src="A.PNG"> <source srcset="B.PNG">'),
        ("`[a](b)` stays", "`[a](b)` stays"),
        ("code `over\ntwo lines` and [a](b)", "code `over\ntwo lines` and [a](B)"),
        ("```\n[a](b)\n```\n[a](b)", "```\n[a](b)\n```\n[a](B)"),
        ("one ` alone\n\n[a](b)", "one ` alone\n\n[a](B)"),
    ],
)
def test_links_change_where_they_are_links(text: str, changed: str) -> None:
    assert markdown.relinked(text, str.upper) == changed


@given(st.text(st.sampled_from("a#`~[]() \n")))
def test_links_that_stay_leave_the_text_as_it_is(text: str) -> None:
    assert markdown.relinked(text, lambda link: link) == "\n".join(text.splitlines())

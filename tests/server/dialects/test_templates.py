from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.fim import FAMILIES, FimFamily
from homespun_server.dialects.templates import Place, editor_snippet, parsed, place_of, spelled

SENTINELS = sorted({token for family in FAMILIES for token in (*family.control_tokens, "<PRE>", "<SUF>", "<MID>")})
_ANY = re.compile("|".join(re.escape(token) for token in SENTINELS))
FAMILY = st.sampled_from(FAMILIES)
TEXT = st.text(max_size=30).filter(lambda text: not _ANY.search(text))
NAME = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.py", fullmatch=True)


@st.composite
def places(draw: st.DrawFn, family: FimFamily) -> Place:
    """What a prompt of this family can say."""
    has_files = family.file is not None
    files = draw(st.lists(st.tuples(NAME, TEXT.filter(bool)), max_size=3)) if has_files else []
    return Place(
        prefix=draw(TEXT),
        suffix=draw(TEXT),
        path=draw(st.none() | NAME) if has_files else None,
        repo=draw(st.none() | NAME) if has_files and family.repo is not None else None,
        snippets=tuple(editor_snippet(path, text, rank) for rank, (path, text) in enumerate(files)),
    )


@given(st.data(), FAMILY)
def test_what_was_put_together_is_taken_apart_again(data: st.DataObject, family: FimFamily) -> None:
    place = data.draw(places(family))
    assert parsed(spelled(family, place)) == place


@given(TEXT, TEXT)
def test_text_without_sentinels_stays_text(prompt: str, suffix: str) -> None:
    assert place_of(prompt, suffix) == Place(prefix=prompt, suffix=suffix)


@given(st.data(), FAMILY)
def test_sentinels_in_a_file_are_never_taken_for_the_clients(data: st.DataObject, family: FimFamily) -> None:
    """Whoever writes a file must not decide what counts as another file, another repository or the suffix."""
    place = data.draw(places(family))
    forged = data.draw(st.sampled_from([t for t in SENTINELS if t in "".join(spelled(family, place))] or SENTINELS))
    prompt = spelled(family, Place(prefix=place.prefix + forged + "x", suffix=place.suffix))
    found = parsed(prompt)
    assert found is None or (found.repo is None and found.path is None and found.snippets == ())
    assert found is None or found.suffix == place.suffix


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_source_code_about_sentinels_stays_text(family: FimFamily) -> None:
    source = f'TOKENS = "{" ".join(family.control_tokens)}"\n'
    assert place_of(source) == Place(prefix=source)
    assert place_of(spelled(family, Place(prefix="a")), "beside it").prefix == spelled(family, Place(prefix="a"))


def test_the_repository_prompt_of_llama_cpp() -> None:
    """The cursor's line stands after the last sentinel."""
    prompt = (
        "<|repo_name|>myproject\n<|file_sep|>a.py\nimport b\n<|file_sep|>b.py\ndef c(): ...\n<|file_sep|>main.py\n"
        "<|fim_prefix|>def f():\n<|fim_suffix|>\nf()\n<|fim_middle|>    return "
    )
    place = parsed(prompt)
    assert place is not None
    assert (place.prefix, place.suffix) == ("def f():\n    return ", "\nf()\n")
    assert (place.path, place.repo) == ("main.py", "myproject")
    assert [(s.path, s.text) for s in place.snippets] == [("b.py", "def c(): ..."), ("a.py", "import b")]


@pytest.mark.parametrize(
    ("prompt", "prefix", "suffix"),
    [
        ("<fim_prefix>a<fim_suffix>b<fim_middle>", "a", "b"),  # Continue, for StarCoder and its like
        ("<PRE> a <SUF>b <MID>", "a", "b"),  # Ollama, for CodeLlama
        ("[SUFFIX]b[PREFIX]a", "a", "b"),  # Continue, for Codestral
        ("<|fim_prefix|><|fim_suffix|>b<|fim_middle|>a", "a", "b"),  # this server's own order
        ("<｜fim▁begin｜>a<｜fim▁hole｜>b<｜fim▁end｜>", "a", "b"),  # DeepSeek's
    ],
)
def test_templates_of_clients(prompt: str, prefix: str, suffix: str) -> None:
    assert parsed(prompt) == Place(prefix=prefix, suffix=suffix)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<|fim_prefix|>",
        "<|fim_prefix|>a<|fim_suffix|>b",
        "<|fim_middle|>a<|fim_suffix|>b<|fim_prefix|>",
        "<|fim_prefix|>a<|fim_prefix|>b<|fim_suffix|>c<|fim_middle|>",
        "x<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
        "<fim_prefix>a<|fim_suffix|>b<fim_middle>",
        "<|repo_name|>r\n",
    ],
)
def test_half_a_template_stays_text(prompt: str) -> None:
    assert place_of(prompt) == Place(prefix=prompt)

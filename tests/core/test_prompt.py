"""Budgets and stability of prompts; their spelling is in test_fim.py."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core.errors import ConfigError
from homespun_core.fim import FAMILIES, resolve_family
from homespun_core.prompt import Prompt, PromptBuilder, PromptLimits, heals
from homespun_core.types import Snippet
from tests.fakes import ByteTokenizer

HOMESPUN = FAMILIES[0]
TOKENIZER = ByteTokenizer(HOMESPUN.control_tokens)
FORMAT = resolve_family(TOKENIZER, {}, forced="homespun")


def builder(max_tokens: int = 400, max_snippet_tokens: int = 60) -> PromptBuilder:
    limits = PromptLimits(max_tokens=max_tokens, max_snippet_tokens=max_snippet_tokens)
    return PromptBuilder(tokenizer=TOKENIZER, format=FORMAT, limits=limits)


def snippet(text: str, path: str = "b.py") -> Snippet:
    return Snippet(path=path, start_line=1, text=text, score=1.0, source="usage")


def shared(a: Prompt, b: Prompt) -> int:
    """How many tokens two prompts share from the start: what a KV cache keeps."""
    return next((i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y), min(len(a.ids), len(b.ids)))


source = st.text(alphabet="abc =():\n\té😀", max_size=700)


@settings(max_examples=200)
@given(
    source, source, st.lists(source, max_size=4), st.integers(64, 500), st.sampled_from([None, "a.py", "deep/" * 99])
)
def test_a_prompt_never_exceeds_its_limit_and_holds_each_sentinel_once(
    prefix: str, suffix: str, texts: list[str], limit: int, path: str | None
) -> None:
    prompt = builder(limit).build(prefix=prefix, suffix=suffix, path=path, snippets=[snippet(t) for t in texts])
    assert len(prompt.ids) <= limit
    sentinels = [i for i in prompt.ids if i >= 256 and TOKENIZER.controls[i - 256].startswith("<|fim")]
    assert len(sentinels) == 3


def test_typing_only_changes_the_end() -> None:
    lines = "".join(f"line_{i} = {i}\n" for i in range(200))
    before = builder().build(prefix=lines + "x = fo", suffix="\nrest\n", path="a.py")
    after = builder().build(prefix=lines + "x = foo", suffix="\nrest\n", path="a.py")
    assert after.ids[:-1] == before.ids


def test_the_window_moves_rarely_while_lines_are_added() -> None:
    """Sixteen new lines move the start of the window at most twice, so the cache is lost at most twice."""
    text = "".join(f"line_{i} = {i}\n" for i in range(200))
    prompts = [builder().build(prefix=text + "new = 1\n" * n, suffix="\n", path="a.py") for n in range(17)]
    moved = sum(shared(a, b) < len(a.ids) for a, b in pairwise(prompts))
    assert moved <= 2


@given(st.integers(1, 120), st.integers(5, 60), st.integers(80, 500))
def test_a_window_shows_at_least_a_third_of_what_would_fit(num_lines: int, width: int, limit: int) -> None:
    """An anchor that left one line, or none, was chosen once where few lines fitted."""
    text = ("x" * (width - 1) + "\n") * num_lines
    prompt = builder(limit).build(prefix=text, suffix="", path=None)
    shown = len(prompt.ids) - len(HOMESPUN.layout) + 2
    assert shown >= min(len(text), (limit - len(HOMESPUN.layout)) // 3 - width)


def test_the_cursor_line_survives_even_when_it_is_too_long() -> None:
    prompt = builder(100).build(prefix="y" * 5_000 + "END", suffix="z" * 5_000, path=None)
    assert TOKENIZER.spell(prompt.ids).endswith("yEND")


def test_a_suffix_is_cut_at_a_line_end() -> None:
    prompt = builder(200).build(prefix="x = ", suffix="\n" + "a = 1\n" * 100, path=None)
    spelled = TOKENIZER.spell(prompt.ids)
    suffix = spelled.split("<|fim_suffix|>")[1].split("<|fim_middle|>")[0]
    assert suffix.endswith("a = 1\n") and len(suffix) > 20


def test_snippets_that_do_not_fit_are_skipped_not_the_ones_after_them() -> None:
    chosen = [snippet("first = 1", "1.py"), snippet("huge\n" * 200, "2.py"), snippet("third = 3", "3.py")]
    limits = PromptLimits(max_tokens=150, max_snippet_tokens=1_000)
    prompt = PromptBuilder(tokenizer=TOKENIZER, format=FORMAT, limits=limits).build(
        prefix="x", suffix="", path="a.py", snippets=chosen
    )
    assert [s.path for s in prompt.snippets] == ["3.py", "1.py"]


def test_a_long_snippet_keeps_its_first_lines() -> None:
    prompt = builder(max_snippet_tokens=30).build(
        prefix="x", suffix="", path="a.py", snippets=[snippet("abcdefghi\n" * 50)]
    )
    assert TOKENIZER.spell(prompt.ids).count("abcdefghi\n") == 3


def healed(prefix: str, limit: int = 400) -> Prompt:
    return replace(builder(limit), is_healing=True).build(prefix=prefix, suffix="\n", path=None)


def test_the_word_before_the_cursor_is_left_to_the_completion() -> None:
    """With one token a byte, as here, the tokens of a word are its bytes."""
    assert healed("x = order.tot").opening == "tot"
    assert healed("x = größe").opening == "größe"
    assert healed("x = ").opening == " " and healed("x = f(").opening == "("
    assert healed("x = é").opening == "é"  # whole characters


def test_a_line_break_before_the_cursor_stays_in_the_prompt() -> None:
    for prefix in ("", "x = 1\n", "x = 1\r\n"):
        assert healed(prefix).opening == ""


@given(st.text(max_size=60), st.integers(80, 500))
def test_prompt_and_opening_are_the_prompt_without_healing(prefix: str, limit: int) -> None:
    plain = builder(limit).build(prefix=prefix, suffix="\n", path=None)
    prompt = healed(prefix, limit)
    assert [*prompt.ids, *TOKENIZER.encode(prompt.opening)] == list(plain.ids)
    assert prompt.num_opening == len(plain.ids) - len(prompt.ids)


def test_data_before_the_cursor_is_not_spelled_again() -> None:
    assert healed("x = " + "a" * 65).opening == "" and healed("x = " + "a" * 64).opening == "a" * 64


@pytest.mark.parametrize(
    ("wanted", "is_measured", "is_healed"),
    [("auto", True, True), ("auto", False, False), ("on", False, True), ("off", True, False)],
)
def test_families_that_were_not_measured_are_healed_where_it_is_wanted(
    wanted: str, is_measured: bool, is_healed: bool
) -> None:
    assert heals(wanted, replace(HOMESPUN, is_healed=is_measured), TOKENIZER) is is_healed


class Pieces(ByteTokenizer):
    """As SentencePiece's: tokens that aren't bytes."""

    @property
    def spelled(self) -> Sequence[bytes | None]:
        return ()


def test_where_a_word_cannot_be_spelled_again_it_is_left_alone_or_said() -> None:
    for tokenizer, can_constrain, reason in (
        (Pieces(HOMESPUN.control_tokens), True, "this base model's tokens aren't made of bytes"),
        (TOKENIZER, False, "vLLM can't be kept to a word"),
    ):
        assert not heals("auto", HOMESPUN, tokenizer, can_constrain=can_constrain)
        with pytest.raises(ConfigError, match=f"token_healing: 'on', but {reason}; set it to auto or off"):
            heals("on", HOMESPUN, tokenizer, can_constrain=can_constrain)

"""The fast way gives the ids of the slow one, and knows when it can't."""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from homespun_indexer import pretokens
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.pretokens import WordEncoder
from homespun_indexer.tokenizer import GuardedTokenizer, load_tokenizer

MODEL = resolve_base_model("builtin", "auto")
BUILTIN = load_tokenizer(MODEL)
CONTROLS = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>"]
CODE = st.lists(
    st.one_of(
        st.sampled_from(keyword.kwlist),
        st.sampled_from("\"' \n\t\r\x0b\x0c\x00\x1c\x1d\x1e\x1f\x7f\xa0\u2028éİ=#/\\{}()[];:~.,_x19"),
        st.sampled_from(["  ", "    ", "        ", "\n\n", "\r\n", "'s", "'LL", "3.4e-5", "__name__", "->", "=="]),
    ),
    max_size=25,
).map("".join)
ASCII = st.text(st.characters(max_codepoint=127), max_size=60)
GUARDED = st.lists(st.one_of(st.sampled_from([*CONTROLS, "<|fim_", "|>", "<"]), ASCII), max_size=6).map("".join)


def agree(tokenizer: GuardedTokenizer, texts: Sequence[str]) -> None:
    expected = tokenizer.encode_many(texts)
    assert [ids.tolist() for ids in tokenizer.encode_arrays(texts)] == expected
    assert [tokenizer.encode(text) for text in texts] == expected


def is_fast(tokenizer: GuardedTokenizer) -> bool:
    return tokenizer._words is not None


def test_the_built_in_tokenizer_goes_the_fast_way() -> None:
    assert is_fast(BUILTIN)


@settings(max_examples=400)
@given(st.lists(st.one_of(ASCII, CODE, GUARDED), max_size=4))
def test_any_text_has_the_same_ids(texts: list[str]) -> None:
    agree(BUILTIN, texts)


@pytest.mark.parametrize("character", [*map(chr, range(128)), "é", "\u2028"])
def test_every_character_has_the_same_ids_wherever_it_stands(character: str) -> None:
    around = ["{}", "{}{}", "a{}", "{}a", "a{}b", " {}", "{} ", "  {}  ", "\n{}", "{}\n", "1{}2", "'{}", "{}'s", ".{}."]
    agree(BUILTIN, [place.format(character, character) for place in around])


def test_the_files_of_this_project_have_the_same_ids() -> None:
    agree(BUILTIN, [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("test_*.py"))])


@given(GUARDED)
def test_text_never_becomes_a_control_token(text: str) -> None:
    (ids,) = BUILTIN.encode_arrays([text])
    assert {BUILTIN.control_id(token) for token in CONTROLS}.isdisjoint(ids.tolist())
    assert BUILTIN.decode(ids.tolist()) == text


def test_no_texts_and_empty_texts_are_encoded_too() -> None:
    assert BUILTIN.encode_arrays([]) == []
    assert [ids.tolist() for ids in BUILTIN.encode_arrays(["", "a", ""])] == [[], BUILTIN.encode("a"), []]


CORPUS = ["def total(self):\n    return sum(x for x in self.items)\n", "HTTPServer isn't 12345", "a  b\n\n\tc"] * 20
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def trained(pre_tokenizer: Any, *, normalizer: Any = None, added: Iterable[AddedToken] = ()) -> dict[str, Any]:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        inner.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    inner.add_tokens(list(added))
    inner.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    spec: dict[str, Any] = json.loads(inner.to_str())
    return spec


def split(pattern: str, *, behavior: str = "isolated", prefix: bool = False) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior),
            pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
        ]
    )


def metaspace() -> dict[str, Any]:
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    inner.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    spec: dict[str, Any] = json.loads(inner.to_str())
    return spec


SPECS: dict[str, tuple[dict[str, Any], bool]] = {
    "Qwen's": (trained(split(QWEN)), True),
    "Qwen's, normalising": (trained(split(QWEN), normalizer=normalizers.NFC()), True),
    "with a property that we don't know": (trained(split(r"\p{Lu}+|\p{L}+|\s+|[^\s\p{L}]+")), False),
    "with a group": (trained(split(r"(a|b)+|\s+|[^\s]+")), False),
    "that merges with the next": (trained(split(r"\s+", behavior="merged_with_next")), False),
    "GPT-2's": (trained(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)), False),
    "lower case": (trained(split(QWEN), normalizer=normalizers.Lowercase()), False),
    "with blanks as added tokens": (trained(split(QWEN), added=[AddedToken("    ", special=False)]), False),
    "whose words don't cover the text": (trained(split(r"\p{L}+")), False),
    "SentencePiece's": (metaspace(), False),
}


@pytest.mark.parametrize("name", SPECS)
def test_tokenizers_of_other_makes_agree_and_go_the_slow_way_where_they_must(name: str) -> None:
    spec, expected = SPECS[name]
    tokenizer = GuardedTokenizer(json.dumps(spec))
    assert is_fast(tokenizer) == expected

    @settings(max_examples=60)
    @given(st.lists(st.one_of(ASCII, CODE), max_size=3))
    def holds(texts: list[str]) -> None:
        agree(tokenizer, texts)

    holds()


def test_dropout_is_left_to_the_library() -> None:
    spec = trained(split(QWEN))
    spec["model"]["dropout"] = 0.5
    assert WordEncoder.for_tokenizer(spec, lambda words: [[1]] * len(words)) is None


def test_an_encoder_that_differs_on_a_sample_is_not_used() -> None:
    """The library may cut otherwise than we read the expression."""
    spec = trained(split(QWEN))
    assert WordEncoder.for_tokenizer(spec, lambda words: [[len(word)] for word in words]) is None


class Counted:
    """Words as their bytes, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str]) -> list[list[int]]:
        self.asked += words
        return [list(word.encode()) for word in words]


def encoder(counted: Counted) -> WordEncoder:
    made = WordEncoder.for_tokenizer(trained(split(QWEN)), counted)
    assert made is not None
    counted.asked.clear()
    return made


def test_each_word_is_encoded_once() -> None:
    counted = Counted()
    words = encoder(counted)
    texts = ["zebra zebra\n", "yak zebra", ""]
    for _ in range(2):
        assert [ids.tolist() for ids in words.encode(texts)] == [list(text.encode()) for text in texts]
    assert sorted(counted.asked) == [" zebra", "yak", "zebra"]
    counted.asked.clear()
    for _ in range(2):
        assert [list(words.encode_one(text)) for text in texts] == [list(text.encode()) for text in texts]
    assert sorted(counted.asked) == ["\n", " zebra", "yak", "zebra"]


def test_too_many_words_are_forgotten_and_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokens, "_MAX_WORDS", 10)
    counted = Counted()
    words = encoder(counted)
    for i in range(60):
        text = f"zebra{chr(97 + i % 26)} yak{chr(97 + i % 7)} " * 2 + "gnu"
        assert [ids.tolist() for ids in words.encode([text, ""])] == [list(text.encode()), []]
        assert list(words.encode_one(text)) == list(text.encode())
        assert len(words._numbers) <= 10 and len(words._known) <= 10 + 5
    many = " ".join(f"w{chr(97 + i)}" for i in range(26))
    assert words.encode([many])[0].tolist() == list(many.encode())

"""Text never becomes control tokens, and comes back as it was."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_indexer.tokenizer import GuardedTokenizer, load_tokenizer

CORPUS = ["def total(self):\n    return sum(x for x in self.items)\n", "<|fim_prefix|> is | text <", "a  b\n\n\tc"] * 20


def qwen_like() -> GuardedTokenizer:
    """FIM tokens flagged special=false, as in Qwen2.5-Coder, and runs of blanks as added tokens, as in Gemma."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    plain = [AddedToken(t, special=False) for t in ("<|fim_prefix|>", "<|fim_suffix|>", "[SUFFIX]", "<tool_call>")]
    inner.add_tokens(plain)
    inner.add_tokens([AddedToken("\n\n\n", special=False), AddedToken("        ", special=False)])
    inner.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return GuardedTokenizer(inner.to_str())


def llama_like() -> GuardedTokenizer:
    """SentencePiece's way: a space in front of every text, control tokens that are spelled with one."""
    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    special = ["<unk>", "<s>", "</s>", *bytes_]
    inner.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    spec = json.loads(inner.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    inner = Tokenizer.from_str(json.dumps(spec))
    inner.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("▁<PRE>", "▁<SUF>", "▁<MID>")])
    return GuardedTokenizer(inner.to_str())


QWEN, LLAMA = qwen_like(), llama_like()
BUILTIN = load_tokenizer(
    __import__("homespun_indexer.model_files", fromlist=["x"]).resolve_base_model("builtin", "auto")
)
ALL = {"builtin": BUILTIN, "qwen": QWEN, "llama": LLAMA}
CONTROLS = {
    "builtin": ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>", "<|file_sep|>"],
    "qwen": ["<|fim_prefix|>", "<|fim_suffix|>", "[SUFFIX]", "<tool_call>", "<|endoftext|>"],
    "llama": ["<s>", "</s>", "▁<PRE>", "▁<SUF>", "▁<MID>"],
}


def texts(name: str) -> st.SearchStrategy[str]:
    """Text mixed with control tokens, parts of them and overlaps."""
    controls = CONTROLS[name]
    parts = [part for c in controls for part in (c, c[:-1], c[1:], c.replace("▁", " "), c.lstrip("▁"))]
    piece = st.one_of(
        st.sampled_from(parts), st.text(max_size=8), st.sampled_from([" ", "\n", "    ", "\n\n\n", "<", "|>"])
    )
    return st.lists(piece, max_size=8).map("".join)


@pytest.mark.parametrize("name", ALL)
def test_no_text_becomes_a_control_token_and_all_of_it_comes_back(name: str) -> None:
    tokenizer = ALL[name]
    control = {tokenizer.control_id(c) for c in CONTROLS[name]}
    assert None not in control

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(texts(name))
    def holds(text: str) -> None:
        ids = tokenizer.encode(text)
        assert control.isdisjoint(ids)
        back = tokenizer.decode(ids)
        # The built-in tokenizer normalises to NFC; a cut inside a control token can't change that, marks don't follow
        # "<".
        expected = unicodedata.normalize("NFC", text) if name == "builtin" else text
        assert back == expected.replace("▁", " ") if name == "llama" else back == expected

    holds()


@pytest.mark.parametrize("name", ALL)
def test_encode_many_is_encode_of_each(name: str) -> None:
    batch = ["def f():\n    return 1\n", f"x = '{CONTROLS[name][0]}'", "", "   "]
    assert ALL[name].encode_many(batch) == [ALL[name].encode(text) for text in batch]


def test_overlapping_control_tokens_are_all_guarded() -> None:
    text = "<|fim_<|fim_prefix|>prefix|><|fim_prefix|><|fim_suffix|>"
    assert QWEN.decode(QWEN.encode(text)) == text
    assert QWEN.control_id("<|fim_prefix|>") not in QWEN.encode(text)


def test_runs_of_blanks_that_are_added_tokens_still_work() -> None:
    run = QWEN.encode("        ")
    assert len(run) == 1
    assert QWEN.control_id("        ") is None
    assert QWEN.decode(run) == "        "


def test_no_space_is_added_in_front_of_a_text() -> None:
    assert LLAMA.decode(LLAMA.encode("total") + LLAMA.encode(" = 1")) == "total = 1"
    assert LLAMA.decode(LLAMA.encode("a") + LLAMA.encode("b")) == "ab"


def test_control_tokens_are_found_by_their_own_spelling() -> None:
    assert LLAMA.control_id("▁<PRE>") is not None
    assert LLAMA.control_id("<PRE>") is None
    assert BUILTIN.control_id("<|fim_middle|>") == 2
    assert BUILTIN.control_id("def") is None


def test_decoding_drops_control_tokens_only() -> None:
    ids = [1, *BUILTIN.encode("x = 1"), 0]
    assert BUILTIN.decode(ids) == "x = 1"


def test_digest_differs_between_tokenizers() -> None:
    assert len({t.digest for t in ALL.values()}) == 3


def test_a_model_without_tokenizer_json_is_refused(model: ModelFiles, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(dataclasses.replace(model, path=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="not a usable tokenizer"):
        load_tokenizer(dataclasses.replace(model, path=str(tmp_path)))

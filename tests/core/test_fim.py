"""Formats as each family's own documentation spells them, letter for letter."""

import pytest

from homespun_core.errors import ModelError
from homespun_core.fim import FAMILIES, FimFamily, line_ends, resolve_family
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import Snippet
from tests.fakes import ByteTokenizer

SPELLED = {
    "homespun": "<|file_sep|>a.py\n<|fim_prefix|><|fim_suffix|>S<|fim_middle|>P",
    "homespun-psm": "<|file_sep|>a.py\n<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "qwen2.5-coder": "<|file_sep|>a.py\n<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "codegemma": "<bos><|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "mellum": "<filename>a.py\n<fim_suffix>S<fim_prefix>P<fim_middle>",
    "starcoder2": "<file_sep>a.py\n<fim_prefix>P<fim_suffix>S<fim_middle>",
    "granite": "<fim_prefix>P<fim_suffix>S<fim_middle>",
    "granite-4": "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>",
    "deepseek-coder": "<｜begin▁of▁sentence｜><｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>",
    "codellama": "<s>▁<PRE>P▁<SUF>S▁<MID>",
    "codestral": "<s>[SUFFIX]S[PREFIX]P",
}


def builder(family: FimFamily) -> tuple[PromptBuilder, ByteTokenizer]:
    tokenizer = ByteTokenizer(family.control_tokens)
    resolved = resolve_family(tokenizer, {}, forced=family.name)
    return PromptBuilder(tokenizer=tokenizer, format=resolved, limits=PromptLimits(max_tokens=1000)), tokenizer


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_each_family_is_spelled_as_it_was_trained(family: FimFamily) -> None:
    prompts, tokenizer = builder(family)
    prompt = prompts.build(prefix="P", suffix="S", path="a.py", language="python")
    assert tokenizer.spell(prompt.ids) == SPELLED[family.name]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_snippets_stand_before_the_file_in_each_family(family: FimFamily) -> None:
    prompts, tokenizer = builder(family)
    snippet = Snippet(path="b.py", start_line=1, text="x = 1", score=1.0, source="usage")
    prompt = prompts.build(prefix="P", suffix="S", path="a.py", language="python", repo="app", snippets=[snippet])
    spelled = tokenizer.spell(prompt.ids)
    if family.repo and family.file:
        assert f"{family.repo}app\n{family.file}b.py\nx = 1\n{family.file}a.py\n" in spelled
    else:
        assert "# Path: b.py\n# x = 1\nP" in spelled


def test_detection_goes_by_tokens_and_model_type() -> None:
    for family, model_type in [("homespun", "llama"), ("qwen2.5-coder", "qwen2"), ("starcoder2", "starcoder2")]:
        tokens = next(f.control_tokens for f in FAMILIES if f.name == family)
        assert resolve_family(ByteTokenizer(tokens), {"model_type": model_type}).family.name == family


def test_families_with_one_tokenizer_are_told_apart_by_name() -> None:
    tokenizer = ByteTokenizer(
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>", "<reponame>", "<filename>")
    )
    llama = {"model_type": "llama"}
    assert resolve_family(tokenizer, llama, name="JetBrains/Mellum-4b-base").family.name == "mellum"
    assert resolve_family(tokenizer, llama, name="ibm-granite/granite-3b-code-base").family.name == "granite"


def test_a_tokenizer_without_fim_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="no fill-in-the-middle tokens found for a model of type 'llama'"):
        resolve_family(ByteTokenizer(("<|endoftext|>",)), {"model_type": "llama"})


def test_a_forced_family_must_be_known_and_must_fit() -> None:
    with pytest.raises(ModelError, match="the base model's tokenizer lacks <fim_middle>"):
        resolve_family(ByteTokenizer(("<|endoftext|>",)), {}, forced="granite")
    with pytest.raises(ModelError, match="'bard' is unknown; the families are homespun"):
        resolve_family(ByteTokenizer(()), {}, forced="bard")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_every_control_token_ends_a_middle(family: FimFamily) -> None:
    tokenizer = ByteTokenizer(family.control_tokens)
    resolved = resolve_family(tokenizer, {}, forced=family.name)
    assert set(resolved.end_ids) == {256 + i for i in range(len(family.control_tokens))}
    assert resolved.end_id == resolved.ids[family.end[0]]


def test_tokens_that_start_a_line_end_a_completion_and_others_do_not() -> None:
    _, tokenizer = builder(FAMILIES[0])
    format = resolve_family(tokenizer, {}, forced=FAMILIES[0].name)
    found = line_ends(format, tokenizer, 256)
    assert ord("\n") in found and ord(":") not in found and found.issuperset(format.end_ids)

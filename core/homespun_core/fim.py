"""Fill-in-the-middle formats as data: which control tokens a model family knows, and in which order it saw the pieces.

A checkpoint gets exactly the order it was trained on. Control tokens are looked up in the checkpoint's own tokenizer
and must be there; a family is never assumed from a name alone.

Sources of the table: each family's model card or reference prompt code (Qwen2.5-Coder, StarCoder2, DeepSeek-Coder,
CodeLlama, mistral-common for Codestral, CodeGemma, Granite code models, Mellum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homespun_core.errors import ModelError
from homespun_core.types import Tokenizer

PREFIX = "{prefix}"
SUFFIX = "{suffix}"
"""Slots of a layout; everything else in a layout is a control token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FimFamily:
    name: str
    layout: tuple[str, ...]
    """Control tokens and the two slots, in order; generation starts after the last piece."""
    end: tuple[str, ...]
    """Tokens that end a middle. The first is the one training puts there."""
    bos: str | None = None
    repo: str | None = None
    file: str | None = None
    """Tokens of the repository format (`repo` NAME, then `file` PATH, text ...); None: snippets go in as comments."""
    model_types: tuple[str, ...] = ()
    """`model_type` values of config.json; empty matches any. Families that share their tokens are told apart by it."""
    is_healed: bool = False
    """Whether completions are better when they spell the last word before the cursor again, in tokens of their own.
    Measured (benchmarks/LOG.md); unknown means no. `token_healing` overrides it."""
    name_hint: str | None = None
    """Must be part of the model's name, where even tokens and type are shared (Mellum and Granite have one
    tokenizer).
    """

    @property
    def is_suffix_first(self) -> bool:
        return self.layout.index(SUFFIX) < self.layout.index(PREFIX)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        pieces = [t for t in self.layout if t not in (PREFIX, SUFFIX)]
        return tuple(dict.fromkeys([*pieces, *self.end, *(t for t in (self.bos, self.repo, self.file) if t)]))


_QWEN_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

FAMILIES: tuple[FimFamily, ...] = (
    FimFamily(
        name="homespun",
        layout=("<|fim_prefix|>", "<|fim_suffix|>", SUFFIX, "<|fim_middle|>", PREFIX),  # contiguous SPM
        end=("<|endoftext|>",),
        repo="<|repo_name|>",
        file="<|file_sep|>",
        model_types=("llama",),
        is_healed=True,
    ),
    FimFamily(
        name="homespun-psm",  # the same checkpoint knows this order too
        layout=("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),
        end=("<|endoftext|>",),
        repo="<|repo_name|>",
        file="<|file_sep|>",
        model_types=("llama",),
        is_healed=True,
    ),
    FimFamily(
        name="qwen2.5-coder",
        layout=("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),
        end=("<|endoftext|>",),
        repo="<|repo_name|>",
        file="<|file_sep|>",
        model_types=("qwen2", "qwen3"),
    ),
    FimFamily(
        name="codegemma",
        layout=("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),
        end=("<|file_separator|>", "<eos>"),
        bos="<bos>",
        model_types=("gemma", "gemma2"),
    ),
    FimFamily(
        name="mellum",
        layout=("<fim_suffix>", SUFFIX, "<fim_prefix>", PREFIX, "<fim_middle>"),
        end=("<|endoftext|>",),
        repo="<reponame>",
        file="<filename>",
        model_types=("llama",),
        name_hint="mellum",
    ),
    FimFamily(
        name="starcoder2",
        layout=("<fim_prefix>", PREFIX, "<fim_suffix>", SUFFIX, "<fim_middle>"),
        end=("<|endoftext|>",),
        repo="<repo_name>",
        file="<file_sep>",
        model_types=("starcoder2",),
    ),
    FimFamily(
        name="granite",
        layout=("<fim_prefix>", PREFIX, "<fim_suffix>", SUFFIX, "<fim_middle>"),
        end=("<|endoftext|>",),
        model_types=("llama", "granite", "gpt_bigcode"),
    ),
    FimFamily(
        name="granite-4",
        layout=("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),
        end=("<|end_of_text|>",),
        model_types=("granite", "granitemoe", "granitemoehybrid"),
    ),
    FimFamily(
        name="deepseek-coder",
        layout=("<｜fim▁begin｜>", PREFIX, "<｜fim▁hole｜>", SUFFIX, "<｜fim▁end｜>"),
        end=("<｜end▁of▁sentence｜>",),
        bos="<｜begin▁of▁sentence｜>",
        model_types=("llama", "deepseek_v2"),
    ),
    FimFamily(
        name="codellama",
        layout=("▁<PRE>", PREFIX, "▁<SUF>", SUFFIX, "▁<MID>"),
        end=("▁<EOT>", "</s>"),
        bos="<s>",
        model_types=("llama",),
    ),
    FimFamily(
        name="codestral",
        layout=("[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX),
        end=("</s>",),
        bos="<s>",
        model_types=("mistral", "mistral3", "mamba2"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FimFormat:
    """A family resolved against one tokenizer."""

    family: FimFamily
    ids: Mapping[str, int]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids that end a middle: the family's own ends, and any control token (nothing sensible follows one)."""
        ends = [self.ids[token] for token in self.family.end if token in self.ids]
        return tuple(dict.fromkeys([*ends, *(self.ids[t] for t in self.family.control_tokens if t in self.ids)]))

    @property
    def end_id(self) -> int:
        """The id that training puts at the end of a middle."""
        return self.ids[self.family.end[0]]


def resolve_family(
    tokenizer: Tokenizer, config: Mapping[str, object], *, name: str = "", forced: str | None = None
) -> FimFormat:
    """The family this checkpoint was trained for, with its ids. `name` is the model's name, for families that need it.

    Raises ModelError when no family (or not the forced one) has all its control tokens in the tokenizer.
    """
    model_type = str(config.get("model_type", ""))
    candidates: Sequence[FimFamily] = FAMILIES
    if forced is not None:
        candidates = [f for f in FAMILIES if f.name == forced]
        if not candidates:
            raise ModelError(
                f"fim_family: {forced!r} is unknown; the families are {', '.join(f.name for f in FAMILIES)}"
            )
    for family in candidates:
        if forced is None and not _may_be(family, model_type, name):
            continue
        ids = {t: i for t in family.control_tokens if (i := tokenizer.control_id(t)) is not None}
        if _required(family) <= ids.keys():
            return FimFormat(family=family, ids=ids)
    if forced is not None:
        raise ModelError(f"fim_family: the base model's tokenizer lacks {', '.join(sorted(_required(candidates[0])))}")
    raise ModelError(
        f"base_model: no fill-in-the-middle tokens found for a model of type {model_type!r};"
        " choose a FIM-trained code model, or name its format with fim_family"
    )


def _may_be(family: FimFamily, model_type: str, name: str) -> bool:
    if family.model_types and model_type not in family.model_types:
        return False
    return family.name_hint is None or family.name_hint in name.lower()


def _required(family: FimFamily) -> set[str]:
    return set(family.control_tokens) - set(family.end[1:])


def line_ends(format: FimFormat, tokenizer: Tokenizer, vocab_size: int) -> frozenset[int]:
    """Tokens that end a middle or its first line. Those with code in front of the line break aren't among them: the
    code counts."""
    starts_line = (i for i in range(vocab_size) if tokenizer.decode([i]).lstrip(" \t\r").startswith("\n"))
    return frozenset(format.end_ids).union(starts_line)

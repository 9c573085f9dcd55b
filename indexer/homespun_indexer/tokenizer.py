"""A checkpoint's tokenizer, made safe for text that isn't ours.

Source code may hold the text of a control token ("<|fim_middle|>"). As an id it would let a file forge the structure of
a prompt, so `encode` never returns one. The tokenizers library can't be trusted with that: `encode_special_tokens`
skips tokens flagged special only, and Qwen2.5-Coder flags its FIM tokens special=false.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from homespun_core.errors import ModelError
from homespun_core.types import ModelFiles
from homespun_indexer.pretokens import WordEncoder


def _byte_alphabet() -> dict[str, int]:
    """How byte-level vocabularies write bytes: printable Latin-1 as itself, the others as characters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_alphabet()
_MAX_RECENT = 256
"""Pieces of prompts: snippets, suffixes, the windows that are tried for a prefix. A few kilobytes each."""
# What control tokens look like in the families we know: <...>, [...], <｜...｜>, SentencePiece's ▁<...>. Other added
# tokens are runs of text (Gemma's spaces and newlines) that must go on working.
_CONTROL_LOOK = re.compile(r"▁?(<[^\s<>]+>|\[[^\s\[\]]+\])", re.DOTALL)


class GuardedTokenizer:
    """`tokenizer_json` as a Tokenizer whose `encode` never returns the id of a control token.

    Text is encoded as it stands: the space that SentencePiece tokenizers put in front of a text, and take away again
    when decoding, is switched off, since our texts are pieces of files that are joined later.
    """

    def __init__(self, tokenizer_json: str) -> None:
        spec = json.loads(tokenizer_json)
        self._digest = hashlib.sha256(tokenizer_json.encode()).hexdigest()
        self._control = {t["content"]: int(t["id"]) for t in spec.get("added_tokens", []) if _is_control(t)}
        self._guarded = frozenset(self._control.values())
        self._occurrence = _occurrence_pattern(self._control)
        self._inner = tokenizers.Tokenizer.from_str(json.dumps(_without_dummy_space(spec)))
        self._inner.no_truncation()
        self._inner.no_padding()
        self._is_byte_level = (spec.get("decoder") or {}).get("type") == "ByteLevel" and all(
            map(_is_control, spec.get("added_tokens", []))
        )
        self._words = self._word_encoder(spec)
        self._recently = lru_cache(_MAX_RECENT)(self._encode)

    @property
    def digest(self) -> str:
        return self._digest

    @cached_property
    def spelled(self) -> Sequence[bytes | None]:
        if not self._is_byte_level:
            return ()
        names = ((self._inner.id_to_token(i) or "") for i in range(self._inner.get_vocab_size()))
        return tuple(
            None if i in self._guarded else bytes(BYTES.get(char, 63) for char in name) for i, name in enumerate(names)
        )

    def control_id(self, token: str) -> int | None:
        return self._control.get(token)

    def encode(self, text: str) -> list[int]:
        """Quick for text that was encoded lately: a keystroke changes one piece of a prompt, and leaves the others."""
        return list(self._recently(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._words is not None and self._is_plain(text):
            return self._words.encode_one(text)
        return tuple(self._checked(text, self._plain(text)))

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text by itself, on all cores."""
        encodings = self._inner.encode_batch(list(texts), add_special_tokens=False)
        return [self._checked(text, encoding.ids) for text, encoding in zip(texts, encodings, strict=True)]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """As `encode_many`, faster on code."""
        plain = [i for i, text in enumerate(texts) if self._words is not None and self._is_plain(text)]
        rest = sorted(set(range(len(texts))).difference(plain))
        found: dict[int, NDArray[np.int32]] = {}
        if self._words is not None:
            found.update(zip(plain, self._words.encode([texts[i] for i in plain]), strict=True))
        encoded = self.encode_many([texts[i] for i in rest])
        found.update((i, np.asarray(ids, np.int32)) for i, ids in zip(rest, encoded, strict=True))
        return [found[i] for i in range(len(texts))]

    def _word_encoder(self, spec: dict[str, Any]) -> WordEncoder | None:
        if not all(map(_is_control, spec.get("added_tokens", []))):
            return None  # those that aren't control tokens are meant to be found in text
        return WordEncoder.for_tokenizer(spec, self._encode_words)

    def _encode_words(self, words: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._inner.encode_batch_fast(list(words), add_special_tokens=False)]

    def _is_plain(self, text: str) -> bool:
        return text.isascii() and not any(token in text for token in self._control)

    def _checked(self, text: str, ids: list[int]) -> list[int]:
        """`ids` when no control token is among them (nearly always), else `text` encoded in pieces that hold none."""
        if self._guarded.isdisjoint(ids):
            return ids
        ids = [i for piece in self._cut(text) for i in self._piece(piece)]
        assert self._guarded.isdisjoint(ids)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._inner.decode([i for i in ids if i not in self._guarded], skip_special_tokens=False))

    def _plain(self, text: str) -> list[int]:
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def _cut(self, text: str) -> Iterator[str]:
        """`text` in pieces, cut inside every occurrence of a control token's text, overlapping ones too."""
        start = 0
        for match in self._occurrence.finditer(text):
            yield text[start : match.start() + 1]
            start = match.start() + 1
        yield text[start:]

    def _piece(self, piece: str) -> list[int]:
        """Character by character where a normaliser makes a control token of other text (full-width brackets, say)."""
        ids = self._plain(piece)
        if self._guarded.isdisjoint(ids):
            return ids
        return [i for char in piece for i in self._plain(char) if i not in self._guarded]


def load_tokenizer(model: ModelFiles) -> GuardedTokenizer:
    """The model's tokenizer, from its tokenizer.json. Raises ModelError when that is missing or unreadable."""
    path = Path(model.path) / "tokenizer.json"
    try:
        return GuardedTokenizer(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"base_model: {model.path} has no tokenizer.json; save the model with a fast tokenizer"
        ) from None
    except Exception as error:  # the library raises nothing narrower for a file it can't use
        raise ModelError(f"base_model: {path} is not a usable tokenizer ({error})") from error


def _is_control(token: dict[str, Any]) -> bool:
    return bool(token.get("special")) or _CONTROL_LOOK.fullmatch(token["content"]) is not None


def _occurrence_pattern(control: dict[str, int]) -> re.Pattern[str]:
    """Where the text of a control token starts. SentencePiece's ▁ is a space in the text before normalisation."""
    spellings = {s for content in control for s in (content, content.replace("▁", " "), content.lstrip("▁"))} - {""}
    return re.compile(f"(?=(?:{'|'.join(sorted(map(re.escape, spellings)))}))" if spellings else r"(?!)")


def _without_dummy_space(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's description without what adds a space in front of a text, or strips one when decoding."""
    steps = {key: _kept(spec[key]) for key in ("normalizer", "pre_tokenizer", "decoder") if spec.get(key)}
    return {**spec, **steps}


def _kept(step: dict[str, Any]) -> dict[str, Any] | None:
    """One step, or a sequence of them, with dummy spaces off; None when nothing of it is left."""
    kind = step["type"]
    if kind == "Sequence":
        key = next(k for k in ("normalizers", "pretokenizers", "decoders") if k in step)
        return {**step, key: [kept for s in step[key] if (kept := _kept(s)) is not None]}
    if kind == "Prepend" or (kind == "Strip" and "content" in step):
        return None
    if kind == "Metaspace":
        return {**{k: v for k, v in step.items() if k != "add_prefix_space"}, "prepend_scheme": "never"}
    return {**step, "add_prefix_space": False} if kind == "ByteLevel" else step

"""A completion in parts: what of it is told already. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homespun_core.types import Part, ScoredToken


@dataclass(slots=True)
class Telling:
    """Of text that only grows, and so do its tokens."""

    num_characters: int = 0
    num_tokens: int = 0

    def next(self, text: str, tokens: Sequence[ScoredToken] | None) -> Part | None:
        """What is new; with tokens, as far as they are the text."""
        if tokens is not None:
            text = text[: sum(len(token.text) for token in tokens)]
        return self.rest(text, tokens or ())

    def rest(self, text: str, tokens: Sequence[ScoredToken]) -> Part | None:
        """All that is new. A text that no model wrote has no tokens."""
        if len(text) <= self.num_characters:
            return None
        part = Part(
            text=text[self.num_characters :],
            tokens=tuple(tokens[self.num_tokens :]),
            num_characters_before=self.num_characters,
            num_tokens_before=self.num_tokens,
        )
        self.num_characters, self.num_tokens = len(text), max(self.num_tokens, len(tokens))
        return part

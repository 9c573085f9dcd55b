"""From a place in a file to the token ids a model completes. Pure: training, evaluation, benchmarks and the server
call this.

Order inside the prompt is stable before volatile, so that a keystroke changes only its end and the KV cache of
everything before it stays good: repository header and snippets, file header, suffix, prefix (for families trained
with the suffix first).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from homespun_core.errors import ConfigError
from homespun_core.fim import PREFIX, SUFFIX, FimFamily, FimFormat
from homespun_core.languages import comment_prefix
from homespun_core.types import Snippet, Tokenizer

ANCHOR_LINES = 16
"""The prefix window starts at a multiple of this many lines, so that it moves rarely: a start that moved with every
new line would change the tokens after it and void their KV cache."""
_MAX_CHARS_PER_TOKEN = 8
"""Long stretches of code have fewer characters a token than this: about 3.5 in the usual vocabularies."""


_MAX_OPENING = 64
"""Bytes of a word that is spelled again; longer ones are data."""
_LAST_WORD = re.compile(r"\w*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """Token limits of one prompt. What the suffix and the snippets leave unused goes to the prefix."""

    max_tokens: int
    suffix_share: float = 0.2
    snippet_share: float = 0.4
    max_snippet_tokens: int = 260
    """One snippet at most; the built-in model was trained with snippets up to this length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    ids: tuple[int, ...]
    snippets: tuple[Snippet, ...]
    """Those that fitted, in prompt order."""
    opening: str = ""
    """The end of the prefix that isn't in `ids`: a completion begins with it."""
    num_opening: int = 0
    """Tokens it had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBuilder:
    tokenizer: Tokenizer
    format: FimFormat
    limits: PromptLimits
    is_healing: bool = False
    """Leaves the last word before the cursor to the completion; see `heals`."""

    def build(
        self,
        *,
        prefix: str,
        suffix: str,
        path: str | None = None,
        language: str | None = None,
        repo: str | None = None,
        snippets: Sequence[Snippet] = (),
    ) -> Prompt:
        """Snippets come best first and are placed best last, next to the file; those that don't fit are
        skipped, not cut off.
        """
        blocks, used = self._blocks(snippets, language)
        head = self._header(path, repo, blocks)
        comments = [] if self._knows_files else blocks
        room = max(0, self.limits.max_tokens - len(head) - len(comments) - len(self.format.family.layout))
        suffix_ids = self._suffix(suffix, int(room * self.limits.suffix_share))
        own_ids, opening, num_opening = self._healed(self._prefix(prefix, room - len(suffix_ids)), prefix)
        prefix_ids = comments + own_ids
        ids = head
        for piece in self.format.family.layout:
            if piece == PREFIX:
                ids += prefix_ids
            elif piece == SUFFIX:
                ids += suffix_ids
            else:
                ids.append(self.format.ids[piece])
        return Prompt(ids=tuple(ids), snippets=used, opening=opening, num_opening=num_opening)

    @property
    def _knows_files(self) -> bool:
        """Whether the family has tokens for repositories and files; otherwise snippets stand as comments
        above the prefix.
        """
        return self.format.family.repo is not None and self.format.family.file is not None

    def _header(self, path: str | None, repo: str | None, blocks: list[int]) -> list[int]:
        """Everything before the file's own text, exactly as in training: the repository's name only where
        snippets follow.
        """
        family = self.format.family
        ids = [self.format.ids[family.bos]] if family.bos else []
        if family.repo is None or family.file is None:
            return ids
        if blocks:
            ids += [self.format.ids[family.repo], *self.tokenizer.encode(f"{repo or 'repository'}\n"), *blocks]
        if path:
            own = [self.format.ids[family.file], *self.tokenizer.encode(f"{path}\n")]
            ids += own if len(own) <= self.limits.max_tokens // 4 else []  # a path that long is no help
        return ids

    def _blocks(self, snippets: Sequence[Snippet], language: str | None) -> tuple[list[int], tuple[Snippet, ...]]:
        """The snippets that fit, as tokens, best last; and which they are, in that order."""
        budget = int(self.limits.max_tokens * self.limits.snippet_share)
        used: list[Snippet] = []
        blocks: list[list[int]] = []
        for snippet in snippets:
            block = self._snippet(snippet, language)
            if len(block) <= budget:
                budget -= len(block)
                used.insert(0, snippet)
                blocks.insert(0, block)
        return [i for block in blocks for i in block], tuple(used)

    def _snippet(self, snippet: Snippet, language: str | None) -> list[int]:
        family = self.format.family
        text = self._cut_lines(snippet.text, self.limits.max_snippet_tokens)
        if family.file is not None and self._knows_files:
            return [self.format.ids[family.file], *self.tokenizer.encode(f"{snippet.path}\n{text}\n")]
        mark = comment_prefix(language)
        lines = [f"Path: {snippet.path}", *text.splitlines()]
        return self.tokenizer.encode("".join(f"{mark} {line}\n" for line in lines))

    def _cut_lines(self, text: str, max_tokens: int) -> str:
        """As many whole lines from the top as fit; all of `text` in the usual case."""
        while text and len(self.tokenizer.encode(text)) > max_tokens:
            lines = text.splitlines()
            text = "\n".join(lines[: min(len(lines) - 1, max(1, len(lines) * 3 // 4))])
        return text

    def _healed(self, ids: list[int], prefix: str) -> tuple[list[int], str, int]:
        """The prefix without the tokens of its last word, or without its last token where it ends in none; what they
        spell; and how many they are.

        A cursor in a word rarely stands where a token of the whole word would end, and tokens before it are then such
        as the model has hardly seen there.
        """
        known = self.tokenizer.spelled
        if not (self.is_healing and known):
            return ids, "", 0
        wanted = len(_last_word(prefix).encode())
        count, spelled = 0, b""
        while count < len(ids) and (len(spelled) < max(1, wanted) or not _is_text(spelled)):
            token = known[ids[len(ids) - count - 1]]
            if token is None:
                break
            count, spelled = count + 1, token + spelled
        is_line_break = not spelled.strip(b"\r\n")
        if wanted > _MAX_OPENING or not _is_text(spelled) or is_line_break:
            return ids, "", 0
        return ids[: len(ids) - count], spelled.decode(), count

    def _suffix(self, suffix: str, max_tokens: int) -> list[int]:
        """The first whole lines that fit; a first line that is too long alone is cut."""
        lines = suffix[: max_tokens * _MAX_CHARS_PER_TOKEN].splitlines(keepends=True)
        if len(suffix) > max_tokens * _MAX_CHARS_PER_TOKEN:
            lines = lines[:-1] or lines  # the last one is a part of a line
        fitting = bisect_right(
            range(1, len(lines) + 1), max_tokens, key=lambda n: len(self.tokenizer.encode("".join(lines[:n])))
        )
        return self.tokenizer.encode("".join(lines[: max(1, fitting)]))[:max_tokens]

    def _prefix(self, prefix: str, max_tokens: int) -> list[int]:
        """The last lines that fit, from an anchored start; anchors lie closer where few lines fit. Where not even the
        last line fits, its end."""
        text = prefix[-max_tokens * _MAX_CHARS_PER_TOKEN :] if max_tokens > 0 else ""
        lines = text.split("\n")
        is_cut = len(text) < len(prefix)
        above = prefix.count("\n", 0, len(prefix) - len(text))

        def tail(start: int) -> list[int]:
            return self.tokenizer.encode("\n".join(lines[start:]))

        def fits(start: int) -> bool:
            return len(tail(start)) <= max_tokens

        for step in (ANCHOR_LINES, ANCHOR_LINES // 4, 1):
            first = -above % step or (step if is_cut else 0)  # a line that is cut is no start
            starts = range(first, len(lines), step)
            best = bisect_left(starts, True, key=fits)
            if best < len(starts) and (starts[best] == 0 or len(lines) - starts[best] > step // 2):
                return tail(starts[best])
        return tail(0)[-max_tokens:] if max_tokens > 0 else []


def anchored(text: str, earliest: int, cursor: int) -> int:
    """Where the first line from `earliest` on begins whose number is a multiple of ANCHOR_LINES. Without one before the
    cursor the first of any number, and in one very long line `earliest`."""
    if earliest <= 0:
        return 0
    start = first = text.find("\n", earliest - 1, cursor) + 1
    if start == 0:
        return earliest
    number = text.count("\n", 0, start)
    while number % ANCHOR_LINES:
        number, start = number + 1, text.find("\n", start, cursor) + 1
        if start == 0:
            return first
    return start


def heals(wanted: str, family: FimFamily, tokenizer: Tokenizer, *, can_constrain: bool = True) -> bool:
    """What `token_healing` means for a base model. Raises ConfigError where it is on and can't be."""
    can = can_constrain and bool(tokenizer.spelled)
    if wanted == "on" and not can:
        reason = "this base model's tokens aren't made of bytes" if can_constrain else "vLLM can't be kept to a word"
        raise ConfigError(f"token_healing: 'on', but {reason}; set it to auto or off")
    return can and (family.is_healed if wanted == "auto" else wanted == "on")


def _last_word(text: str) -> str:
    match = _LAST_WORD.search(text[-_MAX_OPENING - 1 :])
    return match.group() if match else ""


def _is_text(data: bytes) -> bool:
    """Not cut inside a character."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True

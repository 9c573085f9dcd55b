"""From tokens to text as they come: what is certain to stay, when to stop. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from homespun_core.postprocess import finish
from homespun_core.types import ScoredToken
from homespun_server.engine.protocol import Token

_INCOMPLETE = "�"
"""What decoding makes of the first bytes of a character whose last ones are still to come."""


class Assembly:
    """The text of one completion while its tokens arrive."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self._decode, self._stops = decode, stops
        self.opening = ""
        """What the tokens spell first, and is in the file already."""
        self.ids: list[int] = []
        self.text = ""
        """Without a stop string and without half a character."""
        self.is_stopped = False
        self.stop: str | None = None
        """The stop string that ended it."""

    def restart(self) -> None:
        """Without the tokens so far: somebody else writes it from the beginning."""
        self.ids, self.text, self.is_stopped, self.stop = [], "", False, None

    def end_at_line(self) -> None:
        """Without the last line, if it isn't the only one; without any text, if it is."""
        self.text, self.is_stopped = self.text[: max(0, self.text.rfind("\n"))], True

    def add(self, token: int) -> None:
        self.ids.append(token)
        decoded = self._decode(self.ids).rstrip(_INCOMPLETE)
        text = decoded[len(self.opening) :] if decoded.startswith(self.opening) else ""
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        at, self.stop = min(found) if found else (len(text), None)
        self.is_stopped = bool(found)
        self.text = text[:at]

    @property
    def settled(self) -> str:
        """The start of `text` that no later token can take back: a stop string may be half here."""
        if self.is_stopped:
            return self.text
        held = max((_overlap(self.text, stop) for stop in self._stops), default=0)
        return self.text[: len(self.text) - held]


def scored(
    tokens: Sequence[Token], decode: Callable[[Sequence[int]], str], opening: str, text: str
) -> tuple[ScoredToken, ...]:
    """The tokens of `text`, which is a beginning of what they spell after `opening`; together they are `text`.

    Tokens that spell nothing but the opening are left out; of one that spells more than `text`, only that part is told.
    """
    found, told = list[ScoredToken](), 0
    for number, token in enumerate(tokens, 1):
        if told == len(text):
            break
        so_far = decode([t.id for t in tokens[:number]]).rstrip(_INCOMPLETE)
        if len(so_far) <= len(opening):
            continue
        piece = text[told : len(so_far) - len(opening)]
        alternatives = tuple((decode([i]), logprob) for i, logprob in token.alternatives)
        found.append(ScoredToken(id=token.id, text=piece, logprob=token.logprob, alternatives=alternatives))
        told += len(piece)
    return tuple(found)


def is_unsure(logprobs: Sequence[float], least: float) -> bool:
    """Whether the model gives all of this together, as a mean over tokens, less than that probability."""
    return least > 0 and bool(logprobs) and sum(logprobs) < len(logprobs) * math.log(least)


def is_decided(prefix: str, text: str, suffix: str, language: str | None = None) -> bool:
    """Whether post-processing cuts `text` before anything that may still come, so that decoding on is in vain.

    Asked of whole lines: a line that isn't finished may yet become another one. The rules only cut, so if one more line
    of ordinary code is cut off too, any other continuation would be.
    """
    head = text[: text.rfind("\n") + 1]
    if not head.strip():
        return False
    line_before = prefix[prefix.rfind("\n") + 1 :]
    indent = line_before[: len(line_before) - len(line_before.lstrip())]
    more = f"{head}{indent}homespun()"
    shown, more_shown = (finish(prefix, t, suffix, language=language, is_end=False) for t in (head, more))
    return shown == more_shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)

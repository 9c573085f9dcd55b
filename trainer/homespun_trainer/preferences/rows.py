"""What people took and what they dismissed, as rows to learn from. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homespun_core.types import Document, EvalTask, Tokenizer
from homespun_trainer.examples import Example

TAKEN, DISMISSED = "taken", "dismissed"
"""Kinds of examples."""
_HELD_OUT_SHARE = 0.2
_TELLING_CHARS = 8
"""A line with fewer stands in many places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A completion that somebody saw, with its prompt, as the server kept it."""

    id: str
    time: float
    base: str
    """Digest of the model whose tokens these are."""
    paths: tuple[str, ...]
    """The file's, then those of the snippets."""
    ids: tuple[int, ...]
    opening: str
    text: str
    accepted_characters: int
    kept_characters: int
    is_dismissed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    id: str
    time: float
    paths: tuple[str, ...]
    """The file's, then those of the snippets."""
    example: Example
    """Its kind says whether it was taken or dismissed."""


def preferences(
    found: Iterable[Shown], base: str, tokenizer: Tokenizer, documents: Sequence[Document], tasks: Sequence[EvalTask]
) -> list[Preference]:
    """Those that may be learned: of this model, of files of the corpus alone (it knows what is to be forgotten and who
    wrote what), and with no line that the adapter is going to be judged on."""
    known = {document.path for document in documents}
    judged = _lines(task.middle for task in tasks)
    made = [
        _preference(shown, tokenizer)
        for shown in found
        if shown.base == base and known.issuperset(shown.paths) and not _overlap(shown.text, judged)
    ]
    return [preference for preference in made if preference is not None]


def before(found: Sequence[Preference], cut: float) -> list[Preference]:
    """Those made before what the adapter is going to be judged on was written."""
    return [preference for preference in found if preference.time <= cut]


def elsewhere(found: Sequence[Preference], cut: float, tasks: Sequence[EvalTask]) -> list[Preference]:
    """These, and those whose prompts show no file that it is going to be judged in: such a one holds what it will be
    asked for, or what stands around it."""
    asked = {task.path for task in tasks}
    return [preference for preference in found if preference.time <= cut or asked.isdisjoint(preference.paths)]


def split(found: Sequence[Preference]) -> tuple[list[Preference], list[Preference]]:
    """To learn from, and held out; the same one on the same side every time."""
    held_out = [p for p in found if _is_held_out(p.id)]
    return [p for p in found if not _is_held_out(p.id)], held_out


def _preference(shown: Shown, tokenizer: Tokenizer) -> Preference | None:
    """Of what was taken in part, that part. What was taken and then deleted, or neither taken nor dismissed (somebody
    may have typed the same), says nothing. What was taken and then changed counts whole: how many of its characters
    still stand is known, not which. No end of text is learned: what is shown was cut."""
    if shown.accepted_characters:
        kind, text = TAKEN, shown.text[: shown.accepted_characters] if shown.kept_characters else ""
    else:
        kind, text = DISMISSED, shown.text if shown.is_dismissed else ""
    if not text.strip():
        return None
    written = tokenizer.encode(shown.opening + text)
    weights = (*[0.0] * len(shown.ids), *[1.0] * len(written))
    example = Example(ids=(*shown.ids, *written), weights=weights, prompt_tokens=len(shown.ids), kind=kind)
    return Preference(id=shown.id, time=shown.time, paths=shown.paths, example=example)


def _lines(texts: Iterable[str]) -> frozenset[str]:
    lines = (line.strip() for text in texts for line in text.splitlines())
    return frozenset(line for line in lines if len(line) >= _TELLING_CHARS)


def _overlap(text: str, judged: frozenset[str]) -> bool:
    own = _lines([text])
    return any(mine in line or line in mine for mine in own for line in judged)


def _is_held_out(id: str) -> bool:
    return int(hashlib.sha256(id.encode()).hexdigest()[:8], 16) < _HELD_OUT_SHARE * 2**32

"""Prompts that a client put together for some model, taken apart again, so that retrieval and adapters still apply.

Many clients send no `suffix` but one text with the sentinels of the model they think is there, often with other files
before it. Every family of `core/fim.py` is recognised, whichever model is loaded. A prompt is a template only if it
begins with a sentinel and holds each one exactly as often and in the order that its family has them. So a file about
such tokens stays text, and so does a template around a file that holds some: which of them are meant can't be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from homespun_core.fim import FAMILIES, PREFIX, SUFFIX, FimFamily
from homespun_core.types import Snippet


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a completion is wanted, as a prompt says it."""

    prefix: str
    suffix: str = ""
    path: str | None = None
    repo: str | None = None
    snippets: tuple[Snippet, ...] = ()
    """Best first: what stands closest to the file in the prompt."""


@dataclass(frozen=True, slots=True)
class _Piece:
    token: str
    text: str
    """What follows the token, up to the next one."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One family's tokens as clients write them; families that write the same are one form."""

    layout: tuple[str, ...]
    """As in FimFamily."""
    bos: str | None
    repo: str | None
    file: str | None

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.order, *(t for t in (self.repo, self.file) if t)]))

    @property
    def order(self) -> list[str]:
        return [t for t in self.layout if t not in (PREFIX, SUFFIX)]


def place_of(prompt: str, suffix: str = "") -> Place:
    """With a suffix beside it, a prompt is just the text before the cursor."""
    if suffix:
        return Place(prefix=prompt, suffix=suffix)
    return parsed(prompt) or Place(prefix=prompt)


def parsed(prompt: str) -> Place | None:
    """None for what is no template, or could be read in two ways."""
    if not _STARTS.match(prompt):
        return None
    return next((place for form in _FORMS if (place := _read(form, prompt)) is not None), None)


def editor_snippet(path: str, text: str, rank: int) -> Snippet:
    """Of a client, which knows their order but no score."""
    text = text.replace("\r\n", "\n")  # as everything else in a prompt
    return Snippet(path=path, start_line=0, text=text, score=1.0 / (1 + rank), source="editor")


def spelled(family: FimFamily, place: Place) -> str:
    """The prompt that a client would send for this place; `parsed` is its inverse."""
    form = _form(family)
    head = form.bos or ""
    if form.file is not None:
        repo = f"{form.repo}{place.repo}\n" if form.repo is not None and place.repo is not None else ""
        files = "".join(f"{form.file}{s.path}\n{s.text}\n" for s in reversed(place.snippets))
        own = f"{form.file}{place.path}\n" if place.path is not None else ""
        head += repo + files + own
    slots = {PREFIX: place.prefix, SUFFIX: place.suffix}
    return head + "".join(slots.get(piece, piece) for piece in form.layout)


def _form(family: FimFamily) -> _Form:
    return _Form(
        layout=tuple(_SPELLINGS.get(t, t) for t in family.layout), bos=family.bos, repo=family.repo, file=family.file
    )


_SPELLINGS = {"▁<PRE>": "<PRE> ", "▁<SUF>": " <SUF>", "▁<MID>": " <MID>"}
"""CodeLlama's, as its own reference code and every client write them."""
_FORMS: tuple[_Form, ...] = tuple(dict.fromkeys(_form(family) for family in FAMILIES))
_STARTS = re.compile("|".join(re.escape(t) for form in _FORMS for t in (*form.tokens, form.bos) if t))


def _read(form: _Form, prompt: str) -> Place | None:
    pieces = list(_pieces(form, prompt.removeprefix(form.bos or "")))
    start = next((n for n, piece in enumerate(pieces) if piece.token in form.layout), len(pieces))
    slots = _slots(form, pieces[start:])
    header = _header(form, pieces[:start])
    if slots is None or header is None:
        return None
    repo, files = header
    path = None
    if files and not files[-1][1]:  # a file without text is the one that is written
        path = files.pop()[0]
    snippets = tuple(editor_snippet(name, text, rank) for rank, (name, text) in enumerate(reversed(files)) if text)
    return Place(prefix=slots[PREFIX], suffix=slots[SUFFIX], path=path or None, repo=repo, snippets=snippets)


def _pieces(form: _Form, prompt: str) -> Iterator[_Piece]:
    """Nothing where the prompt doesn't begin with a token of this form."""
    tokens = re.compile("|".join(re.escape(t) for t in form.tokens))
    found = list(tokens.finditer(prompt))
    if not found or found[0].start():
        return
    ends = [*(match.start() for match in found[1:]), len(prompt)]
    for match, end in zip(found, ends, strict=True):
        yield _Piece(match.group(), prompt[match.end() : end])


def _slots(form: _Form, pieces: Sequence[_Piece]) -> dict[str, str] | None:
    """Prefix and suffix. What stands after the last token is prefix too: llama.cpp's clients put the cursor's line
    there, and a family with the suffix first its whole prefix."""
    if [piece.token for piece in pieces] != form.order:
        return None
    texts = {PREFIX: "", SUFFIX: ""}
    for piece in pieces:
        after = form.layout.index(piece.token) + 1
        slot = form.layout[after] if after < len(form.layout) else PREFIX
        if slot in texts:
            texts[slot] += piece.text
        elif piece.text:
            return None  # this family has nothing here; another one may
    return texts


def _header(form: _Form, pieces: Sequence[_Piece]) -> tuple[str | None, list[tuple[str, str]]] | None:
    """The repository's name, and (path, text) of each file, in the prompt's order."""
    repo = None
    if pieces and pieces[0].token == form.repo:
        repo, pieces = pieces[0].text.strip() or None, pieces[1:]
    if any(piece.token != form.file for piece in pieces):
        return None
    files = [piece.text.partition("\n") for piece in pieces]
    return repo, [(path.strip(), text.removesuffix("\n")) for path, _, text in files]

"""From documents to training examples, with exactly the prompts the server builds.

Placeholders (what stood there is nobody's to learn) have no weight anywhere and are never in or beside a middle.

Example n is a function of (documents, seed, n) alone: a run that was killed goes on at any n, nothing random is stored.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from homespun_core import placeholders
from homespun_core.errors import TooLittleCode
from homespun_core.fim import PREFIX, SUFFIX
from homespun_core.prompt import PromptBuilder
from homespun_core.types import Document, SearchQuery, Snippet, Tokenizer
from homespun_trainer.spans import Cut, Lines, choose_cut, choose_own_cut

Retrieve = Callable[[SearchQuery], Sequence[Snippet]]

MAX_MIDDLE_TOKENS = 128
_ATTEMPTS = 1_000
"""So many in a row fail only where there is nothing: in what is `worth_learning` a place is found in a few."""
_LOOKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What kinds of example there are and what in them is learned. Shares add up to one; the rest is left to right.

    Against 0.7 with snippets, 0.2 file only and 0.1 left to right with full loss on the prefix (which was two thirds of
    all loss), almost only snippets gave +1.3 instead of +0.5 points of exact match and edit similarity +0.001 instead
    of -0.010, at equal bits per byte (benchmarks/LOG.md).
    """

    with_snippets: float = 0.8
    distracting: float = 0.1
    """Share of those with snippets of another place: the model has to learn that snippets can be beside the point."""
    file_only: float = 0.15
    left_to_right_weight: float = 0.05
    """Loss on the prefix of an example without a suffix: such a one then weighs about as much as the others."""
    recent: float = 0.2
    """Share of the cuts that are hunks of the history, in files that have any."""
    is_own: bool = False
    """Whether no other line than those of these hunks is ever in a middle."""
    prefix_weight: float = 0.0
    """Loss on the file's own prefix, against 1.0 on middle and end."""
    suffix_weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    ids: tuple[int, ...]
    weights: tuple[float, ...]
    """weights[i] is the weight of predicting ids[i] from what stands before it; snippets and control tokens have
    none."""
    prompt_tokens: int
    kind: str


class Batches(Protocol):
    """Where training gets its examples from."""

    def batch(self, step: int, size: int) -> list[Example]: ...


class ExampleStream:
    """Examples by number, in an order that looks random. `retrieve` searches the index as of the corpus's cut."""

    def __init__(
        self,
        documents: Sequence[Document],
        *,
        builder: PromptBuilder,
        repo: str,
        seed: int,
        retrieve: Retrieve | None = None,
        mix: Mix | None = None,
    ) -> None:
        # Line breaks as the server makes them before it builds a prompt.
        self._documents = [replace(d, text=d.text.replace("\r\n", "\n")) for d in documents]
        self._lines = [Lines.of(d.text) for d in self._documents]
        self._cumulative = list(itertools.accumulate(d.mass for d in documents))
        self._builder, self._repo, self._seed = builder, repo, seed
        self._retrieve = retrieve
        self._mix = mix or Mix()

    def example(self, n: int) -> Example:
        """Raises TooLittleCode when no document has a line worth learning."""
        rng = random.Random(f"{self._seed}/{n}")
        for _ in range(_ATTEMPTS):
            i = self._pick(rng)
            cut = _place(self._documents[i], self._lines[i], self._mix, self._builder.tokenizer, rng)
            if cut is not None:
                return self._make(self._documents[i], cut, rng)
        raise TooLittleCode(
            f"{self._repo}: hardly a line of its {len(self._documents):,} files is worth learning: they are too little"
            " to train on; completions use the base model and snippets"
        )

    @property
    def size(self) -> float:
        """Mass of all documents."""
        return self._cumulative[-1]

    def batch(self, step: int, size: int) -> list[Example]:
        return [self.example(n) for n in range(step * size, (step + 1) * size)]

    def _pick(self, rng: random.Random) -> int:
        return rng.choices(range(len(self._documents)), cum_weights=self._cumulative)[0]

    def _make(self, document: Document, cut: Cut, rng: random.Random) -> Example:
        middle = document.text[cut.start : cut.end]
        query = SearchQuery(
            prefix=document.text[: cut.start],
            suffix=document.text[cut.end :],
            path=document.path,
            language=document.language,
        )
        draw, mix = rng.random(), self._mix
        if self._retrieve is not None and draw < mix.with_snippets:
            return self._assemble(query, middle, self._snippets(query, rng), cut.kind)
        if draw < mix.with_snippets + mix.file_only:
            return self._assemble(query, middle, (), cut.kind)
        return self._assemble(replace(query, suffix=""), middle, (), "left to right", mix.left_to_right_weight)

    def _snippets(self, query: SearchQuery, rng: random.Random) -> Sequence[Snippet]:
        """From the index as of the cut. It is no older than the middle, as it is when people complete: other files that
        were written with it are there, and copies that the corpus leaves out. Of 379 middles of three words or more in
        locust 11 % stand whole in a snippet, of as many held-out lines 2 % (benchmarks/LOG.md). Leaving these snippets
        out would teach that what follows is never there, which hasn't been tried against this."""
        assert self._retrieve is not None
        if rng.random() >= self._mix.distracting:
            return self._retrieve(query)
        other = self._documents[self._pick(rng)]
        at = rng.randrange(len(other.text) + 1)
        elsewhere = SearchQuery(
            prefix=other.text[:at], suffix=other.text[at:], path=other.path, language=other.language
        )
        return [s for s in self._retrieve(elsewhere) if s.path != query.path]

    def _assemble(
        self,
        query: SearchQuery,
        middle: str,
        snippets: Sequence[Snippet],
        kind: str,
        prefix_weight: float | None = None,
    ) -> Example:
        prompt = self._builder.build(
            prefix=query.prefix,
            suffix=query.suffix,
            path=query.path,
            language=query.language,
            repo=self._repo,
            snippets=snippets,
        )
        written = self._builder.tokenizer.encode(prompt.opening + middle)
        weights = own_file_weights(
            prompt.ids,
            self._builder,
            self._mix.prefix_weight if prefix_weight is None else prefix_weight,
            self._mix.suffix_weight,
        )
        weights = without_placeholders(prompt.ids, weights, self._builder.tokenizer.spelled)
        return Example(
            ids=(*prompt.ids, *written, self._builder.format.end_id),
            weights=(*weights, *[1.0] * (len(written) + 1)),
            prompt_tokens=len(prompt.ids),
            kind=kind,
        )


def worth_learning(documents: Sequence[Document], mix: Mix, tokenizer: Tokenizer) -> list[Document]:
    """Those that examples can be made of. Others have lines that are too long, or say nothing, whatever their size."""

    def has_place(document: Document) -> bool:
        # By its text alone, so that it is the same for every seed.
        draws = (random.Random(f"{document.blob}/{n}") for n in range(_LOOKS))
        lines = Lines.of(document.text)
        return any(_place(document, lines, mix, tokenizer, rng) for rng in draws)

    return [document for document in documents if has_place(document)]


def _place(document: Document, lines: Lines, mix: Mix, tokenizer: Tokenizer, rng: random.Random) -> Cut | None:
    if mix.is_own:
        cut = choose_own_cut(lines, rng, document.recent)
    else:
        cut = choose_cut(lines, rng, document.recent, mix.recent)
    if cut is None or touches_placeholder(document.text, cut):
        return None
    return cut if len(tokenizer.encode(document.text[cut.start : cut.end])) <= MAX_MIDDLE_TOKENS else None


def touches_placeholder(text: str, cut: Cut) -> bool:
    """Also where a cut only borders on one: the word before the cursor is spelled again, so it would be a target."""
    start = max(0, text.rfind("\n", 0, cut.start))
    line_end = text.find("\n", cut.end)
    around = text[start : line_end if line_end >= 0 else len(text)]
    return any(s <= cut.end - start and cut.start - start <= e for s, e in placeholders.spans(around))


def without_placeholders(ids: Sequence[int], weights: list[float], spelled: Sequence[bytes | None]) -> list[float]:
    """The weights with 0 for every token that holds a part of a placeholder. Where tokens aren't made of bytes (no
    `spelled`) a placeholder can't be found, so nothing but middles, which never hold one, may be learned."""
    if not any(weights):
        return weights
    if not spelled:
        return [0.0] * len(weights)
    pieces = [spelled[i] or b"" for i in ids]
    hidden = placeholders.byte_spans(b"".join(pieces))
    starts = [0, *itertools.accumulate(map(len, pieces))]
    for start, end in hidden:
        first, last = bisect.bisect_right(starts, start) - 1, bisect.bisect_left(starts, end)
        weights[first:last] = [0.0] * (last - first)
    return weights


def own_file_weights(prompt: Sequence[int], builder: PromptBuilder, prefix: float, suffix: float) -> list[float]:
    """Weights of a prompt's tokens: the file's own prefix and suffix as given, everything else 0.

    The pieces are found by the control tokens around them: no other token of a prompt has their ids. Where snippets
    stand as comments in the prefix (families without a file token) they can't be told from it, so the prefix gets no
    weight there.
    """
    family, ids = builder.format.family, builder.format.ids
    if family.repo is None or family.file is None:
        prefix = 0.0
    weights = [0.0] * len(prompt)
    position = len(prompt)
    for piece in reversed(family.layout):
        if piece in (PREFIX, SUFFIX):
            weight = prefix if piece == PREFIX else suffix
            while position > 0 and prompt[position - 1] not in ids.values():
                position -= 1
                weights[position] = weight
        else:
            position -= 1
            assert prompt[position] == ids[piece], f"the prompt has no {piece} where the format has one"
    return weights

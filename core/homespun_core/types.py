"""The values that cross a boundary between components. All frozen; None means absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A chunk (or a signature) chosen for a prompt. `score` orders snippets of one search only."""

    path: str
    start_line: int
    text: str
    score: float
    source: str
    """Why it was chosen: `usage` (looks like what is being written), `definition` (of a name in reach), `editor` (the
    client sent it along)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """Where a completion is wanted. `path` is relative to the repository root, `/`-separated; None when unknown."""

    prefix: str
    suffix: str
    path: str | None
    language: str | None


CLIENT_HEADER = "x-homespun-client"
"""An editor's random name for itself, as in the body: what is refused before it is read can be told apart by it."""

Trigger = Literal["invoked", "typed", "ahead"]
"""Asked for by hand; while typing; for when the suggestion is accepted. Served in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """One completion, as every HTTP dialect is translated to it."""

    prefix: str
    suffix: str
    path: str | None = None
    language: str | None = None
    repo: str | None = None
    """Repository name or git URL as the client knows it; None when unknown."""
    max_new_tokens: int = 64
    """0 asks for no text: it only prepares the place for the request that follows."""
    deadline_ms: int = 5_000
    temperature: float = 0.0
    top_p: float = 1.0
    """Of what is drawn at a temperature: from the likeliest tokens that have so much of the probability together."""
    top_k: int = 0
    """From so many of the likeliest; 0 is all."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    raw: bool = False
    """True leaves the model's text as it is: no post-processing."""
    commit: str | None = None
    """What the client's working tree stands at; None when unknown."""
    snippets: tuple[Snippet, ...] = ()
    """What the client has beside the file, best first: open files, declarations."""
    logprobs: int | None = None
    """Tell the tokens too, each with so many of the likeliest that might have stood there; None: only the text."""
    max_decode_ms: int | None = None
    """Once a line is complete, decoding ends after so long."""
    client: str | None = None
    """A newer request of the same client replaces an older one; None replaces nothing."""
    user: str | None = None
    """Opaque; see `whose`."""
    trigger: Trigger = "typed"
    readable: frozenset[str] | None = None
    """Ids of the repositories that may be used for it; None is all there are. Set by the server, never by a client."""
    editor: str | None = None
    """Name of the program that asks, as it says in its requests."""
    account: str = ""
    """Id of the user it is for, whose alone is what is kept of it; empty without accounts. Set by the server too."""

    @property
    def whose(self) -> str | None:
        """Whom an adapter is drawn for that only a share of the users gets, and whom what becomes of it counts for."""
        return (self.user or self.client or "").replace("\0", "") or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds spent in each stage of one completion."""

    retrieve_ms: float
    queue_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredToken:
    """A token of a completion, as far as it is in the text."""

    id: int
    text: str
    """Empty while it is only a part of a character."""
    logprob: float
    """Natural logarithm, of the model's own distribution."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """The likeliest at its place, it may be among them; likeliest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Text of a completion that is certain, while it is written."""

    text: str
    tokens: tuple[ScoredToken, ...] = ()
    """Together they are the text; only told where `logprobs` asks for them."""
    num_characters_before: int = 0
    num_tokens_before: int = 0
    """Of the parts before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What came back. `text` may be empty: nothing worth showing."""

    text: str
    finish_reason: str
    """`stop` (the model or a stop rule ended it) or `length` (token limit or deadline)."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    snippets: tuple[Snippet, ...]
    adapter: str | None
    """Version of the adapter that wrote it; None is the base model."""
    timings: Timings
    degraded: tuple[str, ...] = ()
    """What it went without: `fewer_snippets`, `shorter`, `draft_only` (no model) under load; `retrieval_partial`,
    `retrieval_timeout` where searching took too long; `adapter_loading` while its weights come back into memory;
    `retrieval_error`, `speculation`, `adapter`, `engine` where something failed."""
    hidden_by: str | None = None
    """`filter`: there was a text, but it was too unlikely to be kept. `confidence`: the model was unsure from the start
    (`min_confidence`)."""
    tokens: tuple[ScoredToken, ...] = ()
    """Those of `text`, where they were asked for and a model wrote it."""
    stopped_by: str | None = None
    """The request's stop string that ended it, if one did."""


MOST_COUNTED = 40_000
"""Characters: a huge file counts like one of this size, so that it isn't most of what is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A source file of the training corpus."""

    path: str
    language: str
    blob: str
    text: str
    weight: float = 1.0
    """How much oftener a character of it is chosen for an example than one of an ordinary file."""
    recent: tuple[tuple[int, int], ...] = ()
    """Lines written lately, as (first, last), 0-based, both included."""
    authors: tuple[str, ...] = ()
    """Who changed it, as hashes that mean something in this data directory only."""

    @property
    def counted(self) -> int:
        """Characters that count where shares of the examples are decided."""
        return min(len(self.text), MOST_COUNTED)

    @property
    def mass(self) -> float:
        """Its share of the examples, against other documents' masses."""
        return self.counted * self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalTask:
    """A place where a developer wrote `middle` after the corpus was cut: `prefix` and `suffix` surround it.

    `suffix` is what stood below before that commit, so that it can't hold later lines of the same edit.
    """

    path: str
    language: str
    commit: str
    """What it was written in: a commit; `commit:path` where whole files are held out, one cluster a file."""
    prefix: str
    middle: str
    suffix: str
    seen: bool
    """Whether the same line already stood somewhere in the corpus (reported apart: easier, and less telling)."""


class Tokenizer(Protocol):
    """Text to token ids. `encode` never returns a control token, whatever the text says."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def spelled(self) -> Sequence[bytes | None]:
        """By id, what a token spells; None for control tokens. Empty where tokens aren't made of bytes."""
        ...

    def control_id(self, token: str) -> int | None:
        """Id of the control token spelled `token`, None when this tokenizer has none."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of what determines the ids."""
        ...


class Progress(Protocol):
    """Where long work reports how far it is. Calls are cheap; a reporter decides how often to show something."""

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        """`done` of `total` were done by an earlier run, which says nothing about the pace of this one."""
        ...

    def advance(self, done: int, note: str = "") -> None:
        """`done` is the amount done so far, in the unit of `total`."""
        ...

    def finish(self, note: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class SilentProgress:
    """A Progress that shows nothing."""

    def start(self, label: str, total: int | None = None, unit: str = "", done: int = 0) -> None:
        pass

    def advance(self, done: int, note: str = "") -> None:
        pass

    def finish(self, note: str = "") -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A base model as files on disk: a Hugging Face directory with safetensors weights."""

    name: str
    path: str
    family: str | None
    """FIM family forced by the settings; None to detect it from tokenizer and config."""
    digest: str
    """SHA-256 over config, tokenizer and weights' headers and sizes: the identity caches and adapters are keyed by."""
    config: dict[str, object] = field(compare=False, repr=False)

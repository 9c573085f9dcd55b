"""What there is to train on: the corpora of one or several repositories, base model and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homespun_core import personal, storage
from homespun_core.config import Settings
from homespun_core.fim import resolve_family
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.prompt import PromptBuilder, PromptLimits, heals
from homespun_core.scopes import is_scope
from homespun_core.types import Document, EvalTask, ModelFiles, SearchQuery, Snippet, Tokenizer
from homespun_trainer.evaluate import LookupBesides, RetrieveAt
from homespun_trainer.examples import Mix, Retrieve
from homespun_trainer.memory import FindSecrets
from homespun_trainer.trained_on import File, Source

CommitsAfter = Callable[[str], frozenset[str] | None]
"""A commit -> those of the main line after it; None where it isn't on that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus snapshot, and the search in the index as of its cut."""

    fingerprint: str
    sources: Mapping[str, str]
    documents: Sequence[Document]
    tasks: Sequence[EvalTask]
    retrieve: Retrieve
    """As people are served."""
    report: Mapping[str, Any]
    """What went into it, what was left out, and why."""
    retrieve_at: RetrieveAt | None = None
    """At places that are asked for, where that isn't `retrieve`."""
    lookup: LookupBesides | None = None
    """What has a voice in each token, beside the model, as people are served; None: nothing has."""
    unlearnable: frozenset[str] = frozenset()
    """Paths that `retrieve` finds and nothing may be learned of."""
    touched: Sequence[File] = ()
    """Files whose lines are learned from, stand in prompts of training, or are asked about."""
    commits_after: CommitsAfter = lambda commit: None

    def learnable_snippets(self, query: SearchQuery) -> Sequence[Snippet]:
        """For examples: snippets carry no loss, and gradients depend on them all the same."""
        return [snippet for snippet in self.retrieve(query) if snippet.path not in self.unlearnable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One repository of those that an adapter is trained on."""

    id: str
    """Its directory name in the data directory."""
    name: str
    """As prompts call it."""
    corpus: Corpus

    @property
    def size(self) -> int:
        """Characters, of some documents more or less than they have."""
        return round(sum(len(document.text) * document.weight for document in self.corpus.documents))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A repository that shares an adapter and has nothing to train on."""

    id: str
    head: str
    """What was looked at."""
    why: str


Unforgotten = Callable[[Sequence[Source] | None], AbstractContextManager[None]]
"""In its block nobody forgets anything that was seen. Raises HomespunError when somebody has, since training began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An adapter to train: for one repository, which is its only part, or for several that share it."""

    id: str
    """Directory name of the adapter in the data directory."""
    name: str
    parts: tuple[Part, ...]
    files: ModelFiles
    tokenizer: Tokenizer
    settings: Settings
    data: DataDir
    find_secrets: FindSecrets
    """By the rules that redacted the corpus."""
    mix: Mix = field(default_factory=Mix)
    beneath: Path | None = None
    """The adapter that people have who don't get this one: it is trained on top of it, and has to beat it."""
    left_out: Sequence[LeftOut] = ()
    """Of the repositories that share it."""
    wish: Wish | None = None
    """Somebody's own: once they have taken that back nothing is published any more."""

    unforgotten: Unforgotten = lambda seen: nullcontext()

    @contextmanager
    def publishing(self, seen: Sequence[Source] | None) -> Iterator[None]:
        """To publish what saw these, None is unknown, in this block: it is wanted to the end. Raises HomespunError."""
        with personal.standing(self.data, self.wish), self.unforgotten(seen):
            yield

    @property
    def is_wanted(self) -> bool:
        return personal.stands(self.data, self.wish)

    @property
    def is_shared(self) -> bool:
        """Also where one repository alone has anything to train on."""
        return is_scope(self.id)

    @property
    def adapters(self) -> Path:
        return self.data.adapters(self.id)

    @property
    def run(self) -> Path:
        return self.data.training_run(self.id)

    @property
    def fingerprint(self) -> str:
        """Of the corpora; their order doesn't matter."""
        if len(self.parts) == 1:
            return self.parts[0].corpus.fingerprint
        return storage.fingerprint(sorted([part.id, part.name, part.corpus.fingerprint] for part in self.parts))

    @property
    def documents(self) -> list[Document]:
        return [document for part in self.parts for document in part.corpus.documents]

    @property
    def tasks(self) -> list[EvalTask]:
        return [task for part in self.parts for task in part.corpus.tasks]

    def prompt_builder(self, max_tokens: int | None = None) -> PromptBuilder:
        return prompt_builder(self.files, self.tokenizer, self.settings, max_tokens)


def prompt_builder(
    files: ModelFiles, tokenizer: Tokenizer, settings: Settings, max_tokens: int | None = None
) -> PromptBuilder:
    """With the server's limits: settings, and what the model's context leaves beside a completion; or shorter."""
    fim = resolve_family(tokenizer, files.config, name=files.name, forced=files.family)
    context, limit = files.config.get("max_position_embeddings"), settings.max_prompt_tokens
    if isinstance(context, int):
        limit = min(limit, context - settings.max_new_tokens)
    return PromptBuilder(
        tokenizer=tokenizer,
        format=fim,
        limits=PromptLimits(max_tokens=min(limit, max_tokens or limit)),
        is_healing=heals(settings.token_healing, fim.family, tokenizer),
    )

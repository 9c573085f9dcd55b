"""Which completions are kept with their prompts, and what of them. Off, but for repositories that an admin names.

A prompt holds what somebody typed and the repository's code; an adapter that learns from it tells both to everybody who
may read the repository. So what may be of anything else isn't kept, and neither is what nobody is known to have seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from homespun_core import personal
from homespun_core.errors import StorageError
from homespun_core.paths import DataDir
from homespun_core.prompt import Prompt, PromptBuilder
from homespun_core.secret_files import may_hold_secrets
from homespun_core.types import Completion, Snippet
from homespun_indexer import forgotten
from homespun_indexer.reader import IndexReader
from homespun_indexer.secrets import redact
from homespun_server.explained import pieces
from homespun_server.feedback.facts import CompletionFact
from homespun_server.feedback.kept import Kept, is_gone
from homespun_server.work import Work

logger = logging.getLogger(__name__)

_AROUND = 16_000
"""Characters on either side of the cursor: more than any prompt has, and all that is redacted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A completion as it was made, in memory only."""

    id: str
    time: float
    user: str
    repository: str
    name: str | None
    """Of the repository, as prompts call it."""
    path: str
    language: str | None
    prefix: str
    suffix: str
    prompt: Prompt
    paths: tuple[str, ...]
    """Files that it is made of."""
    text: str
    base: str
    adapter: str | None
    builder: PromptBuilder
    """What made the prompt."""


class Keeping:
    def __init__(self, named: Collection[str], base: str, record: Callable[[Whole], None]) -> None:
        """`named`: ids of repositories. `record` holds what it is given until somebody is known to have seen it."""
        self._named, self._base, self._record = frozenset(named), base, record

    def consider(self, fact: CompletionFact, work: Work, completion: Completion, builder: PromptBuilder) -> None:
        path, request = work.request.path, work.request
        if path is None or not may_be_kept(work, completion, self._named):
            return
        assert work.repository is not None
        whole = Whole(
            id=fact.id,
            time=fact.time,
            user=fact.user,
            repository=work.repository.id,
            name=work.repository.name,
            path=path,
            language=request.language,
            prefix=request.prefix[-_AROUND:],
            suffix=request.suffix[:_AROUND],
            prompt=work.prompt,
            paths=tuple(dict.fromkeys((path, *(snippet.path for snippet in known_of(work))))),
            text=completion.text.replace("\r\n", "\n"),
            base=self._base,
            adapter=work.adapter,
            builder=builder,
        )
        self._record(whole)


def may_be_kept(work: Work, completion: Completion, named: Collection[str]) -> bool:
    """Only what a model wrote in a named repository, one that the client said: the only one there is will do for
    completing, but may be another than the one that the file is from. Not with somebody's own adapter, which is no
    affair of others."""
    repository, request = work.repository, work.request
    if repository is None or repository.id not in named or not request.repo or not completion.text.strip():
        return False
    if request.path is None or may_hold_secrets(request.path.rpartition("/")[2]):
        return False
    is_own = work.adapter is not None and personal.owner_of(work.adapter.partition("/")[0]) is not None
    return work.asked is not None and not is_own and all(_is_of(s, repository.reader) for s in known_of(work))


def known_of(work: Work) -> tuple[Snippet, ...]:
    """Of other files: what stands in the prompt, and what was sent, which has a voice without standing there."""
    return (*work.prompt.snippets, *work.sent)


def _is_of(snippet: Snippet, reader: IndexReader | None) -> bool:
    """Whether it is the repository's. What a client sent along is taken at its word where there is such a file."""
    return snippet.source != "editor" or (reader is not None and reader.chunk_at(snippet.path, 1) is not None)


def kept(data: DataDir, whole: Whole) -> Kept | None:
    """What is written of it; nothing where somebody asked to have any of it forgotten, or nobody can say."""
    paths = whole.paths
    try:
        requests = forgotten.load(data)
    except StorageError as error:
        logger.warning("a completion isn't kept: %s", error)
        return None
    found = None if is_gone(paths, whole.repository, requests) else redacted(whole)
    if found is None:
        return None
    prompt, text = found
    spelled = "".join(p.text for p in pieces(prompt.ids, whole.builder.tokenizer.spelled, whole.builder.format.ids))
    if "\0" in spelled + prompt.opening + text + "".join(paths):  # PostgreSQL has no place for it
        return None
    return Kept(
        completion=whole.id,
        time=whole.time,
        repository=whole.repository,
        paths=paths,
        prompt=spelled,
        ids=prompt.ids,
        opening=prompt.opening,
        text=text,
        base=whole.base,
        adapter=whole.adapter,
    )


def redacted(whole: Whole) -> tuple[Prompt, str] | None:
    """Prompt and text by the rules that redact what is trained on: as they were where the rules find nothing, else with
    the prompt that the same file would have had without. None where the text itself, or it with what stands around it,
    has something."""
    (prefix, in_prefix), (_, in_text), (suffix, in_suffix) = map(_redacted, (whole.prefix, whole.text, whole.suffix))
    in_file = _redacted(whole.prefix + whole.text + whole.suffix)[1]
    if in_text or in_file > in_prefix + in_suffix:
        return None
    snippets = [(snippet, *_redacted(snippet.text)) for snippet in whole.prompt.snippets]
    if not in_prefix + in_suffix + sum(number for _, _, number in snippets):
        return whole.prompt, whole.text
    prompt = whole.builder.build(
        prefix=prefix,
        suffix=suffix,
        path=whole.path,
        language=whole.language,
        repo=whole.name,
        snippets=[replace(snippet, text=text) for snippet, text, _ in reversed(snippets)],  # best first
    )
    return prompt, whole.text


def _redacted(text: str) -> tuple[str, int]:
    """And how many finds there were."""
    found, numbers = redact(text)
    return found, sum(numbers.values())

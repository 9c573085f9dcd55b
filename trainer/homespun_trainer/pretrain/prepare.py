"""From the text of all repositories to samples of each: copies out, a few files held out, the rest drawn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.types import Document, Tokenizer
from homespun_trainer.examples import Retrieve
from homespun_trainer.pretrain.allowlist import Allowed
from homespun_trainer.pretrain.duplicates import originals
from homespun_trainer.pretrain.samples import PHASES, Phase, Sample, draw, drawn, is_held_out, wanted_tokens
from homespun_trainer.pretrain.shards import HeldOut, held_out, publish_samples
from homespun_trainer.pretrain.text import Text

_VERSION = 2
"""Goes up when the code makes other samples of the same text. 2: each phase cuts at places of its own."""
_HELD_OUT_TOKENS = 20_000
"""Of one repository and phase, at most."""

OpenSearch = Callable[[Allowed, str, frozenset[str]], AbstractContextManager[Retrieve]]
"""(repository, commit, paths that may be shown) -> its search, without secrets in what it finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one repository contributes."""

    allowed: Allowed
    commit: str
    fingerprint: str
    """Of its text."""
    training: tuple[Document, ...]
    held_out: tuple[Document, ...]
    num_copies: int
    """Files left out because an earlier repository, or this one, has nearly the same."""

    @property
    def shown(self) -> frozenset[str]:
        """Paths that snippets may come from."""
        return frozenset(document.path for document in self.training)

    def facts(self) -> dict[str, Any]:
        """Its row in the model card."""
        sizes: dict[str, int] = {}
        for document in self.training:
            sizes[document.language] = sizes.get(document.language, 0) + len(document.text.encode())
        return {
            "commit": self.commit,
            "licence": self.allowed.licence,
            "files": len(self.training),
            "held_out": len(self.held_out),
            "copies": self.num_copies,
            "bytes": sizes,
        }


def shares(texts: Sequence[Text], held_out_share: float) -> list[Share]:
    """In the order of the list: of several copies the first stays."""
    is_new = originals(signature for text in texts for signature in text.signatures)
    made, at = [], 0
    for text in texts:
        verdicts = is_new[at : at + len(text.documents)]
        at += len(text.documents)
        name = text.allowed.name
        kept = [document for document, new in zip(text.documents, verdicts, strict=True) if new]
        made.append(
            Share(
                allowed=text.allowed,
                commit=text.commit,
                fingerprint=text.fingerprint,
                training=tuple(d for d in kept if not is_held_out(name, d.path, held_out_share)),
                held_out=tuple(d for d in kept if is_held_out(name, d.path, held_out_share)),
                num_copies=len(text.documents) - len(kept),
            )
        )
    return made


def held_out_files(all_shares: Sequence[Share]) -> list[HeldOut]:
    return [HeldOut(repo=share.allowed.name, document=document) for share in all_shares for document in share.held_out]


def publish(
    share: Share,
    parent: Path,
    *,
    tokenizer: Tokenizer,
    open_search: OpenSearch,
    seed: int,
    passes: float,
    num_snippets: int,
) -> Path:
    """Samples of one repository; what is there already is used again. `num_snippets` is what `open_search` finds."""
    files = [sorted(share.shown), sorted(document.path for document in share.held_out)]
    settings = [seed, passes, num_snippets, [asdict(p) for p in PHASES]]
    inputs = [share.fingerprint, files, tokenizer.digest, settings]
    fingerprint = storage.fingerprint(_VERSION, inputs)
    folder, final = parent / share.allowed.folder, parent / share.allowed.folder / fingerprint[:16]
    if not (final / storage.MANIFEST).is_file():
        with open_search(share.allowed, share.commit, share.shown) as retrieve:
            parts = _samples(share, tokenizer, retrieve, seed, passes)
        publish_samples(final, fingerprint, parts)
    storage.set_current(folder, final.name)
    storage.prune(folder, keep=1)
    return final


def _samples(
    share: Share, tokenizer: Tokenizer, retrieve: Retrieve, seed: int, passes: float
) -> dict[str, list[Sample]]:
    parts: dict[str, list[Sample]] = {}
    for phase in PHASES:
        wanted = wanted_tokens(share.training, phase.passes * passes)
        looks = min(_HELD_OUT_TOKENS, wanted_tokens(share.held_out, phase.passes))

        def some(documents: Sequence[Document], amount: float, phase: Phase = phase) -> list[Sample]:
            if not documents:
                return []
            stream = draw(documents, phase, tokenizer=tokenizer, repo=share.allowed.short, retrieve=retrieve, seed=seed)
            try:
                return drawn(stream, amount)
            except ValueError:  # no line worth completing in a handful of files
                return []

        parts[phase.name] = some(share.training, wanted)
        parts[held_out(phase.name)] = some(share.held_out, looks)
    return parts

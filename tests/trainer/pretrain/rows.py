"""Rows of a tiny made corpus, prepared as the command does it, with the byte tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from homespun_core.types import Document, SearchQuery, Snippet
from homespun_trainer.examples import Retrieve
from homespun_trainer.pretrain import prepare, shards
from homespun_trainer.pretrain.allowlist import Allowed
from homespun_trainer.pretrain.prepare import Share
from homespun_trainer.pretrain.shards import Shards
from tests.fakes import ByteTokenizer
from tests.trainer.tiny import document

TOKENIZER = ByteTokenizer(
    (
        "<|endoftext|>",
        "<|fim_prefix|>",
        "<|fim_middle|>",
        "<|fim_suffix|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    )
)
SNIPPET = Snippet(path="lib/base.py", start_line=1, text="def fetch_all(table): ...", score=1.0, source="usage")


def allowed(name: str = "acme/shop") -> Allowed:
    return Allowed(name=name, licence="MIT", languages=frozenset(["python"]), commit=None)


def documents(count: int, first: int = 0) -> tuple[Document, ...]:
    return tuple(
        document(
            f"shop/part{i}.py",
            f"def load_{i}(session):\n    rows = session.fetch_all('orders_{i}')\n"
            f"    return [row[{i}] for row in rows]\n",
        )
        for i in range(first, first + count)
    )


def share(name: str = "acme/shop", count: int = 12, held_out: int = 3) -> Share:
    return Share(
        allowed=allowed(name),
        commit="c" * 40,
        fingerprint=f"{name} {count}",
        training=documents(count),
        held_out=documents(held_out, first=100),
        num_copies=1,
    )


@contextmanager
def open_search(_allowed: Allowed, _commit: str, _shown: frozenset[str]) -> Iterator[Retrieve]:
    def retrieve(_query: SearchQuery) -> Sequence[Snippet]:
        return [SNIPPET]

    yield retrieve


def make_rows(root: Path, *, seed: int = 0, passes: float = 4.0) -> Shards:
    made = share()
    samples = prepare.publish(
        made, root / "samples", tokenizer=TOKENIZER, open_search=open_search, seed=seed, passes=passes, num_snippets=1
    )
    shards.publish(
        root / "rows",
        [samples],
        facts={"repositories": {made.allowed.name: made.facts()}, "refused": {}, "missing": ["a/b"], "seed": seed},
        files=prepare.held_out_files([made]),
        tokenizer=TOKENIZER,
        tokenizer_json="{}",
        seed=seed,
    )
    return Shards.open(root / "rows")

"""How long a completion takes while somebody types in real files, and against `transformers.generate` in the same run.

    python benchmarks/latency.py REPO [--files 6] [--places 3] [--keystrokes 8]

Files of REPO (a git repository, bare or not) are typed in, a few characters a keystroke, at random lines; every
keystroke asks for a completion. The files are left out of the index, or the datastore would know what comes next. The
arms see the same prompts, one after the other at every keystroke, so that a busy machine slows all of them down alike;
only `served`, the whole way through the server's services with retrieval and post-processing, is a pass of its own,
because its cache must be its own.
`x faster` is the median over keystrokes of the peer's time divided by the arm's; `same` the share of equal completions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the server does

import torch
from transformers import AutoModelForCausalLM

from homespun_core.config import Settings
from homespun_core.fim import FimFormat, resolve_family
from homespun_core.languages import language_of_path
from homespun_core.paths import DataDir
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import CompletionRequest, ModelFiles, SearchQuery, SilentProgress, Snippet, Tokenizer
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import open_repository
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Draft, EngineRequest, Generation
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.metrics import Metrics
from homespun_server.services import Completer
from homespun_server.snapshots import LiveRepository

_CHARS = (2_000, 60_000)
PEER = "transformers.generate"


@dataclass(frozen=True, slots=True)
class Keystroke:
    number: int
    path: str
    prefix: str
    suffix: str
    is_first: bool
    """Of its place: nothing near it was asked for before."""


@dataclass(slots=True)
class Arm:
    """Measurements of one way to complete."""

    ms: dict[int, float] = field(default_factory=dict)
    """By the number of the keystroke."""
    texts: dict[int, list[int]] = field(default_factory=dict)
    num_tokens: int = 0
    num_steps: int = 0
    drafted: int = 0
    accepted: int = 0
    cached: int = 0
    prompt: int = 0

    def add(self, number: int, ms: float, generation: Generation) -> None:
        stats = generation.stats
        self.ms[number] = ms
        self.texts[number] = [token.id for token in generation.tokens]
        self.num_tokens += stats.completion_tokens
        self.num_steps += stats.num_steps
        self.drafted += stats.drafted_tokens
        self.accepted += stats.accepted_tokens
        self.cached += stats.cached_tokens
        self.prompt += stats.prompt_tokens

    def row(self, peer: Arm) -> dict[str, Any]:
        ordered = sorted(self.ms.values())
        same = [self.texts[n] == peer.texts[n] for n in self.texts]
        return {
            "p50_ms": round(statistics.median(ordered), 1),
            "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
            "tokens_per_step": round(self.num_tokens / self.num_steps, 2) if self.num_steps else None,
            "accept_rate": round(self.accepted / self.drafted, 2) if self.drafted else None,
            "cached_share": round(self.cached / self.prompt, 3) if self.prompt else None,
            "x faster": round(statistics.median(peer.ms[n] / ms for n, ms in self.ms.items()), 2),
            "same": round(sum(same) / len(same), 3) if same else None,
        }


def typed(texts: dict[str, str], places: int, keystrokes: int, seed: int) -> list[Keystroke]:
    """At each place the rest of a line is deleted and typed again, one to four characters at a time."""
    chooser, keys = random.Random(seed), list[Keystroke]()
    for path, text in texts.items():
        lines = text.splitlines(keepends=True)
        for _ in range(places):
            number = chooser.randrange(len(lines) // 4, len(lines))
            start = sum(map(len, lines[:number])) + len(lines[number]) - len(lines[number].lstrip())
            end = start + len(lines[number].strip())
            cursor = start
            for stroke in range(keystrokes):
                keys.append(Keystroke(len(keys), path, text[:cursor], text[end:], stroke == 0))
                cursor = min(end, cursor + chooser.randint(1, 4))
    return keys


def source_files(git_dir: Path, count: int, seed: int) -> dict[str, str]:
    """Random source files of HEAD, by path."""
    paths = _git(git_dir, "ls-tree", "-r", "--name-only", "-z", "HEAD").decode().split("\0")
    paths = [p for p in paths if p and language_of_path(p) is not None]
    random.Random(seed).shuffle(paths)
    texts: dict[str, str] = {}
    for path in paths:
        text = _git(git_dir, "show", f"HEAD:{path}").decode(errors="replace")
        if _CHARS[0] <= len(text) <= _CHARS[1]:
            texts[path] = text
        if len(texts) == count:
            break
    return texts


def _git(git_dir: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(git_dir), *words], check=True, capture_output=True).stdout


class Bench:
    """The engine, an index without the typed files, and the peer, asked the same things."""

    def __init__(self, repo: Path, model: ModelFiles, exclude: frozenset[str], data: Path, new_tokens: int) -> None:
        self.settings = Settings(data_dir=str(data), max_new_tokens=new_tokens, retrieve_deadline_ms=2_000)
        self.tokenizer: Tokenizer = load_tokenizer(model)
        self.format: FimFormat = resolve_family(self.tokenizer, model.config, name=model.name, forced=model.family)
        self.reader = self._index(repo, model, exclude)
        self.engine = TorchEngine(Path(model.path))
        self.peer: Any = AutoModelForCausalLM.from_pretrained(
            model.path, dtype=getattr(torch, self.engine.dtype)
        ).eval()
        limits = PromptLimits(max_tokens=self.settings.max_prompt_tokens)
        self.builder = PromptBuilder(tokenizer=self.tokenizer, format=self.format, limits=limits)
        self.completer = self._completer(repo)
        self.arms = {
            name: Arm()
            for name in (PEER, "cold", "warm", "warm, drafts nearby", "warm, drafts nearby + datastore", "served")
        }
        self._snippets: tuple[Snippet, ...] = ()

    def _index(self, repo: Path, model: ModelFiles, exclude: frozenset[str]) -> IndexReader:
        data, quiet = DataDir(self.settings.data_root), SilentProgress()
        opened = open_repository(str(repo), data, timeout_s=600, progress=quiet)
        path = index_repository(
            opened,
            settings=self.settings,
            data=data,
            model=model,
            tokenizer=self.tokenizer,
            progress=quiet,
            commit=opened.head,
            exclude=exclude,
        )
        return IndexReader.open(path, self.tokenizer)

    def _completer(self, repo: Path) -> Completer:
        @dataclass
        class Live:
            repositories: tuple[LiveRepository, ...]

        return Completer(
            engine=self.engine,
            tokenizer=self.tokenizer,
            format=self.format,
            repositories=Live((LiveRepository(id="typed", identity=str(repo), name=repo.stem, reader=self.reader),)),
            settings=self.settings,
            metrics=Metrics(),
        )

    def ask(self, key: Keystroke) -> None:
        """One keystroke, in every arm but `served`."""
        ids = self._prompt(key)
        self._peer(key, ids)
        self._forget()
        self._timed("cold", key, ids, None)
        for name, draft in (
            ("warm", None),
            ("warm, drafts nearby", drafter(None)),
            ("warm, drafts nearby + datastore", drafter(self.reader.draft)),
        ):
            self._warm(name, key, ids, draft)

    async def serve(self, key: Keystroke) -> None:
        request = CompletionRequest(
            prefix=key.prefix, suffix=key.suffix, path=key.path, max_new_tokens=self.settings.max_new_tokens
        )
        started = time.perf_counter()
        completion = await self.completer.complete(request, "bench")
        served = self.arms["served"]
        served.ms[key.number] = (time.perf_counter() - started) * 1e3
        served.cached += completion.cached_tokens
        served.prompt += completion.prompt_tokens

    def _prompt(self, key: Keystroke) -> list[int]:
        """Snippets are looked up once a place, as the server does."""
        if key.is_first:
            language = language_of_path(key.path)
            query = SearchQuery(
                prefix=key.prefix, suffix=key.suffix, path=key.path, language=language.name if language else None
            )
            self._snippets = tuple(self.reader.search(query, self.settings.snippet_count))
        prompt = self.builder.build(
            prefix=key.prefix, suffix=key.suffix, path=key.path, repo="repository", snippets=self._snippets
        )
        return list(prompt.ids)

    def _peer(self, key: Keystroke, ids: list[int]) -> None:
        inputs, ends = torch.tensor([ids]), list(self.format.end_ids)
        options = {"max_new_tokens": self.settings.max_new_tokens, "do_sample": False, "pad_token_id": ends[0]}
        started = time.perf_counter()
        with torch.inference_mode():
            out = self.peer.generate(inputs, attention_mask=torch.ones_like(inputs), eos_token_id=ends, **options)
        peer = self.arms[PEER]
        peer.ms[key.number] = (time.perf_counter() - started) * 1e3
        peer.texts[key.number] = [i for i in out[0, len(ids) :].tolist() if i not in ends]

    def _warm(self, name: str, key: Keystroke, ids: Sequence[int], draft: Draft | None) -> None:
        """What the keystroke before left in the cache: the same prompt without its last token or two."""
        self._forget()
        if not key.is_first:
            self.engine.generate(EngineRequest(ids=ids[:-2], max_new_tokens=1))
            self._timed(name, key, ids, draft)

    def _timed(self, name: str, key: Keystroke, ids: Sequence[int], draft: Draft | None) -> None:
        ends = frozenset(self.format.end_ids)
        request = EngineRequest(ids=ids, max_new_tokens=self.settings.max_new_tokens, end_ids=ends, draft=draft)
        started = time.perf_counter()
        generation = self.engine.generate(request)
        self.arms[name].add(key.number, (time.perf_counter() - started) * 1e3, generation)

    def _forget(self) -> None:
        """One short request for every slot of the KV cache."""
        for token in range(10, 14):
            self.engine.generate(EngineRequest(ids=[token], max_new_tokens=1))


def table(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = list(next(iter(rows.values())))
    width = max(map(len, rows))
    yield f"{'':{width}}  " + "  ".join(f"{c:>16}" for c in columns)
    for name, row in rows.items():
        yield f"{name:{width}}  " + "  ".join(f"{'-' if row[c] is None else row[c]:>16}" for c in columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path, help="git repository whose files are typed in")
    parser.add_argument("--base-model", default="builtin")
    for name, default in (
        ("files", 6),
        ("places", 3),
        ("keystrokes", 8),
        ("new-tokens", 32),
        ("seed", 0),
        ("threads", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = resolve_base_model(args.base_model, "auto")
    texts = source_files(args.repo, args.files, args.seed)
    keys = typed(texts, args.places, args.keystrokes, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.repo, model, frozenset(texts), Path(folder), args.new_tokens)
        asyncio.run(_run(bench, keys))
    rows = {name: arm.row(bench.arms[PEER]) for name, arm in bench.arms.items()}
    print(f"{len(keys)} keystrokes in {len(texts)} files, {bench.engine.dtype}, {torch.get_num_threads()} threads")
    print("\n".join(table(rows)))
    print(json.dumps({"keystrokes": len(keys), "dtype": bench.engine.dtype, "arms": rows}))
    bench.engine.close()


async def _run(bench: Bench, keys: Sequence[Keystroke]) -> None:
    for key in keys:
        print(f"\r{key.number + 1} of {len(keys)} keystrokes", end="", file=sys.stderr)
        bench.ask(key)
    for key in keys:
        await bench.serve(key)
    print(file=sys.stderr)


if __name__ == "__main__":
    main()

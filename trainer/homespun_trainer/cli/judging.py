"""The server's engine as the trainer's judge sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from homespun_core.config import Settings
from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, ModelFiles, Tokenizer
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Chances, Engine, EngineRequest, Expectation, Ids, Mix, Mixer, Tree
from homespun_server.engine.spelling import Vocabulary
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.mixing import Around, mixer
from homespun_trainer.evaluate import Generate, LookupBesides, Mixing, ScoreIds, Written


class Judging:
    """The server's engine as the trainer's judge sees it."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine, self._tokenizer, self._vocabulary = engine, tokenizer, Vocabulary(tokenizer.spelled)
        self._all_ids = frozenset(range(len(tokenizer.spelled)))

    def load_adapter(self, version: str, path: Path) -> None:
        self._engine.load_adapter(version, path)

    def mixing(self, lookup: LookupBesides, end_ids: frozenset[int]) -> Mixing:
        ends = np.array(sorted(end_ids), dtype=np.int64)

        def at(task: EvalTask, opening: str) -> tuple[Generate, ScoreIds]:
            around = Around.cursor(self._tokenizer, task.prefix, task.suffix, opening)
            mix = mixer(around, lookup(task), ends)
            return partial(self.generate, mix=mix), partial(self.score, mix=lambda: Unbound(mix()))

        return at

    def generate(
        self,
        prompt: Prompt,
        max_new_tokens: int,
        end_ids: frozenset[int],
        adapter: str | None,
        mix: Mix | None = None,
    ) -> Written:
        opening = prompt.opening.encode()
        made = self._engine.generate(
            EngineRequest(
                ids=prompt.ids,
                max_new_tokens=max_new_tokens,
                adapter=adapter,
                end_ids=end_ids,
                constraint=self._vocabulary.beginning(opening) if opening else None,
                draft=drafter(None),
                mix=mix,
            )
        )
        return Written(ids=[t.id for t in made.tokens], is_truncated=made.stats.finish_reason != "stop")

    def score(self, ids: Sequence[int], start: int, adapter: str | None, mix: Mix | None = None) -> Sequence[float]:
        """As a completion that has no choice: what was computed of the prompt, to complete it, is used again, which
        `Engine.score` does not; six times faster (benchmarks/LOG.md)."""
        wanted = ids[start:]
        made = self._engine.generate(
            EngineRequest(
                ids=ids[:start],
                max_new_tokens=2,  # with one, nothing is drafted; the first that is free ends it
                adapter=adapter,
                end_ids=self._all_ids,
                constraint=lambda: Dictated(wanted),
                draft=lambda _: Dictated(wanted),
                mix=mix,
            )
        )
        if len(made.tokens) < len(wanted):  # the context ended
            return self._engine.score(ids, start, adapter)
        return [token.logprob for token in made.tokens[: len(wanted)]]


class Unbound:
    """Hears voices about a text that is `Dictated` as if any other could follow."""

    def __init__(self, mixer: Mixer) -> None:
        self._mixer, self.ends = mixer, mixer.ends

    def expects(self, chances: Chances, allowed: Ids | None) -> Expectation | None:
        return self._mixer.expects(chances, None)

    def extend(self, token: int) -> None:
        self._mixer.extend(token)


class Dictated:
    """Tokens that are given: as a constraint nothing else may come, as a drafter all of them are proposed at once."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids, self._at = ids, 0

    def allowed(self) -> Ids | None:
        return np.array([self._ids[self._at]], dtype=np.int64) if self._at < len(self._ids) else None

    def advance(self, token: int) -> None:
        self._at += 1

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        ids = tuple(self._ids[self._at : self._at + max_nodes])
        return Tree(ids, tuple(range(-1, len(ids) - 1)))

    def extend(self, ids: Sequence[int]) -> None:
        self._at += len(ids)


@contextmanager
def opened_engine(files: ModelFiles, settings: Settings) -> Iterator[Judging]:
    """The engine that will serve the adapter, so that it is judged as people will meet it."""
    engine = TorchEngine(
        Path(files.path), dtype=settings.dtype, device=settings.device, num_threads=settings.num_threads
    )
    try:
        yield Judging(engine, load_tokenizer(files))
    finally:
        engine.close()
